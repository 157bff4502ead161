"""What an artifact store can do, how it fails, and journals on top of it.

A store maps '/'-separated keys to bytes. Objects are replaced whole or not at all; `put(if_absent=True)` is the only
coordination between workers. Stages and the planner see this protocol alone; `folder` and `s3` implement it.
"""

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self
from uuid import uuid4

from score_distill.artifacts.uris import local_path
from score_distill.errors import Exit, Infrastructure

_SEGMENT = r"[^./\x00-\x1f][^/\x00-\x1f]*"
CONDITIONAL = "conditional writes (PutObject with If-None-Match: *)"
KEY = rf"^{_SEGMENT}(/{_SEGMENT})*$"


class StoreError(Infrastructure):
    """A store could not do what was asked; the message says where and what would help."""


class StoreMissing(StoreError):
    """Nothing is stored under the key."""


class StoreFull(StoreError):
    """No room is left; what was stored before is untouched."""


class StoreDenied(StoreError):
    """The store refused the credentials, or they do not allow the operation."""

    exit = Exit.BAD_INPUT


class StoreUnfit(StoreError):
    """The store is not there, or cannot do what a run relies on."""

    exit = Exit.BAD_INPUT


class StoreUnreachable(StoreError):
    """The store does not answer, after every retry."""


class ArtifactCorrupt(StoreError):
    """What was read is not what was written."""


class Appender(Protocol):
    """One writer of a journal; `append` after `close` is an error."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one row. In a folder it has left the process on return; on S3 within the flush interval."""

    def flush(self) -> None:
        """Return once every row so far is stored."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Store(Protocol):
    """Keys are '/'-separated and no part of one starts with a dot (those names belong to the store)."""

    def get(self, key: str) -> bytes:
        """The whole object; StoreMissing when there is none."""

    def open_lines(self, key: str) -> Iterator[bytes]:
        """The object line by line, line ends kept, in constant memory."""

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        """Store the bytes, or the content of the file; False when `if_absent` and the key was there already."""

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[str]:
        """Every key below the folder `prefix` ("" is all); S3 servers differ in the order."""

    def children(self, prefix: str) -> tuple[str, ...]:
        """Names of the folders directly below the folder `prefix`, sorted."""

    def delete(self, prefix: str) -> None:
        """Remove the key and every key below it; removing nothing is fine."""

    def download(self, key: str, path: Path) -> None:
        """Make the object a new local file. It may share its bytes with the store: only read it."""

    def appender(self, key_prefix: str) -> Appender:
        """A writer of its own in the journal `key_prefix`; any number of processes may each have one."""


def open_store(uri: str, environ: Mapping[str, str], base: Path | None = None) -> Store:
    """The store at `s3://bucket/prefix`, `file://` or a path (relative to `base`).

    For S3 the endpoint and the keys come from the AWS_ variables in `environ`; without keys boto3 looks where it always
    does (profile, web identity, instance role). Raises ValueError for another scheme.
    """
    if uri.startswith("s3://"):
        from score_distill.artifacts.s3 import open_s3

        return open_s3(uri, environ)
    from score_distill.artifacts.folder import FolderStore

    return FolderStore(local_path(uri, base or Path.cwd()))


def check_store(store: Store, folder: str) -> None:
    """Claim, read and remove a key. Raises StoreUnfit where a name can be claimed twice, by two writers."""
    key = f"{folder}/check-{uuid4().hex}"
    first = store.put(key, b"first", if_absent=True)
    second = store.put(key, b"second", if_absent=True)
    found = store.get(key)
    store.delete(key)
    if not first or second or found != b"first":
        raise StoreUnfit(
            f"{key}: the store took a second write to a name that is written once, so two writers would claim one "
            f"name; it needs {CONDITIONAL}"
        )


def check_key(key: str) -> str:
    if not re.fullmatch(KEY, key):
        raise ValueError(f"bad key {key!r}: parts between '/' must not be empty, start with '.' or hold controls")
    return key


@contextmanager
def room_needed(place: str) -> Iterator[None]:
    """Say StoreFull instead of the several errors with which a full disk, quota or size limit shows itself."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise StoreFull(f"{place}: {error.strerror}; make room and start again, nothing stored is lost") from error


def encode_row(row: Mapping[str, Any]) -> bytes:
    """One line of JSON Lines, pure ASCII so that any text a model wrote survives; ValueError for NaN."""
    return json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode_row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ArtifactCorrupt(f"{where}: not a line of JSON ({error})") from error
    if not isinstance(row, dict):
        raise ArtifactCorrupt(f"{where}: a JSON object was expected, found {type(row).__name__}")
    return row


def claim_journal(store: Store, prefix: str) -> str:
    """A file of the journal that no other writer has, named so that writers sort by when they began."""
    number = len(store.children(prefix))
    while not store.put(f"{prefix}/{number:06d}.jsonl", b"", if_absent=True):
        number += 1
    return f"{prefix}/{number:06d}"


def read_journal(store: Store, prefix: str) -> Iterator[dict[str, Any]]:
    """Rows of every writer of the journal, the earliest writer first, each in its own order.

    A last line without its end was being written when its process died: it is left out. Workers that raced may have
    recorded the same work twice: keep the first of each.
    """
    for key in sorted(store.list(prefix)):
        for number, line in enumerate(store.open_lines(key), 1):
            if line.endswith(b"\n"):
                yield decode_row(line, f"{key}:{number}")
