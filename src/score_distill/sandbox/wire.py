"""Messages between client, daemon and session: four bytes of length, then a JSON object.

Both directions and all three parties use it. Whatever arrives is validated here and by its reader, never unpickled.
A message is nested only so deep, since what one party can still read another could not write.
"""

import json
import struct
from collections.abc import Collection, Mapping
from typing import Any

PROTOCOL = 4  # what client and daemon say to each other; counted up when either could misunderstand an older other

_HEADER = struct.Struct(">I")
_DEPTH = 100
_CONTAINERS = (dict, list, tuple)


class WireError(Exception):
    """Bytes that are no message, or a value that cannot be one: too long, too deep, not JSON, or not an object."""


def pack(message: Mapping[str, Any]) -> bytes:
    check_depth(message)
    body = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return _HEADER.pack(len(body)) + body


def check_depth(value: Any) -> None:
    """`WireError` when ``value`` is nested deeper than a message may be."""
    level = [value]
    for _ in range(_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise WireError(f"nested more than {_DEPTH} deep")


def _inside(value: Any) -> Collection[Any]:
    """The containers directly in ``value``."""
    if isinstance(value, dict):
        return [inner for inner in value.values() if isinstance(inner, _CONTAINERS)]
    if isinstance(value, list | tuple):
        return [inner for inner in value if isinstance(inner, _CONTAINERS)]
    return []


class Unpacker:
    """Collects bytes and gives the whole messages among them; a message of more than ``limit`` bytes is an error."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        self.add(data)
        messages = []
        while self.is_ready:
            messages.append(self.take())
        return messages

    def add(self, data: bytes) -> None:
        self._buffer += data

    @property
    def is_ready(self) -> bool:
        """Whether there is something to take: a whole message, or the beginning of one that is too long."""
        return len(self._buffer) >= _HEADER.size and (self._size > self._limit or len(self._buffer) >= self._end)

    def take(self) -> dict[str, Any]:
        """The first message, which was not parsed before."""
        if self._size > self._limit:
            raise WireError(f"a message of {self._size} bytes; at most {self._limit} are allowed")
        end = self._end
        body = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return _parse(body)

    @property
    def _size(self) -> int:
        return int(_HEADER.unpack_from(self._buffer)[0])

    @property
    def _end(self) -> int:
        return _HEADER.size + self._size


def _parse(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a JSON message: {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise WireError(f"a message must be an object, not {type(message).__name__}")
    if body.count(b"[") + body.count(b"{") > _DEPTH:
        check_depth(message)
    return message
