"""Readers for files, databases and threads, of which a part is the machine's and does not count."""

import _io
import _thread
import concurrent.futures.thread
import io
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from typing import Any

from score_distill.sandbox.kinds import Kind, Parts, Read, Unknown, got, is_by_name, members_of, nothing
from score_distill.sandbox.places import Entry


def types() -> Iterator[tuple[Any, Kind]]:
    yield from ((base, Kind(_in_memory(base), whole=True)) for base in (io.StringIO, io.BytesIO))
    yield io.FileIO, Kind(_raw_file, exact=True)
    yield io.TextIOWrapper, Kind(_text_file, whole=True)
    yield from ((file, Kind(lambda value: _file(value, value.raw), exact=True, whole=True)) for file in _BUFFERED)
    yield _io._IOBase, Kind(nothing)
    yield from ((entry, Kind(_entry, whole=True)) for entry in (os.DirEntry, Entry))
    yield sqlite3.Connection, Kind(_database)
    cursor = ("connection", "description", "lastrowid", "rowcount", "row_factory", "arraysize")
    yield sqlite3.Cursor, Kind(got(*cursor)(sqlite3.Cursor))
    yield sqlite3.Row, Kind(lambda value: ((), [tuple(value), value.keys()]), exact=True)
    yield threading.Thread, Kind(_thread_parts, whole=True)
    yield concurrent.futures.thread.ThreadPoolExecutor, Kind(_pool, exact=True, whole=True)
    yield _thread._local, Kind(lambda value: ((), [value.__dict__]), exact=True, whole=True)


def _in_memory(base: Any) -> Read:
    def parts(value: Any) -> Parts:
        return (), [] if members_of(base)["closed"].__get__(value) else [base.__getstate__(value)]

    return parts


def _raw_file(value: io.FileIO) -> Parts:
    if value.closed:
        return (b"closed",), []
    return (value.mode.encode(),), [value.tell() if value.seekable() else None]


def _file(value: Any, raw: Any) -> Parts:
    """A file stands where it stands; what it has yet to write, nobody can see until it is written."""
    if is_by_name(type(raw)) and raw.closed:
        return (b"closed",), [raw.name]
    if type(raw) is not io.FileIO:
        raise Unknown("a file of the session's own")
    if raw.writable():
        value.flush()
    return (), [raw, value.tell()]


def _text_file(value: io.TextIOWrapper) -> Parts:
    for name in ("stdin", "stdout", "stderr"):
        if value is getattr(sys, name) or value is getattr(sys, f"__{name}__"):
            return (name.encode(),), []
    if not is_by_name(type(value)):
        raise Unknown("a file of the session's own")
    buffer: Any = value.buffer
    if type(buffer) in _BUFFERED:
        content, children = _file(value, buffer.raw)
        return content, [*children, value.encoding, value.errors]
    if is_by_name(type(buffer)) and buffer.closed:
        return (b"closed",), []
    raise Unknown("a file of the session's own")


_BUFFERED = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)


def _entry(value: Any) -> Parts:
    return (os.fsencode(value.path), b"%d" % value.is_dir(follow_symlinks=False)), []


def _database(value: sqlite3.Connection) -> Parts:
    """An open one can have what no caller sees, such as functions, attached files, or changes yet to be made."""
    try:
        members_of(sqlite3.Connection)["total_changes"].__get__(value)
    except sqlite3.ProgrammingError:
        return (b"closed",), []
    raise Unknown("an open database")


def _thread_parts(value: threading.Thread) -> Parts:
    """Without what the machine gave it."""
    attributes = object.__getattribute__(value, "__dict__")
    return (), [{name: kept for name, kept in attributes.items() if name not in _OF_THE_MACHINE}]


_OF_THE_MACHINE = frozenset(
    {"_ident", "_native_id", "_tstate_lock", "_is_stopped", "_handle", "_os_thread_handle"}
    | {"_stderr", "_invoke_excepthook"}
)


def _pool(value: Any) -> Parts:
    """How many threads it came to have was chance, and no longer counts when it is shut down."""
    if not value._shutdown:
        raise Unknown("a pool of threads")
    return (b"shut down",), []
