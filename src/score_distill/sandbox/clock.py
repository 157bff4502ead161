"""How long a session process may run: its CPU time, and the time in which it neither ran nor waited for a core.

The time that a process is ready and its neighbours have the cores is not its own, so how much runs beside a step does
not decide what comes of it. That waiting has a bound too, for nothing may last for ever.
"""

import time
from dataclasses import dataclass, field

from score_distill.sandbox.outcome import Failure
from score_distill.sandbox.process import cpu_seconds, stalled_seconds

_MOST_STALLED = 50  # times what a process may take alone


@dataclass
class Clock:
    """Bounds of one process from now on, in seconds, and what is said at each."""

    pid: int
    wall: float
    cpu: float
    too_long: Failure
    too_much: Failure
    _begun: float = field(default_factory=time.monotonic)
    _paused: float | None = None

    def __post_init__(self) -> None:
        self._used_before = cpu_seconds(self.pid)
        self._stalled_before = stalled_seconds(self.pid)

    def pause(self) -> None:
        """Others are at work for this process."""
        self._paused = time.monotonic()

    def resume(self) -> None:
        if self._paused is not None:
            self._begun += time.monotonic() - self._paused
            self._paused = None

    def over(self) -> Failure | None:
        """What is said if a bound is reached; OSError when the process is gone."""
        if (used := self.used()) > self.cpu:
            return self.too_much
        passed = (self._paused or time.monotonic()) - self._begun
        if passed > self.wall:
            alone = self.wall + self.cpu
            stalled = stalled_seconds(self.pid) - self._stalled_before
            if passed - used - min(stalled, _MOST_STALLED * alone) > self.wall:
                return self.too_long
        return None

    def used(self) -> float:
        """CPU time since this clock was made; OSError when the process is gone."""
        return cpu_seconds(self.pid) - self._used_before
