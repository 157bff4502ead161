"""Session processes as the daemon holds them: stopped, let go, measured, ended, collected.

Every one is a direct child of the daemon, so its number cannot pass to another process before the daemon collects it.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import time

from score_distill.sandbox.descriptors import identity

_REAP_SECONDS = 0.002
_REAP_TRIES = 50


def freeze(pid: int) -> None:
    """Stop a process: what it holds stays as it is, whatever its code wants."""
    _signal(pid, signal.SIGSTOP)


def thaw(pid: int) -> None:
    _signal(pid, signal.SIGCONT)


def kill(pid: int) -> None:
    _signal(pid, signal.SIGKILL)


def cpu_seconds(pid: int) -> float:
    """CPU time of another process: its clock, by the number the kernel derives from its pid."""
    return time.clock_gettime(~pid << 3 | 2)


def stalled_seconds(pid: int) -> float:
    """How long a thread of a process was ready to run and had no core, at most; 0 where the kernel does not tell."""
    longest = 0.0
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                longest = max(longest, int(file.read().split()[1]) / 1e9)
    return longest


def threads_of(pid: int) -> int:
    """How many threads a process has, those that are about to be gone too."""
    return len(os.listdir(f"/proc/{pid}/task"))


def process_of(thread: int) -> int:
    """The process that a thread belongs to."""
    with open(f"/proc/{thread}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))


async def ended(pid: int) -> None:
    """Return when ``pid`` has ended."""
    loop, descriptor = asyncio.get_running_loop(), os.pidfd_open(pid)
    try:
        readable = asyncio.Event()
        loop.add_reader(descriptor, readable.set)
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def is_child(pid: int) -> bool:
    """Whether ``pid`` is a living child of this process."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def children() -> set[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}


class Output:
    """What a step prints: a file in memory that cannot grow, so that printing wakes nobody and floods nothing."""

    def __init__(self, limit: int) -> None:
        self.descriptor = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.identity = identity(self.descriptor)
        os.ftruncate(self.descriptor, limit)
        seals = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
        self._limit = limit

    def read(self) -> bytes:
        end = os.lseek(self.descriptor, 0, os.SEEK_CUR)
        return os.pread(self.descriptor, min(end, self._limit), 0)

    def close(self) -> None:
        os.close(self.descriptor)


class Reaper:
    """Ends processes and collects them, so that none outlives its use."""

    def __init__(self) -> None:
        self._dying: set[int] = set()

    def kill(self, pid: int) -> None:
        """End a process for good; it is collected in a while."""
        _signal(pid, signal.SIGKILL)
        if not _collected(pid):
            if not self._dying:
                asyncio.get_running_loop().call_later(_REAP_SECONDS, self._sweep)
            self._dying.add(pid)

    async def status(self, pid: int) -> int | None:
        """How a process that closed its channel ended: exit status, or minus the signal; None if it had to be ended."""
        for _ in range(_REAP_TRIES):
            try:
                done, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                return None
            if done:
                return os.waitstatus_to_exitcode(status)
            await asyncio.sleep(_REAP_SECONDS)
        self.kill(pid)
        return None

    def _sweep(self) -> None:
        self._dying = {pid for pid in self._dying if not _collected(pid)}
        if self._dying:
            asyncio.get_running_loop().call_later(_REAP_SECONDS, self._sweep)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _collected(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
