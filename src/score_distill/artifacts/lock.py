"""One runner for one run folder: a lock that the kernel drops when its holder dies, also by kill -9."""

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from score_distill.errors import Busy


class RunLocked(Busy):
    """Another living process works on the run."""


class RunLock:
    """`with RunLock(folder):` holds the folder's `.lock`; RunLocked names the process that has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = -1

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / ".lock"
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 512, 0).decode().strip() or "unknown"
            os.close(file)
            raise RunLocked(f"{self._folder}: process {holder} works on this run; stop it or wait for it") from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
