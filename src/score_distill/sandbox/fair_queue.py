"""Who runs next: a bounded queue that is fair between clients.

So many steps run at once. A free turn goes to the waiting client that has the fewest, the one that waited longest
among equals; no client may have them all, so one whose steps all hang cannot stop another. A full queue refuses.
"""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Hashable

_SHARE = 0.75  # of all turns, at most, for one client


class Full(Exception):
    """The queue is full: come again later."""


class Turns:
    def __init__(self, running: int, waiting: int) -> None:
        self._free = running
        self._room = waiting
        self._share = max(1, int(running * _SHARE))
        self._running: collections.Counter[Hashable] = collections.Counter()
        self._queues: dict[Hashable, collections.deque[asyncio.Future[None]]] = {}

    @contextlib.asynccontextmanager
    async def turn(self, client: Hashable) -> AsyncIterator["Turn"]:
        """Wait for a turn and hold it for the block; `Full` when too many wait already."""
        if sum(map(len, self._queues.values())) >= self._room:
            raise Full
        turn = Turn(self, client)
        await turn.take()
        try:
            yield turn
        finally:
            turn.give_back()

    def _enter(self, client: Hashable, *, first: bool) -> asyncio.Future[None]:
        queue = self._queues.setdefault(client, collections.deque())
        place = asyncio.get_running_loop().create_future()
        (queue.appendleft if first else queue.append)(place)
        self._hand_out()
        return place

    def _leave(self, client: Hashable) -> None:
        self._free += 1
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and (client := self._next()) is not None:
            queue = self._queues.pop(client)
            place = queue.popleft()
            if queue:
                self._queues[client] = queue  # at the end: the others waited longer
            if not place.done():
                self._free -= 1
                self._running[client] += 1
                place.set_result(None)

    def _next(self) -> Hashable | None:
        able = (client for client in self._queues if self._running[client] < self._share)
        return min(able, key=self._running.__getitem__, default=None)


class Turn:
    """A turn of one step; it can be laid aside while the step waits for somebody else."""

    def __init__(self, turns: Turns, client: Hashable) -> None:
        self._turns = turns
        self._client = client
        self._held = False

    @contextlib.asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Let others run for the block, and come back before those that have not begun."""
        self.give_back()
        try:
            yield
        finally:
            await self.take(first=True)

    async def take(self, *, first: bool = False) -> None:
        place = self._turns._enter(self._client, first=first)
        try:
            await place
        finally:
            self._held = place.done() and not place.cancelled()

    def give_back(self) -> None:
        if self._held:
            self._held = False
            self._turns._leave(self._client)
