"""Children that are forked before a step asks for them: the same as any other, and gone with the state they came of."""

import asyncio
import os
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from socket import SO_PEERCRED, SOL_SOCKET

import pytest

from score_distill.sandbox.client import Branch, Sandbox
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start

STEPS = (
    "import os, random, time; x = {random.random(): object()}",
    "print(x.keys(), random.random(), time.process_time() < 0.5, os.listdir('.'))",
    "open('notes', 'w').write(str(random.getrandbits(64)))",
    "print(open('notes').read(), repr(x)); x[1] = random.random()",
)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with start(Limits(), libraries=()) as sandbox:
        yield sandbox


def children_of(sandbox: Sandbox) -> set[int]:
    credentials = sandbox._transport.get_extra_info("socket").getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    daemon, _, _ = struct.unpack("3i", credentials)
    return {int(pid) for pid in Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()}


def has_ended(pid: int) -> bool:
    """Nobody has collected it yet."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


async def until_there_are(count: int, sandbox: Sandbox) -> set[int]:
    async with asyncio.timeout(60):
        while len(found := children_of(sandbox)) != count:
            await asyncio.sleep(0.01)
    return found


async def line(branch: Branch, sandbox: Sandbox, *, pausing: bool) -> list[tuple[str, str | None]]:
    told = []
    for code in STEPS:
        result = await branch.run(code)
        told.append((result.output, result.state_hash))
        await branch.close()
        branch = result.branch
        if pausing:  # the zygote, the state, and the spares of both
            await until_there_are(5, sandbox)
    await branch.close()
    return told


async def test_a_step_in_a_spare_is_the_step_in_a_fork(sandbox: Sandbox) -> None:
    at_once = await line(await sandbox.open(seed=7), sandbox, pausing=False)
    after_pauses = await line(await sandbox.open(seed=7), sandbox, pausing=True)
    assert after_pauses == at_once
    assert len({state for _, state in at_once}) == len(STEPS)


async def test_a_state_whose_spare_was_ended_goes_on(sandbox: Sandbox) -> None:
    first = await (await sandbox.open()).run("import os; print(os.getpid())")
    (zygote, *_) = sorted(children_of(sandbox))
    await until_there_are(5, sandbox)
    spares = children_of(sandbox) - {zygote, int(first.output)}
    for pid in spares:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while not all(has_ended(pid) for pid in spares):
            await asyncio.sleep(0.01)
    assert (await first.branch.run("print(1)")).output == "1"


async def test_branches_and_answers_have_no_spare(sandbox: Sandbox) -> None:
    root = (await (await sandbox.open()).run("x = 1")).branch
    await until_there_are(5, sandbox)
    branches = await asyncio.gather(*(root.run("x += 1") for _ in range(3)))
    answers = [await branch.branch.run("final_answer_print(x)") for branch in branches[:1]]
    last = await (await sandbox.open()).run("print(x)")
    await until_there_are(1 + 1 + len(branches) + len(answers) + 1 + 1 + 2, sandbox)  # the last one's, the zygote's
    assert last.error == "NameError"


async def test_spares_go_with_the_last_session(sandbox: Sandbox) -> None:
    state = (await (await sandbox.open()).run("x = 1")).branch
    await until_there_are(5, sandbox)
    await state.close()
    await until_there_are(1, sandbox)
