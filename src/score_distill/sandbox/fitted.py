"""What of the standard library is fitted to a session before it is confined.

Libraries of the system that it loads only when asked are loaded, since they cannot be read later; a database locks no
file and keeps its journal in memory; an event loop needs no descriptor; and what there is not says so.
"""

import asyncio
import contextlib
import ctypes
import errno
import importlib
import importlib.util
import itertools
import mimetypes
import mmap
import os
import socket
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from score_distill.sandbox import chance, threads
from score_distill.sandbox.places import PLACE, Places, put

NO_PROCESS = "no process and no other program can be started here; do it in Python"
NO_NETWORK = "there is no network here"
NO_LINK = "only files and folders can be made here"
NO_SHARING = "memory cannot be shared here; flags=mmap.MAP_PRIVATE or access=mmap.ACCESS_COPY can be used"

_SYSTEM_LIBRARIES = ("_ssl", "_curses", "_curses_panel", "readline", "_crypt")  # modules that need them
_LOCKED = ("_gdbm", "_dbm")  # modules that lock files; shelve and dbm do without
_THREAD_BYTES = 2 << 20
_PROCESSES = (
    "fork forkpty posix_spawn posix_spawnp system execv execve execvp execvpe execl execle execlp execlpe spawnv "
    "spawnve spawnvp spawnvpe spawnl spawnle spawnlp spawnlpe pipe pipe2 memfd_create eventfd"
)


def fit() -> Places:
    """Only once, in the process from which all sessions come."""
    _unlock_databases()
    places = Places()
    for name in _SYSTEM_LIBRARIES:
        spec = importlib.util.find_spec(name)
        if spec and spec.origin and os.path.isfile(spec.origin):
            with contextlib.suppress(OSError):
                ctypes.CDLL(spec.origin)
    for name in _LOCKED:
        sys.modules[name] = None  # type: ignore[assignment]
    mimetypes.init([])
    chance.fit()
    importlib.reload(tempfile)  # it keeps calls of the system as it found them
    tempfile.tempdir = PLACE
    tempfile._name_sequence = map("{:08x}".format, itertools.count())  # type: ignore[attr-defined]
    threading.stack_size(_THREAD_BYTES)
    threads.fit()
    asyncio.set_event_loop_policy(_Policy())
    _say_what_there_is_not()
    return places


def _unlock_databases() -> None:
    libraries = ctypes.CDLL(importlib.import_module("_sqlite3").__file__)
    libraries.sqlite3_vfs_find.restype = ctypes.c_void_p
    if unlocked := libraries.sqlite3_vfs_find(b"unix-none"):
        libraries.sqlite3_vfs_register(ctypes.c_void_p(unlocked), 1)
    connect = sqlite3.connect

    def connect_unlocked(database: Any, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(database, *args, **kwargs)
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    put({connect: connect_unlocked})


class _EventLoop(asyncio.BaseEventLoop):
    """A loop for coroutines and threads; there is nothing else to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._woken = threading.Event()
        self._selector = self

    def select(self, timeout: float | None) -> list[Any]:
        self._woken.wait(timeout)
        self._woken.clear()
        return []

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        self._woken.set()

    async def _make_subprocess_transport(self, *_: Any, **__: Any) -> NoReturn:
        raise PermissionError(errno.EPERM, NO_PROCESS)

    async def create_server(self, *_: Any, **__: Any) -> NoReturn:
        raise PermissionError(errno.EPERM, NO_NETWORK)


class _Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = _EventLoop


def _say_what_there_is_not() -> None:
    for name in _PROCESSES.split():
        if hasattr(os, name):
            _refuse(NO_PROCESS, name, os, sys.modules["posix"])
    _refuse(NO_PROCESS, "fork_exec", importlib.import_module("_posixsubprocess"))
    for name in ("symlink", "link", "mkfifo", "mknod"):
        _refuse(NO_LINK, name, os, sys.modules["posix"])
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo", "socketpair"):
        _refuse(NO_NETWORK, name, socket, sys.modules["_socket"])
    opened = socket.socket.__init__

    def open_socket(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) < 4 and kwargs.get("fileno") is None:
            raise PermissionError(errno.EPERM, NO_NETWORK)
        opened(self, *args, **kwargs)

    socket.socket.__init__ = open_socket  # type: ignore[method-assign]
    shared: Any = importlib.import_module("_multiprocessing")
    shared.SemLock = type("SemLock", (shared.SemLock,), {"__new__": _refusal(NO_PROCESS)})
    mmap.mmap = _PrivateMap  # type: ignore[misc]


class _PrivateMap(mmap.mmap):
    """A file that is mapped to be read is the same mapped privately."""

    def __new__(
        cls, fileno: int, length: int, flags: int = mmap.MAP_SHARED, prot: int = mmap.PROT_READ | mmap.PROT_WRITE,
        access: int = mmap.ACCESS_DEFAULT, offset: int = 0,
    ) -> "_PrivateMap":  # fmt: skip
        if access == mmap.ACCESS_READ:
            flags, prot, access = mmap.MAP_PRIVATE, mmap.PROT_READ, mmap.ACCESS_DEFAULT
        if access == mmap.ACCESS_WRITE or (access == mmap.ACCESS_DEFAULT and flags & mmap.MAP_SHARED):
            raise PermissionError(errno.EPERM, NO_SHARING)
        if access == mmap.ACCESS_DEFAULT:
            return super().__new__(cls, fileno, length, flags, prot, offset=offset)
        return super().__new__(cls, fileno, length, access=access, offset=offset)


_PrivateMap.__name__ = _PrivateMap.__qualname__ = "mmap"
_PrivateMap.__module__ = "mmap"


def _refuse(words: str, name: str, *modules: Any) -> None:
    refusal = _refusal(words)
    refusal.__name__ = refusal.__qualname__ = name
    refusal.__module__ = modules[0].__name__
    for module in modules:
        setattr(module, name, refusal)


def _refusal(words: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise PermissionError(errno.EPERM, words)

    return refuse
