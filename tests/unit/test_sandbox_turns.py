"""Turns: bounded, fair between clients, none lost to a cancelled waiter."""

import asyncio

import pytest

from score_distill.sandbox.fair_queue import Full, Turns


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def enter(turns, client, log, leave):
    async def step():
        async with turns.turn(client) as turn:
            log.append(client)
            await leave.wait()
        return turn

    return asyncio.ensure_future(step())


async def test_no_client_has_all_turns_and_the_next_free_one_goes_to_who_has_fewest():
    turns, log, leave = Turns(4, 100), [], asyncio.Event()
    first = [enter(turns, "greedy", log, leave) for _ in range(10)]
    await settle()
    assert log == ["greedy"] * 3
    second = [enter(turns, "late", log, leave) for _ in range(2)]
    await settle()
    assert log == ["greedy"] * 3 + ["late"]
    leave.set()
    await asyncio.gather(*first, *second)
    assert log[4] == "late"
    assert log.count("greedy") == 10


async def test_a_full_queue_refuses():
    turns, leave = Turns(1, 2), asyncio.Event()
    waiting = [enter(turns, "a", [], leave) for _ in range(3)]
    await settle()
    with pytest.raises(Full):
        async with turns.turn("b"):
            pass
    leave.set()
    await asyncio.gather(*waiting)


async def test_a_step_that_waits_for_a_tool_gives_its_turn_away_and_comes_back_first():
    turns, log = Turns(1, 10), []
    answered = asyncio.Event()

    async def asks():
        async with turns.turn("a") as turn:
            log.append("asks")
            async with turn.aside():
                await answered.wait()
            log.append("goes on")

    async def runs(name):
        async with turns.turn("a"):
            log.append(name)
            answered.set()
            await settle()

    await asyncio.gather(asks(), runs("second"), runs("third"))
    assert log == ["asks", "second", "goes on", "third"]


@pytest.mark.parametrize("running", [1, 2, 3])
async def test_a_cancelled_waiter_loses_no_turn(running):
    turns, leave = Turns(running, 100), asyncio.Event()
    tasks = [enter(turns, number % 3, [], leave) for number in range(12)]
    await settle()
    for task in tasks[::2]:
        task.cancel()
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    log = []
    async with asyncio.timeout(1):
        await asyncio.gather(*(enter(turns, "after", log, leave) for _ in range(5)))
    assert turns._free == running and not turns._running


async def test_cancelling_a_step_that_waits_for_a_tool_loses_no_turn():
    turns, never = Turns(1, 10), asyncio.Event()

    async def asks():
        async with turns.turn("a") as turn, turn.aside():
            await never.wait()

    task = asyncio.ensure_future(asks())
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert turns._free == 1 and not turns._running
