"""Nothing outlives the run: real process trees, ended politely, by Ctrl-C's way, and by kill -9 of any of them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from score_distill.executors.local import processes

# A tree as vLLM or torchrun makes it: a child, a grandchild in a session of its own, and an orphan.
TREE = """
import os, subprocess, sys, time
from pathlib import Path
sleeper = "import os, sys, time; open(sys.argv[1] + '/' + str(os.getpid()), 'w'); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", sleeper, sys.argv[1]], start_new_session=True)
starter = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]], start_new_session=True)"
subprocess.run([sys.executable, "-c", starter, sleeper, sys.argv[1]])
(Path(sys.argv[1]) / str(os.getpid())).touch()
time.sleep(600)
"""

RUNNER = """
import asyncio, os, sys
from pathlib import Path
from score_distill.executors.local import processes
async def main():
    folder = Path(sys.argv[1])
    command = [sys.executable, "-c", sys.argv[2], str(folder / "pids")]
    process = await processes.start("tree", command, os.environ, folder / "logs" / "log")
    await process.wait()
asyncio.run(main())
"""


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "pids").mkdir()
    yield tmp_path
    processes.sweep(tmp_path / "logs")


def pids(folder: Path) -> list[int]:
    return [int(path.name) for path in (folder / "pids").iterdir()]


async def start(folder: Path, code: str, *arguments: str, grace: float = 5) -> processes.Process:
    command = [sys.executable, "-c", code, *arguments]
    return await processes.start("child", command, os.environ, folder / "logs" / "child.log", grace)


async def start_tree(folder: Path) -> processes.Process:
    tree = await start(folder, TREE, str(folder / "pids"))
    await asyncio.to_thread(until, lambda: len(pids(folder)) == 3)
    return tree


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("pass", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 11)", 139)],
)
async def test_the_exit_code_is_the_childs(folder: Path, code: str, exit_code: int) -> None:
    assert await (await start(folder, code)).wait() == exit_code


async def test_a_command_that_is_not_there_says_so_in_the_log(folder: Path) -> None:
    log = folder / "log"
    process = await processes.start("child", ["no-such-command"], os.environ, log)
    assert await process.wait() == 127
    assert processes.last_lines(log) == ["no-such-command: No such file or directory"]


async def test_output_goes_to_the_log_and_its_end_can_be_read(folder: Path) -> None:
    child = await start(folder, "import sys; print('one'); sys.stdout.flush(); print('two', file=sys.stderr)")
    await child.wait()
    assert processes.last_lines(child.log) == ["one", "two"]
    assert processes.last_lines(child.log, 1) == ["two"]


async def test_a_stop_is_asked_for_before_it_is_forced(folder: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(600)"
    )
    child = await start(folder, code)
    await asyncio.to_thread(until, lambda: processes.last_lines(child.log) == ["up"])
    await child.stop()
    assert await child.wait() == 7


async def test_a_stop_that_is_not_heard_is_forced(folder: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    child = await start(folder, code, grace=0.1)
    await asyncio.to_thread(until, lambda: processes.last_lines(child.log) == ["up"])
    await child.stop()
    assert await child.wait() == 128 + signal.SIGKILL


async def test_a_stop_takes_the_whole_tree(folder: Path) -> None:
    tree = await start_tree(folder)
    await tree.stop()
    assert not any(map(alive, pids(folder)))


async def test_what_a_child_leaves_behind_when_it_ends_is_killed(folder: Path) -> None:
    tree = await start(folder, TREE.replace("time.sleep(600)\n", ""), str(folder / "pids"))
    assert await tree.wait() == 0
    assert not any(map(alive, pids(folder)))


async def test_letting_go_of_the_leash_kills_at_once(folder: Path) -> None:
    tree = await start_tree(folder)
    tree.close()
    await tree.wait()
    assert not any(map(alive, pids(folder)))


async def test_when_the_guard_is_killed_its_tree_dies_too(folder: Path) -> None:
    tree = await start_tree(folder)
    os.kill(tree.pid, signal.SIGKILL)
    assert await tree.wait() == 128 + signal.SIGKILL
    until(lambda: not any(map(alive, pids(folder))))


def test_when_the_runner_is_killed_its_trees_die_too(folder: Path) -> None:
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(folder), TREE])
    until(lambda: len(pids(folder)) == 3)
    runner.kill()
    runner.wait()
    until(lambda: not any(map(alive, pids(folder))))


def test_what_survived_guard_and_runner_is_found_by_its_log(folder: Path) -> None:
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(folder), TREE])
    until(lambda: len(pids(folder)) == 3)
    os.kill(runner.pid, signal.SIGSTOP)
    (guard,) = [int(pid) for pid in Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()]
    os.kill(guard, signal.SIGKILL)
    runner.kill()
    runner.wait()
    survivors = set(processes.writers(folder / "logs"))
    assert survivors and survivors <= set(pids(folder))
    processes.sweep(folder / "logs")
    until(lambda: not any(map(alive, pids(folder))))


def test_the_sweep_leaves_others_alone(folder: Path) -> None:
    (folder / "logs").mkdir()
    with (folder / "logs.log").open("w") as elsewhere:
        other = subprocess.Popen(["sleep", "600"], stdout=elsewhere)
    try:
        processes.sweep(folder / "logs")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
