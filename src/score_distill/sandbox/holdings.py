"""A session: its states, what runs from them and what comes of it, and what all that holds of the machine."""

import asyncio
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from score_distill.sandbox import memory_watch
from score_distill.sandbox.channel import Channel
from score_distill.sandbox.descriptors import OpenFile


class Session:
    """All that came of one opening: its processes, their memory, and the bytes of its kept folders."""

    def __init__(self) -> None:
        self.pids: set[int] = set()
        self.kept_bytes = 0
        self._measured: set[int] = set()
        self._together = 0

    def enter(self, pid: int) -> None:
        self.pids.add(pid)

    def stir(self, pid: int) -> None:
        """A process of it is let go, so what was measured of it says nothing any more."""
        self._measured.discard(pid)

    def leave(self, pid: int) -> None:
        self.pids.discard(pid)
        self._measured.discard(pid)

    async def needs_more_than(self, most: int, running: Set[int]) -> bool:
        """Whether its processes together hold more than ``most`` bytes.

        To measure costs milliseconds a process, so it is done only when a bound from above does not answer: what those
        that have been frozen since held at the last measurement, and of all others what each holds with what it shares.
        """
        if self._together + memory_watch.held(self.pids - self._measured) <= most:
            return False
        pids = frozenset(self.pids)
        frozen = pids - running
        self._together = await asyncio.to_thread(memory_watch.held_together, pids)
        self._measured = set(frozen & self.pids)
        return self._together > most


@dataclass(frozen=True)
class Frozen:
    """A state: the stopped process that holds it, its folder and open files, the CPU time along its branch."""

    channel: Channel
    session: Session = field(default_factory=Session)
    folder: Path | None = None
    kept_bytes: int = 0  # of the folder
    files: tuple[OpenFile, ...] = ()
    cpu: float = 0.0
    forking: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)
    end: list[Exception] = field(default_factory=list, compare=False)  # why it cannot be run from any more


@dataclass(frozen=True)
class Step:
    """What to execute; ``seed`` is given to the first step of a session.

    Without ``keep`` the state before it is given up to it, without ``digest`` none is made of the state after it.
    """

    code: str
    tools: Sequence[str] = ()
    seed: int | None = None
    keep: bool = True
    digest: bool = True


@dataclass(frozen=True)
class Ended:
    """What came of a step.

    ``state_hash`` is None when the state cannot be told from others, or nobody asked; ``after`` when it was undone.
    """

    output: str
    answer: str | None
    error: str | None
    state_hash: str | None
    after: Frozen | None
