"""The daemon's hold on session processes: who is speaking, what it printed, and its end.

Every session process is a direct child of the daemon, so its number cannot pass to another before the daemon reaps it,
and each message on its control channel carries the kernel's word on who sent it. A frozen state is a stopped process.
"""

import asyncio
import collections
import contextlib
import fcntl
import os
import signal
import socket
import struct
import time
from typing import Any

from score_distill.sandbox.wire import Unpacker, WireError, pack

_CREDENTIALS = struct.Struct("3i")
_CHUNK = 1 << 16
_REAP_SECONDS = 0.002


class Gone(Exception):
    """The process closed its channel, or said what no honest one would."""


class Channel:
    """The daemon's end of a control channel. ``theirs`` is the other end, to be handed over."""

    def __init__(self, message_bytes: int) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._ours.setblocking(False)
        self._unpacker = Unpacker(message_bytes)
        self._messages: collections.deque[dict[str, Any]] = collections.deque()
        self._waiter: asyncio.Future[None] | None = None
        self._open = True
        self.pid = 0
        asyncio.get_running_loop().add_reader(self._ours, self._readable)

    async def receive(self) -> dict[str, Any]:
        while not self._messages:
            if not self._open:
                raise Gone
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._messages.popleft()

    async def send(self, message: dict[str, Any]) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._ours, pack(message))
        except OSError:
            raise Gone from None

    def hand_over(self, descriptors: list[int]) -> None:
        """Ask for a fork: give the parent what its child will speak and print on."""
        try:
            socket.send_fds(self._ours, [b"f"], descriptors)
        except OSError:
            raise Gone from None

    def close(self) -> None:
        self._end()
        self.theirs.close()
        self._ours.close()

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._ours.recvmsg(_CHUNK, socket.CMSG_SPACE(_CREDENTIALS.size))
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        try:
            if not data or not self._speaker(ancillary):
                raise WireError
            self._messages.extend(self._unpacker.feed(data))
        except WireError:
            self._end()
        self._wake()

    def _speaker(self, ancillary: list[tuple[int, int, bytes]]) -> bool:
        """Whether one process, always the same, speaks here."""
        for _, kind, value in ancillary:
            if kind == socket.SCM_CREDENTIALS:
                pid, _, _ = _CREDENTIALS.unpack(value)
                self.pid = self.pid or pid
                return bool(pid == self.pid)
        return False

    def _end(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._ours)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


class Output:
    """What a step prints: a file in memory that cannot grow, so printing wakes nobody and floods nothing."""

    def __init__(self, limit: int) -> None:
        self.descriptor = os.memfd_create("output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, limit)
        seals = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)

    def close(self) -> bytes:
        printed = os.pread(self.descriptor, os.lseek(self.descriptor, 0, os.SEEK_CUR), 0)
        os.close(self.descriptor)
        return printed


def freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def thaw(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def cpu_seconds(pid: int) -> float:
    """CPU time of another process: its clock, by the number the kernel derives from its pid."""
    return time.clock_gettime(~pid << 3 | 2)


def is_child(pid: int) -> bool:
    """Whether ``pid`` is a living child of this process."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


class Reaper:
    """Ends processes and collects them, so that none outlives its use."""

    def __init__(self) -> None:
        self._dying: set[int] = set()

    def kill(self, pid: int) -> None:
        """End a process for good; it is collected later."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not self._collected(pid):
            if not self._dying:
                asyncio.get_running_loop().call_later(_REAP_SECONDS, self._sweep)
            self._dying.add(pid)

    async def status(self, pid: int) -> int:
        """How a process that closed its channel ended: its exit status, or minus the signal; it is ended if need be."""
        for _ in range(50):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            await asyncio.sleep(_REAP_SECONDS)
        self.kill(pid)
        return 0

    def _sweep(self) -> None:
        self._dying = {pid for pid in self._dying if not self._collected(pid)}
        if self._dying:
            asyncio.get_running_loop().call_later(_REAP_SECONDS, self._sweep)

    def _collected(self, pid: int) -> bool:
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            return True
