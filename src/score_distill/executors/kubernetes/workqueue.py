"""A work queue of keys: each at most once in it, never worked on twice at a time, failures with growing pauses."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
SHORTEST, LONGEST = 1.0, 300.0


class WorkQueue(Generic[K]):
    """``work`` returns in how many seconds the key is due again by itself, or None; an error is tried again."""

    def __init__(self, work: Callable[[K], Awaitable[float | None]], failed: Callable[[K, Exception], None]) -> None:
        self._work, self._failed = work, failed
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._numbers = itertools.count()
        self._busy: set[K] = set()
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many keys are due."""
        now = time.monotonic()
        return sum(due <= now for due in list(self._due.values()))

    @property
    def held(self) -> int:
        """How many times are kept, those included that were overtaken by sooner ones."""
        return len(self._heap)

    def add(self, key: K, after: float = 0.0) -> None:
        """The key is due after so many seconds, or earlier if it was."""
        due = time.monotonic() + after
        if key not in self._due or due < self._due[key]:
            self._due[key] = due
            if len(self._heap) > 2 * len(self._due) + 64:
                self._heap = [(at, next(self._numbers), one) for one, at in self._due.items() if one != key]
                heapq.heapify(self._heap)
            heapq.heappush(self._heap, (due, next(self._numbers), key))
            self._changed.set()

    async def run(self, workers: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            key = await self._next()
            try:
                again = await self._work(key)
                self._failures.pop(key, None)
            except Exception as error:
                self._failed(key, error)
                count = self._failures[key] = self._failures.get(key, 0) + 1
                again = min(LONGEST, SHORTEST * 2 ** (count - 1))
            self._busy.discard(key)
            self._changed.set()
            if again is not None:
                self.add(key, again)

    async def _next(self) -> K:
        while True:
            self._changed.clear()
            now, waiting = time.monotonic(), []
            while self._heap and self._heap[0][0] <= now:
                due, number, key = heapq.heappop(self._heap)
                if self._due.get(key) != due:
                    continue
                if key in self._busy:
                    waiting.append((due, number, key))
                    continue
                for one in waiting:
                    heapq.heappush(self._heap, one)
                del self._due[key]
                self._busy.add(key)
                self._changed.set()
                return key
            for one in waiting:
                heapq.heappush(self._heap, one)
            pause = max(0.0, self._heap[0][0] - now) if self._heap and not waiting else None
            try:
                await asyncio.wait_for(self._changed.wait(), pause)
            except TimeoutError:
                continue
