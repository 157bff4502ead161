"""What one session does to its own process, channel or folder is its own outcome, and costs no other session."""

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from score_distill.sandbox.client import Sandbox, SandboxError, SandboxLost, StepResult, ToolCall
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start
from score_distill.sandbox.process import cpu_seconds

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = Limits(wall_seconds=20, cpu_seconds=2, running=8)
MIB = 1 << 20


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with start(LIMITS, libraries=()) as sandbox:
        yield sandbox


def daemon_of(sandbox: Sandbox) -> int:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(sandbox.socket_path)
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def children_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_alarm_left_over_does_not_reach_the_next_step(sandbox: Sandbox) -> None:
    code = "import signal, time\nsignal.alarm(1)\nsignal.setitimer(signal.ITIMER_PROF, 0.2)\nx = 1"
    branch = (await (await sandbox.open()).run(code)).branch
    for _ in range(2):
        result = await branch.run("time.sleep(1.2); print(x, signal.alarm(0))")
        assert result.output == "1 0"


SUICIDES = {
    "an end when it is let go": """
import ctypes, signal
libc = ctypes.CDLL(None)
signal.signal(signal.SIGCONT, lambda *_: libc._exit(7))
""",
    "a loop when it is let go": """
import signal
def handler(*_):
    while True: pass
signal.signal(signal.SIGCONT, handler)
""",
}


@pytest.mark.parametrize("code", SUICIDES.values(), ids=SUICIDES)
async def test_a_state_that_does_not_fork_is_the_outcome_of_its_own_task(sandbox: Sandbox, code: str) -> None:
    branch = (await (await sandbox.open()).run(code)).branch
    for _ in range(2):
        result = await branch.run("print('ran')")
        assert result.error == "ProcessDiedError", result.output
        assert "after its step" in result.output
        assert result.branch is branch
    assert (await (await sandbox.open()).run("print('alive')")).output == "alive"


async def test_a_state_that_speaks_unasked_is_ended(sandbox: Sandbox) -> None:
    code = "import os, signal\nsignal.signal(signal.SIGCONT, lambda *_: os.write(3, b'\\0\\0\\0\\2{}'))"
    branch = (await (await sandbox.open()).run(code)).branch
    errors = [(await branch.run("pass")).error for _ in range(3)]
    assert errors[1:] == ["ProcessDiedError"] * 2


async def test_a_state_that_the_machine_ended_is_an_error_that_says_retry(sandbox: Sandbox) -> None:
    held = await (await sandbox.open()).run("import os; print(os.getpid())")
    branch = held.branch
    os.kill(int(held.output), signal.SIGKILL)
    with pytest.raises(SandboxError, match="retry"):
        await branch.run("print(x)")
    with pytest.raises(SandboxError, match="retry"):
        await branch.run("print(x)")


FLOODS = {
    "small words": "b'\\0\\0\\0\\2{}' * 10_000",
    "words that never end": "b'\\0\\x3f\\xff\\xff' + b'[' * 60_000",
    "calls of a tool": "frame({'call': 'look', 'args': ['x' * 1_000_000], 'kwargs': {}})",
}
FRAME = """
import json, os, struct, sys
def frame(message):
    body = json.dumps(message).encode()
    return struct.pack('>I', len(body)) + body
"""


@pytest.mark.parametrize("words", FLOODS.values(), ids=FLOODS)
async def test_a_flood_before_a_childs_first_word_is_not_kept(sandbox: Sandbox, words: str) -> None:
    """The clone of a hostile state holds its parent's channel until it has said whose it is."""
    code = f"""{FRAME}
session = sys.modules['score_distill.sandbox.session']
class Libc:
    syscall, setitimer = session._LIBC.syscall, session._LIBC.setitimer
    def prctl(self, *args):
        while True: os.write(3, {words})
session._LIBC = Libc()
"""
    hostile = await (await sandbox.open()).run(code)
    assert hostile.error is None, hostile.output
    result, growth = await grown(sandbox, hostile.branch.run("pass"))
    assert result.error == "ProcessDiedError"
    assert growth < 40 * MIB


@pytest.mark.parametrize("words", FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_a_running_step_is_not_kept(sandbox: Sandbox, words: str) -> None:
    async def look(args: list[object], kwargs: dict[str, object]) -> str:
        await asyncio.sleep(0.02)
        return "seen"

    code = (
        f"{FRAME}\nos.write(3, frame({{'call': 'look', 'args': [], 'kwargs': {{}}}}))\nwhile True: os.write(3, {words})"
    )
    _, growth = await grown(sandbox, (await sandbox.open(tools={"look": look})).run(code))
    assert growth < 40 * MIB


async def grown(sandbox: Sandbox, step: Coroutine[Any, Any, StepResult]) -> tuple[StepResult, int]:
    """What comes of a step, and by how many bytes the daemon was larger at most meanwhile."""
    daemon = daemon_of(sandbox)
    before = most = resident(daemon)
    under_way = asyncio.ensure_future(step)
    while not under_way.done():
        await asyncio.wait([under_way], timeout=0.01)
        most = max(most, resident(daemon))
    return under_way.result(), most - before


async def test_a_daemon_whose_zygote_is_killed_ends_and_says_retry() -> None:
    async with start(LIMITS, libraries=()) as sandbox, asyncio.timeout(120):
        (zygote,) = children_of(daemon_of(sandbox))
        branch = await sandbox.open()
        os.kill(zygote, signal.SIGKILL)
        lost = None
        while not isinstance(lost, SandboxLost):
            with pytest.raises(SandboxError, match="retry") as caught:
                await branch.run("print(1)")
            lost = caught.value


def quick(answer: object = "seen") -> dict[str, ToolCall]:
    async def look(args: list[object], kwargs: dict[str, object]) -> object:
        return answer

    return {"look": look}


async def test_a_state_that_has_not_read_its_replies_is_none(sandbox: Sandbox) -> None:
    """Else the word to fork would wait behind them."""
    code = f"{FRAME}\nfor _ in range(50): os.write(3, frame({{'call': 'look', 'args': [], 'kwargs': {{}}}}))"
    branch = await sandbox.open(tools=quick("x" * 3000))
    result = await branch.run(code)
    assert result.error == "ProcessDiedError", result.output
    assert result.branch is branch


async def test_many_sessions_whose_forks_are_wedged_do_not_keep_the_others_of_their_client(sandbox: Sandbox) -> None:
    root = await sandbox.open()
    wedged = [(await root.run(SUICIDES["a loop when it is let go"])).branch for _ in range(8)]
    under_way = [asyncio.ensure_future(branch.run("pass")) for branch in wedged]
    async with asyncio.timeout(120):
        assert (await root.run("print('alive')")).output == "alive"
        assert not all(step.done() for step in under_way)
        assert {(await step).error for step in under_way} == {"ProcessDiedError"}


REPORT_BYTES = 1 << 14
HOSTILE_REPORTS = {
    "a long answer": "framed(b'{\"answer\": \"' + b'x' * (4 << 20) + b'\"}')",
    "a tree": "framed(b'{\"a\": [' + b'[],' * (1 << 20) + b'[]]}')",
    "a call of a tool": 'framed(b\'{"call": "look", "kwargs": {}, "args": [\' + b\'[],\' * (1 << 20) + b\'[]]}\')',
    "many short words": "framed(b'{}') * 500_000",
}


@pytest.mark.parametrize("report", HOSTILE_REPORTS.values(), ids=HOSTILE_REPORTS)
async def test_no_report_costs_the_daemon_more_than_a_step_is_worth(sandbox: Sandbox, report: str) -> None:
    code = f"{FRAME}\nframed = lambda body: struct.pack('>I', len(body)) + body\nbody = memoryview({report})\n"
    code += "while body: body = body[os.write(3, body):]"
    root = await sandbox.open(tools=quick("seen"))
    before = cpu_seconds(daemon_of(sandbox))
    for _ in range(4):
        assert (await root.run(code)).error == "ProcessDiedError"
    assert cpu_seconds(daemon_of(sandbox)) - before < 0.5


async def test_answers_and_arguments_have_room_and_no_more(sandbox: Sandbox) -> None:
    branch = await sandbox.open(tools=quick("seen"))
    assert (await branch.run(f"print(look('x' * {REPORT_BYTES - 100}))")).output == "seen"
    long = await branch.run(f"look('x' * {REPORT_BYTES})")
    assert long.error == "ValueError" and "at most 16384 are allowed" in long.output
    assert (await branch.run(f"final_answer_print('x' * {REPORT_BYTES - 100})")).answer == "x" * (REPORT_BYTES - 100)
    long = await branch.run(f"final_answer_print('x' * {REPORT_BYTES})")
    assert (long.error, long.answer) == ("ValueError", None) and "at most 16384 are allowed" in long.output
    for text in ("😀", "\\0", "\\ud800"):
        long = await branch.run(f"raise ValueError('{text}' * 100_000)")
        assert long.error == "ValueError" and "characters cut" in long.output


@pytest.mark.parametrize("size", [MIB + 1, 30 * MIB])
async def test_too_much_code_is_the_outcome_of_its_own_step(sandbox: Sandbox, size: int) -> None:
    branch = await sandbox.open()
    assert (await branch.run("x = 1" + " " * (MIB - 5))).error is None
    result = await branch.run("x = 1" + " " * (size - 5))
    assert (result.error, result.branch) == ("CodeLimitError", branch)
    assert (await branch.run("print('alive')")).output == "alive"


@pytest.mark.parametrize("size", [5 * MIB, 30 * MIB])
async def test_too_long_a_reply_is_refused_to_its_own_step(sandbox: Sandbox, size: int) -> None:
    branch = await sandbox.open(tools=quick("x" * size))
    result = await branch.run("look()")
    assert result.error == "ToolError" and "at most" in result.output
    assert (await branch.run("print('alive')")).output == "alive"


SHARED = {
    "a lock": """
import fcntl, os
with open(os.__file__) as file:
    fcntl.flock(file, fcntl.LOCK_SH)
print("locked")
""",
    "a record lock": """
import fcntl, os
with open(os.__file__) as file:
    fcntl.lockf(file, fcntl.LOCK_SH)
print("locked")
""",
    "a futex": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
with open(os.__file__) as file:
    page = libc.mmap(None, ctypes.c_size_t(4096), 1, 2, file.fileno(), ctypes.c_long(0))
wake, futex = 1, {"x86_64": 202, "aarch64": 98}[os.uname().machine]
if libc.syscall(futex, ctypes.c_void_p(page), wake, 1, None, None, 0) < 0:
    raise OSError(ctypes.get_errno(), "futex")
print("woken")
""",
}


@pytest.mark.parametrize("code", SHARED.values(), ids=SHARED)
async def test_sessions_cannot_wait_for_each_other_at_a_file_that_both_read(sandbox: Sandbox, code: str) -> None:
    result = await (await sandbox.open()).run(code)
    assert result.error == "PermissionError", result.output
