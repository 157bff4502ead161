"""SIGTERM in training: a flag that is looked at between steps, for an end amid a collective would lose the peers too.

Outside `with Stop()` the signal does what it did before: nothing is at stake while a model loads or is written.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

import torch

from score_distill.train import broadcast


class Stopped(SystemExit):
    """SIGTERM asked for the end, and the checkpoint is saved; the exit code is of a process that the signal killed."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Stop:
    """`wake` is called when the signal comes, in the handler. A thread that is not the main one hears none."""

    def __init__(self, wake: Callable[[], object] = lambda: None):
        self.asked = False
        self._wake = wake
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def agreed(self, device: torch.device) -> bool:
        """Whether any rank was asked to stop; every rank calls it at the same point, and hears the same."""
        return broadcast.anyone(device, self.asked)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._wake()
