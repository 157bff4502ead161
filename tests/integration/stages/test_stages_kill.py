"""kill -9 of a stage at seeded random calls, and of the sandbox: the outcomes are those of an unbroken run.

The model server kills the process that asks it, in the middle of a call: no test waits, and the points are the same in
every run of the test. What was paid twice is at most what was in flight at each kill.
"""

import asyncio
import os
import random
import signal
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.stages.conftest import INPUTS, MakePlace, Place, ledger, prepared, sandbox_daemon

from score_distill.errors import Exit

KILLS = 3
CONCURRENCY = 4
FILES = {
    "demonstrate": ("demonstrations.jsonl", "rejected.jsonl"),
    "mentor": ("mentored.jsonl",),
    "evaluate": ("scored.jsonl",),
}
IN_FLIGHT = {"demonstrate": CONCURRENCY, "mentor": CONCURRENCY, "evaluate": 2 * CONCURRENCY}


def outcomes(place: Place, step: str) -> list[tuple[str, dict[str, Any]]]:
    rows = [row for name in FILES[step] for row in place.rows(step, name)]
    return sorted(
        (f"{row.get('model')} {row['task'] if step == 'evaluate' else row['task']['id']}", row) for row in rows
    )


async def small(make_place: MakePlace) -> Place:
    place = await make_place(ledger(40), ledger(6, "eval"), scripted={"teacher_errs": 0.2}, concurrency=CONCURRENCY)
    return await prepared(place)


@pytest.mark.parametrize("step", FILES)
async def test_a_stage_that_is_killed_again_and_again_ends_with_the_outcomes_of_one_that_is_not(
    make_place: MakePlace, step: str
) -> None:
    whole = await small(make_place)
    models = whole.models
    before = models.paid
    await whole.run(step, INPUTS[step])
    calls = models.paid - before

    broken = await prepared(whole.again("broken"))
    points = random.Random(f"kill {step}")
    before = models.paid
    for attempt in range(1, KILLS + 1):
        process = await broken.process(step, INPUTS[step], attempt=attempt)
        models.before = killer(process.pid, models.calls + points.randint(1, calls // (KILLS + 1)))
        assert await process.wait() == -signal.SIGKILL
    models.before = lambda _: None
    process = await broken.process(step, INPUTS[step], attempt=KILLS + 1)
    assert await process.wait() == 0, (broken.folder / "work" / step / "log").read_text()

    found = outcomes(broken, step)
    assert len({name for name, _ in found}) == len(found)
    assert found == outcomes(whole, step)
    assert models.paid - before <= calls + KILLS * IN_FLIGHT[step]
    assert broken.result(step).manifest.attempt == KILLS + 1
    told, unbroken = (sum(row["calls"] for row in place.usage(step)) for place in (broken, whole))
    assert unbroken == calls
    assert told <= models.paid - before


async def test_a_stage_whose_sandbox_is_killed_says_so_and_goes_on_with_another(make_place: MakePlace) -> None:
    whole = await small(make_place)
    models = whole.models
    await whole.run("mentor", INPUTS["mentor"])
    broken = await prepared(whole.again("broken"))
    with ExitStack() as stack:
        socket, supervisor = await asyncio.to_thread(stack.enter_context, sandbox_daemon())
        [daemon] = children(supervisor)
        broken = replace(broken, sandbox=socket)
        models.before = killer(daemon, models.calls + 40)
        process = await broken.process("mentor", INPUTS["mentor"])
        assert await process.wait() == Exit.INFRASTRUCTURE
    log = (broken.folder / "work" / "mentor" / "log").read_text()
    assert "the sandbox daemon is gone" in log
    models.before = lambda _: None
    process = await replace(broken, sandbox=whole.sandbox).process("mentor", INPUTS["mentor"], attempt=2)
    assert await process.wait() == 0
    assert outcomes(broken, "mentor") == outcomes(whole, "mentor")


async def test_tasks_whose_sessions_are_killed_are_begun_anew_and_nothing_is_paid_twice(make_place: MakePlace) -> None:
    whole = await small(make_place)
    models = whole.models
    await whole.run("mentor", INPUTS["mentor"])
    calls = models.paid
    broken = await prepared(whole.again("broken"))
    with ExitStack() as stack:
        socket, supervisor = await asyncio.to_thread(stack.enter_context, sandbox_daemon())
        [daemon] = children(supervisor)
        killed: list[int] = []

        def kill_sessions(number: int) -> None:
            if number in (calls + 60, calls + 90):
                _zygote, *sessions = children(daemon)
                frozen = [pid for pid in sessions if is_frozen(pid)]
                killed.extend(frozen)
                for pid in frozen:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        models.before = kill_sessions
        await replace(broken, sandbox=socket).run("mentor", INPUTS["mentor"])
    assert len(killed) >= 2 * CONCURRENCY
    assert outcomes(broken, "mentor") == outcomes(whole, "mentor")
    assert models.paid == 2 * calls


def children(pid: int) -> list[int]:
    """The processes that a process started, the earliest first."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_frozen(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return False


def killer(pid: int, number: int) -> Any:
    """Kills a process when the call with that number comes."""

    def kill(call: int) -> None:
        if call == number:
            os.kill(pid, signal.SIGKILL)

    return kill
