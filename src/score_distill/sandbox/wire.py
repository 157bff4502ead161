"""Messages between client, daemon and session: four bytes of length, then a JSON object.

Both directions and all three parties use it. Whatever arrives is validated here and by its reader, never unpickled.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

_HEADER = struct.Struct(">I")


class WireError(Exception):
    """Bytes that are no message: too long, not JSON, or not an object."""


def pack(message: Mapping[str, Any]) -> bytes:
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEADER.pack(len(body)) + body


class Unpacker:
    """Collects bytes and gives the whole messages among them; a message of more than ``limit`` bytes is an error."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEADER.size:
            (size,) = _HEADER.unpack_from(self._buffer)
            if size > self._limit:
                raise WireError(f"a message of {size} bytes; at most {self._limit} are allowed")
            end = _HEADER.size + size
            if len(self._buffer) < end:
                break
            messages.append(_parse(bytes(self._buffer[_HEADER.size : end])))
            del self._buffer[:end]
        return messages


def _parse(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a JSON message: {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise WireError(f"a message must be an object, not {type(message).__name__}")
    return message
