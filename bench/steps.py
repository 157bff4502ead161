"""What is asked of whatever runs code step by step, the same of each contender.

Standard library and psutil alone: the peers measure themselves in an interpreter that has nothing of the product.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

import psutil

T = TypeVar("T")
BRANCHES, PREFIX, SESSIONS = 16, 8, 64
BATCH = 20
PAUSE = 0.02  # seconds in which a model would write the next step
TRIVIAL = "print(1 + 1)"
LARGE = "state = ['x' * 1_048_576 for _ in range(100)]"
WORK = "total = sum(n * n for n in range(20_000))"


class Session(Protocol):
    async def run(self, code: str) -> str:
        """What it printed; raises when the code did."""
        ...

    async def close(self) -> None: ...


Open = Callable[[], Awaitable[Session]]
Samples = dict[str, list[float]]


async def trivial(open_: Open) -> Samples:
    session = await open_()
    await check(session, TRIVIAL, "2")
    seconds = [await timed(check(session, TRIVIAL, "2")) for _ in range(BATCH)]
    await session.close()
    return {"trivial": seconds}


async def paused(open_: Open) -> Samples:
    """Steps as a rollout makes them: between any two a model thinks."""
    session = await open_()
    seconds = []
    for _ in range(BATCH):
        await asyncio.sleep(PAUSE)
        seconds.append(await timed(check(session, TRIVIAL, "2")))
    await session.close()
    return {"paused": seconds[1:]}


async def large(open_: Open) -> Samples:
    session = await open_()
    await session.run(LARGE)
    seconds = [await timed(check(session, "print(len(state))", "100")) for _ in range(5)]
    await session.close()
    return {"large": seconds}


async def opening(open_: Open) -> Samples:
    """Until the first step has answered: some make their process only then."""

    opened: list[Session] = []

    async def one() -> None:
        opened.append(await open_())
        await check(opened[0], TRIVIAL, "2")

    seconds = await timed(one())
    await opened[0].close()
    return {"open": [seconds]}


async def replayed(open_: Open) -> Samples:
    """Branches where there is no fork: the prefix once more for each, in one go, which is the kindest to the peer."""

    async def one() -> None:
        session = await open_()
        await session.run("\n".join([WORK] * PREFIX))
        await check(session, "print(total > 0)", "True")
        await session.close()

    return {"fork": [await timed(together(one() for _ in range(BRANCHES)))]}


async def many(open_: Open) -> Samples:
    """Seconds a step of many sessions at once, and bytes that one of them holds when idle (PSS, all processes)."""
    before = held()
    waves = range(0, SESSIONS, 8)  # kernels that all start at once miss their own deadlines
    sessions = [one for _ in waves for one in await together(open_() for _ in range(8))]
    await together(check(one, TRIVIAL, "2") for one in sessions)
    memory = (held() - before) / SESSIONS
    steps = 4
    seconds = [await timed(together(check(one, TRIVIAL, "2") for one in sessions)) for _ in range(steps)]
    await together(one.close() for one in sessions)
    return {"many": [one / SESSIONS for one in seconds], "memory": [memory]}


MEASURES = {
    "trivial": trivial,
    "paused": paused,
    "large": large,
    "open": opening,
    "fork": replayed,
    "many": many,
}


async def check(session: Session, code: str, printed: str) -> None:
    if (told := (await session.run(code)).strip()) != printed:
        raise RuntimeError(f"{code!r} printed {told!r} in a session of {type(session).__name__}, not {printed!r}")


async def timed(what: Awaitable[object]) -> float:
    began = time.perf_counter()
    await what
    return time.perf_counter() - began


async def together(what: Iterable[Awaitable[T]]) -> list[T]:
    return await asyncio.gather(*what)


def held() -> int:
    """Bytes of this process and all that came of it; a page that n processes share counts 1/n for each."""
    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total
