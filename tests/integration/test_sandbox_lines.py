"""Lines that nobody goes back on: each step runs in the process of the state before it, and is what a fork would be."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from socket import SO_PEERCRED, SOL_SOCKET
from typing import Any

import pytest

from score_distill.sandbox.client import Branch, Sandbox, SandboxBusy, SandboxError, StepResult, ToolError
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start

LIMITS = Limits(wall_seconds=1, cpu_seconds=1, states=8)
LINE = (
    "import os, random, sys; x = {'a': [random.random()]}; random.seed(5); print('begun', file=sys.stderr)",
    "x['b'] = random.random(); print(x); os.mkdir('d'); os.chdir('d'); f = open('f', 'w+'); f.write('one'); f.flush()",
    "print(os.getcwd(), os.listdir('/scratch'), f.tell()); f.write('two'); f.seek(0); print(f.read()); f.close()",
    "1 / 0",
    "def g(n): return n and g(n - 1)\ng(10 ** 6)",
    "import threading; t = threading.Thread(target=lambda: x.update(c=3)); t.start(); t.join(); print(x['c'])",
    "y = look('key', more=1); print(y)",
    "try: look('nothing')\nexcept ToolError as error: print(error)",
    "import sys; sys.stdout = None; sys.exit(4)",
    "print(open('f').read(), look(2)); os.remove('f'); os.chdir('/scratch'); os.rmdir('d')",
    "final_answer_print(x); print('never')",
    "import signal; signal.setitimer(signal.ITIMER_REAL, 0.001); print(os.listdir())",
    "def final(): final_answer_print(len(x))\nfinal()",
    "print(x, y, f.closed)",
)
UNDONE = {
    "while True: pass": "TimeoutError",
    "import time; time.sleep(30)": "TimeoutError",
    "x = bytearray(1 << 40)": "MemoryError",
    "import os; os._exit(3)": "ProcessDiedError",
    "while True: print('x' * 1000)": "OutputLimitError",
    "kept = threading.Thread(target=lambda: [0 for _ in iter(int, 1)]); kept.start()": "TimeoutError",
    "import os; opened = open(os.__file__)": "OSError",
    "import os; os.write(3, b'\\0\\0\\0\\x02{}')": "ProcessDiedError",
}


class Tool:
    """Says how often it was called; refuses ``nothing``."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, args: list[Any], kwargs: dict[str, Any]) -> Any:
        self.calls += 1
        if args == ["nothing"]:
            raise ToolError(f"call {self.calls} is refused")
        return {"call": self.calls, **kwargs}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with start(LIMITS, libraries=()) as sandbox:
        yield sandbox


def sessions_of(sandbox: Sandbox) -> int:
    credentials = sandbox._transport.get_extra_info("socket").getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    daemon, _, _ = struct.unpack("3i", credentials)
    return len(Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()) - 1


def told(result: StepResult) -> tuple[Any, ...]:
    return result.output, result.answer, result.error, result.state_hash, result.undone


async def line(branch: Branch, *, keep: bool) -> list[tuple[Any, ...]]:
    results = []
    for code in LINE:
        results.append(await branch.run(code, keep=keep))
        if keep and not results[-1].undone:
            await branch.close()
        branch = results[-1].branch
    await branch.close()
    return [told(result) for result in results]


async def test_a_line_is_the_same_as_one_of_forks(sandbox: Sandbox) -> None:
    forked, in_place = Tool(), Tool()
    expected = await line(await sandbox.open(seed=7, tools={"look": forked}), keep=True)
    assert await line(await sandbox.open(seed=7, tools={"look": in_place}), keep=False) == expected
    assert in_place.calls == forked.calls == 3
    assert not any(undone for *_, undone in expected)


async def test_a_state_is_closed_by_the_last_step_from_it(sandbox: Sandbox) -> None:
    root = await sandbox.open()
    first = (await root.run("x = 1", keep=False)).branch
    second = (await first.run("x += 1", keep=False)).branch
    for gone in (root, first):
        with pytest.raises(SandboxError, match="closed"):
            await gone.run("print(x)")
    branches = [(await second.run("x += 1; print(x)")).branch for _ in range(2)]
    assert (await second.run("print(x)", keep=False)).output == "2"
    assert [(await branch.run("print(x)", keep=False)).output for branch in branches] == ["3", "3"]


async def test_a_line_holds_one_process(sandbox: Sandbox) -> None:
    branch = await sandbox.open()
    for count in range(6):  # more than there may be states
        branch = (await branch.run(f"x = {count}", keep=False)).branch
    assert (await branch.run("print(x)", keep=False)).output == "5"
    while sessions_of(sandbox) > 1:  # spares of the zygote go with time
        await asyncio.sleep(0.01)


async def test_a_full_sandbox_begins_no_line_and_goes_on_with_those_it_has(sandbox: Sandbox) -> None:
    lines = [(await (await sandbox.open()).run("x = 1", keep=False)).branch for _ in range(LIMITS.states - 1)]
    root = await sandbox.open()
    with pytest.raises(SandboxBusy):
        await root.run("x = 1", keep=False)
    assert [(await branch.run("print(x)", keep=False)).output for branch in lines] == ["1"] * len(lines)


@pytest.mark.parametrize("code", UNDONE)
async def test_an_undone_step_leaves_the_state_before_it(sandbox: Sandbox, code: str) -> None:
    tool = Tool()
    branch = await sandbox.open(seed=3, tools={"look": tool})
    for before in (
        "import random, threading; x = [random.random()]; open('f', 'w').write('kept')",
        "x.append(look(1))",
    ):
        state = await branch.run(before, keep=False)
        branch = state.branch
    for _ in range(2):
        result = await branch.run(code, keep=False)
        assert (result.error, result.undone) == (UNDONE[code], True)
        branch = result.branch
    assert tool.calls == 1
    result = await branch.run("look(2)", keep=False)
    assert tool.calls == 2
    last = await result.branch.run("print(x[1], open('f').read())", keep=False)
    assert last.output == "{'call': 1} kept"
    assert last.state_hash == state.state_hash


async def test_what_is_undone_at_the_first_step_or_does_not_begin_leaves_the_state_as_it_is(sandbox: Sandbox) -> None:
    root = await sandbox.open(seed=1)
    assert (await root.run("import os; os._exit(1)", keep=False)).branch is root
    state = (await root.run("x = 1", keep=False)).branch
    refused = await state.run("#" * (LIMITS.code_bytes + 1), keep=False)
    assert refused.undone
    assert refused.branch is state
    assert (await state.run("print(x)", keep=False)).output == "1"


async def test_a_state_that_is_not_made_again_by_its_steps_is_lost(sandbox: Sandbox) -> None:
    slow = "import time\nif look(): time.sleep(30)"
    answers = iter([False, True])

    async def look(_args: list[Any], _kwargs: dict[str, Any]) -> bool:
        return next(answers)

    state = (await (await sandbox.open(tools={"look": look})).run(slow, keep=False)).branch
    object.__setattr__(state._origin, "replies", [True])
    with pytest.raises(SandboxError, match=r"could not be made again .TimeoutError.; start anew and retry"):
        await state.run("import os; os._exit(1)", keep=False)


async def test_steps_of_a_line_have_their_own_time() -> None:
    async with start(Limits(wall_seconds=1, cpu_seconds=1, session_cpu_seconds=2), libraries=()) as sandbox:
        branch = await sandbox.open()
        spin = "import time; end = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
        errors = []
        for _ in range(5):
            result = await branch.run(spin, keep=False)
            errors.append(result.error)
            branch = result.branch
        assert errors[:3] == [None] * 3
        assert errors[4] == "TimeoutError", "the session's time is up"


async def test_without_a_digest_there_is_none(sandbox: Sandbox) -> None:
    for keep in (True, False):
        branch = await sandbox.open()
        quiet = await branch.run("x = 1", keep=keep, digest=False)
        assert quiet.state_hash is None
        known = await (await sandbox.open()).run("x = 1")
        assert (await quiet.branch.run("pass", keep=keep)).state_hash == known.state_hash


async def test_a_step_that_is_cancelled_ends_its_line(sandbox: Sandbox) -> None:
    state = (await (await sandbox.open()).run("import time", keep=False)).branch
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(state.run("time.sleep(30)", keep=False), 0.1)
    while sessions_of(sandbox):
        await asyncio.sleep(0.01)
