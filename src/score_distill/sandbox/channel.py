"""The daemon's end of a session's control channel: a stream of messages, one process at the other end."""

import array
import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any

from score_distill.sandbox.descriptors import identity
from score_distill.sandbox.wire import Unpacker, WireError, pack

_CHUNK = 1 << 16
_INT = struct.Struct("i")


class ChannelClosed(Exception):
    """The process closed its channel, or broke its rules."""


class Channel:
    """``theirs`` is the other end, to be given away. Only the zygote sends ``descriptors`` with its messages.

    Nothing is read from the other end while a message of it waits to be received, so a flood stays on its side; and a
    message is parsed when somebody receives it.
    """

    def __init__(self, message_bytes: int, descriptors: int = 0) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._number = self._ours.fileno()  # for the loop, which would spell the socket at each call
        self._unpacker = Unpacker(message_bytes)
        self._ancillary = socket.CMSG_SPACE(4 * descriptors) if descriptors else 0
        self._waiter: asyncio.Future[None] | None = None
        self._open = True
        self.identity = identity(self.theirs.fileno())
        self.received: list[int] = []
        self.pid = 0
        self.stirred: Callable[[], None] | None = None  # called when the other end speaks or goes
        asyncio.get_running_loop().add_reader(self._number, self._readable)

    async def receive(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        while not self._unpacker.is_ready:
            if not self._open:
                raise ChannelClosed
            self._waiter = loop.create_future()
            await self._waiter
        try:
            message = self._unpacker.take()
        except WireError:
            self._end()
            raise ChannelClosed from None
        if self._open and not self._unpacker.is_ready:
            loop.add_reader(self._number, self._readable)
        return message

    @property
    def has_unread(self) -> bool:
        """Whether a message of the other end waits to be received."""
        return self._unpacker.is_ready

    @property
    def is_unread(self) -> bool:
        """Whether the other end has not read all that it was sent."""
        (left,) = _INT.unpack(fcntl.ioctl(self._ours, termios.TIOCOUTQ, bytes(_INT.size)))
        return bool(left)

    async def send(self, message: dict[str, Any]) -> None:
        await self.write(pack(message))

    async def write(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._ours, data)
        except OSError:
            raise ChannelClosed from None

    def hand_over(self, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._ours, [b"f"], descriptors)
        except OSError:
            raise ChannelClosed from None

    def close(self) -> None:
        self._end()
        self.theirs.close()
        self._ours.close()

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._ours.recvmsg(_CHUNK, self._ancillary, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for _, _, value in ancillary:
            self.received.extend(array.array("i", value))
        self._unpacker.add(data)
        if not data:
            self._end()
        elif self._unpacker.is_ready:
            asyncio.get_running_loop().remove_reader(self._number)
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
        if self.stirred:
            self.stirred()

    def _end(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._number)
