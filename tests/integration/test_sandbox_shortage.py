"""What the machine refuses for a while costs one step a retry; the daemon, and every state, goes on."""

import asyncio
import os
import resource
import socket
import struct
import sys
from pathlib import Path

import pytest

from score_distill.sandbox.client import Branch, Sandbox, SandboxError, SandboxLost
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start


def daemon_of(sandbox: Sandbox) -> int:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(sandbox.socket_path)
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def children_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def bound(pid: int, kind: int, soft: int | None = None) -> None:
    """Give a process a soft limit, or take it away again; as its own user, who alone may."""
    helper = os.fork()
    if helper == 0:
        try:
            user = int(Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()[0])
            if user != os.getuid():
                os.setresgid(user, user, user)
                os.setresuid(user, user, user)
            _, hard = resource.prlimit(pid, kind)
            resource.prlimit(pid, kind, (hard if soft is None else soft, hard))
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(helper, 0)[1]) == 0


async def tried(branch: Branch) -> str:
    """What a step came to that the machine refuses: words that say retry, and not the end of the daemon."""
    with pytest.raises(SandboxError, match="retry") as refused:
        await branch.run("print(1)")
    assert not isinstance(refused.value, SandboxLost)
    return str(refused.value)


async def test_a_refused_fork_costs_one_step_a_retry() -> None:
    async with start(Limits(), libraries=()) as sandbox:
        (zygote,) = children_of(daemon_of(sandbox))
        root = await sandbox.open()
        held = await root.run("x = 1; import os; print(os.getpid())")
        state, holder = held.branch, int(held.output)
        for pid in (zygote, holder):
            bound(pid, resource.RLIMIT_NPROC, 1)
        while children_of(daemon_of(sandbox)) != {zygote, holder}:  # until no spares are left; none can come
            await asyncio.sleep(0.01)
        for pid, branch in ((zygote, root), (holder, state)):
            assert "no other process" in await tried(branch)
            bound(pid, resource.RLIMIT_NPROC)
            assert (await branch.run("print(1)")).output == "1"
        assert (await state.run("print(x)")).output == "1"


async def test_a_state_that_only_says_that_its_fork_was_refused_is_spoiled() -> None:
    code = """
import sys
session = sys.modules['score_distill.sandbox.session']
class Libc:
    prctl, setitimer = session._LIBC.prctl, session._LIBC.setitimer
    def syscall(self, *args): return -1
session._LIBC = Libc()
session.ctypes.get_errno = lambda: 11
"""
    async with start(Limits(), libraries=()) as sandbox:
        state = (await (await sandbox.open()).run(code)).branch
        assert (await state.run("print(1)")).error == "ProcessDiedError"


async def test_no_descriptor_left_costs_steps_a_retry_and_neither_daemon_nor_states() -> None:
    async with start(Limits(), libraries=()) as sandbox:
        daemon = daemon_of(sandbox)
        root = await sandbox.open()
        state = (await root.run("x = 1; open('a', 'w').write('kept')")).branch
        for _ in range(2):
            bound(daemon, resource.RLIMIT_NOFILE, 4)
            for branch in (root, state):
                await tried(branch)
            bound(daemon, resource.RLIMIT_NOFILE)
            assert (await root.run("print(1)")).output == "1"
            assert (await state.run("print(x, open('a').read())")).output == "1 kept"


async def test_no_descriptor_is_needed_for_a_file_that_a_step_has_written() -> None:
    code = "for n in range(250): open(str(n), 'w').write('x')\nimport time; time.sleep(0.3)"
    async with start(Limits(running=8), libraries=()) as sandbox:
        bound(daemon_of(sandbox), resource.RLIMIT_NOFILE, 150)
        async with asyncio.TaskGroup() as group:
            steps = [group.create_task((await sandbox.open()).run(code)) for _ in range(6)]
        assert [step.result().output for step in steps] == ["None"] * 6


async def test_more_states_than_there_are_descriptors_for_are_busy() -> None:
    code = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (170, 170))\n{STARTER}"
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    told, _ = await starter.communicate()
    assert told.decode() == "the sandbox holds as many states as it may; close some or retry later\n1\n"


STARTER = """
import asyncio
from score_distill.sandbox.client import SandboxBusy
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start
async def main():
    async with start(Limits(running=1), libraries=()) as sandbox:
        root = await sandbox.open()
        states = []
        try:
            for _ in range(60):
                states.append((await root.run("x = 1")).branch)
        except SandboxBusy as busy:
            print(busy)
            await states[0].close()
            print((await root.run("print(1)")).output)
asyncio.run(main())
"""


async def test_a_machine_without_room_for_a_thread_runs_steps() -> None:
    code = "open('a', 'w').write('1'); x = bytearray(b'x') * (90 << 20)"
    limits = Limits(session_memory_bytes=200 << 20)
    async with start(limits, libraries=()) as sandbox:
        daemon = daemon_of(sandbox)
        state = (await (await sandbox.open()).run(code)).branch
        threads = len(os.listdir(f"/proc/{daemon}/task"))
        for _ in range(6):
            assert (await state.run("print(open('a').read())")).output == "1"
        assert len(os.listdir(f"/proc/{daemon}/task")) == threads
