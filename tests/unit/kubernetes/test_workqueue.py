"""The work queue: no key twice in it, none worked on twice at a time, failures tried again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from score_distill.executors.kubernetes.workqueue import WorkQueue


@asynccontextmanager
async def at_work(work: Callable[[str], Awaitable[float | None]], workers: int = 2) -> AsyncIterator[WorkQueue[str]]:
    queue: WorkQueue[str] = WorkQueue(work, lambda key, error: None)
    task = asyncio.create_task(queue.run(workers))
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_key_that_is_added_often_is_worked_on_once() -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def work(key: str) -> None:
        seen.append(key)
        if key == "last":
            done.set()

    async with at_work(work, 1) as queue:
        for key in ["a", "a", "b", "a", "b", "last"]:
            queue.add(key)
        await asyncio.wait_for(done.wait(), 5)
    assert seen == ["a", "b", "last"]


async def test_a_key_that_changes_while_it_is_worked_on_is_worked_on_again_and_never_twice_at_a_time() -> None:
    begun, go, at_once, passes = asyncio.Event(), asyncio.Event(), 0, 0
    again = asyncio.Event()

    async def work(_: str) -> None:
        nonlocal at_once, passes
        at_once += 1
        passes += 1
        assert at_once == 1
        begun.set()
        await go.wait()
        at_once -= 1
        if passes == 2:
            again.set()

    async with at_work(work, 3) as queue:
        queue.add("a")
        await asyncio.wait_for(begun.wait(), 5)
        queue.add("a")
        queue.add("a")
        go.set()
        await asyncio.wait_for(again.wait(), 5)
    assert passes == 2


async def test_a_failure_is_tried_again_and_a_due_time_is_kept() -> None:
    tries: list[float] = []
    enough = asyncio.Event()

    async def work(_: str) -> float | None:
        tries.append(asyncio.get_running_loop().time())
        if len(tries) == 1:
            raise RuntimeError("once")
        if len(tries) == 3:
            enough.set()
        return 0.05 if len(tries) == 2 else None

    async with at_work(work) as queue:
        queue.add("a")
        await asyncio.wait_for(enough.wait(), 10)
    assert tries[1] - tries[0] >= 0.9
    assert tries[2] - tries[1] >= 0.04


async def test_other_keys_do_not_wait_for_a_slow_one() -> None:
    never, done = asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        await never.wait() if key == "slow" else done.set()

    async with at_work(work) as queue:
        queue.add("slow")
        queue.add("quick", 0.01)
        await asyncio.wait_for(done.wait(), 5)


async def test_only_keys_that_are_due_count_as_waiting_and_what_is_overtaken_is_not_kept() -> None:
    queue: WorkQueue[str] = WorkQueue(lambda key: asyncio.sleep(0), lambda key, error: None)
    for sooner in range(5000):
        queue.add("later", 10_000 - sooner)
    queue.add("now")
    assert len(queue) == 1
    assert queue.held < 200
