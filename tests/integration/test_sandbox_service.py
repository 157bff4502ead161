"""The daemon as a service: leases, back pressure, fairness, wedged neighbours, sudden deaths, nothing left behind."""

import asyncio
import os
import signal
import socket
import struct
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from score_distill.sandbox.client import Sandbox, SandboxBusy, SandboxError, SandboxLost
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start

SLEEP = "import time; time.sleep(3000)"


def peer(sandbox):
    return sandbox._transport.get_extra_info("socket")


def daemon_of(sandbox):
    pid, _, _ = struct.unpack("3i", peer(sandbox).getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid


def path_of(sandbox):
    return Path(peer(sandbox).getpeername())


def children_of(pid):
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition):
    """Wait for what is bound to come; the test's own time limit is the end of patience."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_states_die_with_their_client_and_only_they():
    async with start(Limits(), libraries=()) as keeper:
        daemon = daemon_of(keeper)
        before = children_of(daemon)
        kept = (await (await keeper.open()).run("x = 1")).branch
        leaver = await Sandbox.connect(path_of(keeper))
        branch = await leaver.open()
        for _ in range(5):
            branch = (await branch.run("x = 2")).branch
        under_way = asyncio.ensure_future(branch.run(SLEEP))
        await until(lambda: len(children_of(daemon)) == len(before) + 1 + 6)
        await leaver.close()
        with pytest.raises(SandboxLost):
            await under_way
        await until(lambda: len(children_of(daemon)) == len(before) + 1)
        assert (await kept.run("print(x)")).output == "1"


async def test_no_client_can_name_a_state_of_another():
    async with start(Limits(), libraries=()) as one:
        other = await Sandbox.connect(path_of(one))
        branch = (await (await one.open()).run("secret = 1")).branch
        branch_of_other = await other.open()
        stolen = replace(branch, _sandbox=other)
        with pytest.raises(SandboxError, match="closed"):
            await stolen.run("print(secret)")
        await stolen.close()
        assert (await branch.run("print(secret)")).output == "1"
        assert (await branch_of_other.run("print('mine')")).output == "mine"
        await other.close()


async def test_a_closed_state_leaves_no_process_and_no_file():
    async with start(Limits(), libraries=()) as sandbox:
        daemon, kept = daemon_of(sandbox), path_of(sandbox).parent / "scratch" / "kept"
        before = children_of(daemon)
        branches = []
        branch = await sandbox.open()
        for _ in range(4):
            branch = (await branch.run("open('a', 'a').write('1')")).branch
            branches.append(branch)
        assert len(list(kept.iterdir())) == 4
        for branch in branches:
            await branch.close()
        await until(lambda: children_of(daemon) == before and not list(kept.iterdir()))


async def test_an_idle_state_is_dropped_and_the_client_is_told():
    async with start(Limits(idle_seconds=1), libraries=()) as sandbox:
        daemon = daemon_of(sandbox)
        before = children_of(daemon)
        root = await sandbox.open()
        branch = (await root.run("x = 1")).branch
        await until(lambda: children_of(daemon) == before)
        with pytest.raises(SandboxError, match="nobody ran from it"):
            await branch.run("print(x)")
        assert (await root.run("print('again')")).output == "again"


async def test_a_full_queue_is_busy_and_says_retry():
    async with start(Limits(running=1, waiting=2, wall_seconds=60), libraries=()) as sandbox:
        root = await sandbox.open()
        results = await asyncio.gather(
            *(root.run("import time; time.sleep(0.2)") for _ in range(6)), return_exceptions=True
        )
        busy = [result for result in results if isinstance(result, SandboxBusy)]
        assert len(busy) == 3 and "retry" in str(busy[0])
        assert (await root.run("print(1)")).output == "1"


async def test_too_many_states_are_busy_until_some_are_closed():
    async with start(Limits(states=4), libraries=()) as sandbox:
        root = await sandbox.open()
        branches = [(await root.run("x = 1")).branch for _ in range(3)]
        with pytest.raises(SandboxBusy, match="close some"):
            await root.run("x = 1")
        await branches[0].close()
        assert (await root.run("print(1)")).output == "1"


async def test_a_client_whose_steps_all_hang_does_not_stop_another():
    async with start(Limits(running=4, wall_seconds=3600), libraries=()) as greedy:
        root = await greedy.open()
        hanging = [asyncio.ensure_future(root.run(SLEEP)) for _ in range(50)]
        modest = await Sandbox.connect(path_of(greedy))
        branch = await modest.open()
        for _ in range(10):
            branch = (await branch.run("x = 1")).branch
        assert not any(task.done() for task in hanging)
        await modest.close()
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


BOMBS = {
    "while True: pass": "TimeoutError",
    "while True: print('x' * 1000)": "OutputLimitError",
    "x = []\nwhile True: x.append('x' * 10**6)": "MemoryError",
    "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass": "TimeoutError",
    "n = 0\nwhile True:\n  n += 1\n  try: open(str(n), 'w')\n  except OSError: pass": "ProcessDiedError",
    "import os\nwhile True: os.write(3, b'\\0\\0\\0\\1x')": "ProcessDiedError",
    SLEEP: "TimeoutError",
    "import ctypes; ctypes.string_at(0)": "ProcessDiedError",
}


async def test_honest_steps_go_on_beside_bombs():
    limits = Limits(wall_seconds=10, cpu_seconds=3, memory_bytes=64 << 20)
    async with start(limits, libraries=()) as sandbox:
        daemon = daemon_of(sandbox)
        root = await sandbox.open()
        bombs = [asyncio.ensure_future(root.run(code)) for code in [*BOMBS, *BOMBS]]
        branch = (await root.run("n = 0")).branch
        for _ in range(20):
            result = await branch.run("n += 1; print(n)")
            await branch.close()
            branch = result.branch
        assert result.output == "20"
        assert [(await bomb).error for bomb in bombs] == [*BOMBS.values(), *BOMBS.values()]
        await until(lambda: len(children_of(daemon)) == 2)


async def test_a_daemon_killed_at_any_moment_leaves_no_process():
    for delay in (0, 0.002, 0.01, 0.05):
        async with start(Limits(), libraries=()) as sandbox:
            daemon = daemon_of(sandbox)
            root = await sandbox.open()
            await asyncio.gather(*(root.run("x = 1") for _ in range(5)))
            under_way = [asyncio.ensure_future(root.run(SLEEP)) for _ in range(5)]
            await asyncio.sleep(delay)
            processes = children_of(daemon)
            os.kill(daemon, signal.SIGKILL)
            for result in await asyncio.gather(*under_way, return_exceptions=True):
                assert isinstance(result, SandboxLost) and "retry" in str(result)
            with pytest.raises(SandboxLost):
                await root.run("print(1)")
            await until(lambda processes=processes: not any(map(alive, processes)))


DEATHLESS = """
import sys
session = sys.modules["score_distill.sandbox.session"]
class Libc:
    syscall, setitimer = session._LIBC.syscall, session._LIBC.setitimer
    def prctl(self, option, signal, *more, real=session._LIBC.prctl):
        if (option, more) == (1, (0, 0, 0)): return 0
        result = real(option, signal, *more)
        real(1, 0, 0, 0, 0)
        return result
session._LIBC = Libc()
"""
ENDLESS = """
import time
while True:
    try: time.sleep(99)
    except BaseException: pass
"""


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


async def test_a_supervisor_that_is_killed_leaves_no_process():
    """Not even one of a state whose forks do all they can not to ask to die with the daemon."""
    async with start(Limits(), libraries=()) as sandbox:
        daemon = daemon_of(sandbox)
        hostile = (await (await sandbox.open()).run(DEATHLESS)).branch
        before = children_of(daemon)
        under_way = asyncio.ensure_future(hostile.run(ENDLESS))
        await until(lambda: children_of(daemon) > before)
        assert (await (await sandbox.open()).run("x = 1")).error is None
        processes = {daemon, *children_of(daemon)}
        os.kill(parent_of(daemon), signal.SIGKILL)
        with pytest.raises(SandboxLost):
            await under_way
        await until(lambda: not any(map(alive, processes)))


STARTER = """
import asyncio, os, signal
from score_distill.sandbox.local import start
async def main():
    async with start(libraries=()) as sandbox:
        await (await sandbox.open()).run("x = 1")
        if SIBLING and not (pid := os.fork()):
            os.close(1)
            signal.pause()
        print(sandbox.socket_path, pid if SIBLING else 0, flush=True)
        await asyncio.sleep(99)
asyncio.run(main())
"""


async def killed_starter(sibling):
    """The socket of a daemon whose starter is killed, its processes, and that of a fork of the starter, if any."""
    code = STARTER.replace("SIBLING", str(sibling))
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    path, fork = (await starter.stdout.readline()).decode().split()
    sandbox = await Sandbox.connect(path)
    daemon = daemon_of(sandbox)
    processes = {daemon, *children_of(daemon)}
    starter.kill()
    await starter.wait()
    return Path(path), processes, int(fork)


@pytest.mark.parametrize("sibling", [False, True], ids=["alone", "with a fork that has the same files open"])
async def test_the_daemon_ends_with_whoever_started_it(sibling):
    _, processes, fork = await killed_starter(sibling)
    try:
        await until(lambda: not any(map(alive, processes)))
    finally:
        if fork:
            os.kill(fork, signal.SIGKILL)


async def test_a_folder_that_a_killed_starter_left_is_cleared_at_the_next_start():
    path, processes, _ = await killed_starter(False)
    await until(lambda: not any(map(alive, processes)))
    assert path.parent.exists()
    async with start(Limits(), libraries=()) as one:
        assert not path.parent.exists()
        async with start(Limits(), libraries=()):
            assert (await (await one.open()).run("print(open('a', 'w').write('x'))")).output == "1"


async def test_steps_cancelled_at_any_moment_cost_neither_their_state_nor_the_daemon():
    async with start(Limits(), libraries=()) as sandbox:
        daemon = daemon_of(sandbox)
        root = await sandbox.open()
        branch = (await root.run("x = 1")).branch
        before = children_of(daemon)
        for moment in range(300):
            steps = [asyncio.ensure_future(origin.run("x += 1")) for origin in (root, branch)]
            await asyncio.wait(steps, timeout=moment / 50_000)
            for step in steps:
                step.cancel()
            for result in await asyncio.gather(*steps, return_exceptions=True):
                assert not isinstance(result, SandboxError), result
                if not isinstance(result, BaseException):
                    await result.branch.close()
        assert (await branch.run("print(x)")).output == "1"
        await until(lambda: len(children_of(daemon)) <= len(before) + 1)


async def test_a_missing_daemon_is_lost_and_says_retry():
    with tempfile.TemporaryDirectory() as folder, pytest.raises(SandboxLost, match="retry"):
        await Sandbox.connect(f"{folder}/none")


async def test_an_expensive_branch_runs_out_of_its_own_time_and_others_do_not():
    async with start(Limits(session_cpu_seconds=1), libraries=()) as sandbox:
        root = await sandbox.open()
        branch = root
        for _ in range(30):
            result = await branch.run(
                "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
            )
            branch = result.branch
            if result.error:
                break
        assert result.output == "TimeoutError: the session has used its 1 s of CPU time"
        assert (await root.run("print(1)")).output == "1"
