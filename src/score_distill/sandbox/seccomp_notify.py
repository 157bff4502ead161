"""Calls that wait for the daemon's word: a fork, a thread, a child's first word, and every change to the file system.

The zygote's filter stops these calls and the kernel tells the daemon which process asks, so nothing a session says is
believed. A fork is granted once, to the process that the daemon has just asked for it; any other ends the asker. The
child's first word asks the kernel to end it with the daemon, so none that is known can outlive it; beside it stands a
number that only its parent was told, by which it proves whose it is, and gets its channel and its output put in place.
A thread is granted while its step runs, up to a number; it may then ask as its process.
File calls are not let through but done by the daemon (`files`), inside the folder of the step that asks.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from score_distill.sandbox import seccomp
from score_distill.sandbox.channel import Channel, ChannelClosed
from score_distill.sandbox.files import Folder
from score_distill.sandbox.process import process_of, threads_of

_log = logging.getLogger(__name__)

_NOTIFICATION = struct.Struct("QIIiIQ6Q")
_RESPONSE = struct.Struct("QqiI")
_ADD_DESCRIPTOR = struct.Struct("QIIII")
_IDENTITY = struct.Struct("Q")
_RECEIVE, _RESPOND, _IS_VALID, _ADD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_CONTINUE = 1
_AT_NUMBER, _AND_RESPOND = 1, 2
_THREADS = 32  # of one process


@dataclass(frozen=True)
class AwaitedChild:
    """A child that is awaited: the channel that will be its own, and what it gets at which descriptor."""

    channel: Channel
    descriptors: dict[int, int]
    done: asyncio.Future[None]

    def fail(self) -> None:
        """Its parent said something, or went, instead of having it."""
        if not self.done.done():
            self.done.set_exception(ChannelClosed("it does not fork"))


class Grants:
    """What each process may do now; a process that is named nowhere may do nothing."""

    def __init__(self, listener: int, kill: Callable[[int], None], is_new: Callable[[int], bool]) -> None:
        self.forks: set[int] = set()
        self.births: dict[int, AwaitedChild] = {}
        self.folders: dict[int, Folder] = {}
        self.stepping: set[int] = set()  # may start threads
        self.threaded: set[int] = set()  # has started one
        self._listener = listener
        self._kill = kill
        self._is_new = is_new
        self._failed = False
        self._names = seccomp.names(("clone", "prctl", "openat", *seccomp.CHANGING))
        asyncio.get_running_loop().add_reader(listener, self._readable)

    def _readable(self) -> None:
        buffer = bytearray(_NOTIFICATION.size)
        with contextlib.suppress(FileNotFoundError):  # the asker has died meanwhile
            fcntl.ioctl(self._listener, _RECEIVE, buffer)
            number, pid, _, call, _, _, *arguments = _NOTIFICATION.unpack(buffer)
            try:
                self._answer(number, pid, self._names[call], arguments)
            except FileNotFoundError:
                raise
            except Exception:  # an asker is never left waiting, whatever its arguments lead to
                self._respond(number, error=errno.EFAULT)
                if not self._failed:
                    _log.exception("a call of a session was not understood; others of its kind are not told")
                self._failed = True

    def _answer(self, number: int, pid: int, call: str, arguments: list[int]) -> None:
        match call:
            case "clone" if arguments[0] == seccomp.FORK_FLAGS:
                self._fork(number, pid)
            case "clone":
                self._thread(number, self._process(number, pid), stack=arguments[1])
            case "prctl":
                self._born(number, pid, arguments[2])
            case name:
                self._file_call(number, self._process(number, pid), name, arguments)

    def _process(self, number: int, pid: int) -> int:
        """The process whose thread asks. It is asked for before whether that still waits, so its number is its own."""
        if pid in self.folders:
            return pid
        leader = process_of(pid)
        fcntl.ioctl(self._listener, _IS_VALID, _IDENTITY.pack(number))
        return leader

    def _thread(self, number: int, pid: int, stack: int) -> None:
        if pid not in self.stepping or not stack:
            self._respond(number, error=errno.EPERM)
        elif threads_of(pid) > _THREADS:
            self._respond(number, error=errno.EAGAIN)
        else:
            self.threaded.add(pid)
            self._respond(number, flags=_CONTINUE)

    def _fork(self, number: int, pid: int) -> None:
        if pid in self.forks:
            self.forks.remove(pid)
            self._respond(number, flags=_CONTINUE)
        else:
            process = self._process(number, pid)
            self._respond(number, error=errno.EAGAIN)
            self._kill(process)

    def _born(self, number: int, pid: int, token: int) -> None:
        birth = self.births.pop(token, None)
        if birth is None or birth.done.done() or not self._is_new(pid):
            process = self._process(number, pid)
            self._respond(number, error=errno.EPERM)
            self._kill(process)
            return
        birth.channel.pid = pid
        for place, descriptor in birth.descriptors.items():
            self._add(number, descriptor, _AT_NUMBER, place)
        self._respond(number, flags=_CONTINUE)
        birth.done.set_result(None)

    def _file_call(self, number: int, pid: int, call: str, arguments: list[int]) -> None:
        folder = self.folders.get(pid)
        if folder is None:
            self._respond(number, error=errno.EPERM)
            return
        try:
            opened = folder.perform(pid, call, arguments)
            if opened is None:
                self._respond(number)
            else:
                with os.fdopen(opened) as file:
                    self._add(number, file.fileno(), _AND_RESPOND)
        except OSError as error:
            self._respond(number, error=error.errno or errno.EPERM)
        except ValueError:
            self._respond(number, error=errno.EINVAL)
        finally:
            if folder.abused:
                self._kill(pid)

    def _add(self, number: int, descriptor: int, flags: int, place: int = 0) -> None:
        """Put one of the daemon's descriptors into the asker."""
        fcntl.ioctl(self._listener, _ADD, _ADD_DESCRIPTOR.pack(number, flags, descriptor, place, os.O_CLOEXEC))

    def _respond(self, number: int, error: int = 0, flags: int = 0) -> None:
        fcntl.ioctl(self._listener, _RESPOND, bytearray(_RESPONSE.pack(number, 0, -error, flags)))
