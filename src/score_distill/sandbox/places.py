"""One name for the folder of every step: what a session calls `PLACE` is the folder of the step that runs.

Each step's folder has a name nobody can guess, so a path that one step made would be no path in the next. Here, in the
session itself, that name is put in the place of `PLACE` on the way to the system, and taken out on the way back. This
confines nothing: the daemon and Landlock judge the paths that arrive.
"""

import gc
import io
import os
import posix
import sqlite3
import sys
from collections.abc import Callable, Iterator
from functools import update_wrapper
from typing import Any, Self

PLACE = "/scratch"

_ONE = (
    "access chdir chmod chown getxattr lchown listdir listxattr lstat mkdir open pathconf readlink remove removexattr "
    "rmdir scandir setxattr stat statvfs truncate unlink utime"
)
_TWO = "rename replace"
_KEYWORDS = ("path", "src", "dst", "file", "database")

_getcwd, _chdir, _open = posix.getcwd, posix.chdir, posix.open


class Places:
    """Where a session is, between its steps as well."""

    def __init__(self) -> None:
        self._folder = PLACE
        self.here = ""
        calls = [(getattr(posix, name), 1) for name in _ONE.split()]
        calls += [(getattr(posix, name), 2) for name in _TWO.split()] + [(io.open_code, 1), (sqlite3.connect, 1)]
        stand_in = {call: self._at(call, count) for call, count in calls}
        stand_in[io.open] = self._open_at()
        stand_in[posix.truncate] = self._at(_truncate, 1)
        stand_in[posix.scandir] = self._scan_at(stand_in[posix.scandir])
        stand_in[_getcwd] = lambda: self.getcwd()
        stand_in[posix.getcwdb] = lambda: os.fsencode(self.getcwd())
        put(stand_in)

    def enter(self, folder: str) -> None:
        """Be where the step before was, as far as that is there, in the folder of this step."""
        self._folder = folder
        _chdir(folder)
        if self.here:
            try:
                _chdir(f"{folder}/{self.here}")
            except OSError:
                self.here = ""

    def leave(self) -> None:
        """Note where the step ends, and be at the top."""
        try:
            here = self.getcwd()
        except OSError:  # it has been removed
            here = PLACE
        self.here = here[len(PLACE) + 1 :] if here.startswith(f"{PLACE}/") else ""
        _chdir(self._folder)

    def getcwd(self) -> str:
        here = _getcwd()
        if here == self._folder or here.startswith(f"{self._folder}/"):
            return PLACE + here[len(self._folder) :]
        return here

    def meant(self, path: Any) -> Any:
        """What the system is told for ``path``."""
        try:
            name = os.fspath(path)
        except TypeError:
            return path
        if isinstance(name, bytes):
            place, folder = os.fsencode(PLACE), os.fsencode(self._folder)
            return folder + name[len(place) :] if name == place or name.startswith(place + b"/") else path
        if name == PLACE or name.startswith(f"{PLACE}/"):
            return self._folder + name[len(PLACE) :]
        return path

    def _at(self, call: Callable[..., Any], count: int) -> Callable[..., Any]:
        def at(*args: Any, **kwargs: Any) -> Any:
            given = [self.meant(path) for path in args[:count]]
            named = {key: self.meant(value) if key in _KEYWORDS else value for key, value in kwargs.items()}
            try:
                return call(*given, *args[count:], **named)
            except OSError as error:
                self._restore(error)
                raise

        return at

    def _open_at(self) -> Callable[..., Any]:
        call = io.open

        def opener(path: Any, flags: int) -> int:
            return _open(self.meant(path), flags, 0o666)

        def at(file: Any, *args: Any, **kwargs: Any) -> Any:
            if len(args) < 7 and kwargs.get("opener") is None and self.meant(file) is not file:
                kwargs["opener"] = opener
            try:
                return call(file, *args, **kwargs)
            except OSError as error:
                self._restore(error)
                raise

        return at

    def _scan_at(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def at(path: Any = None) -> Any:
            return call(path) if self.meant(path) is path else _Entries(call(path), os.fspath(path))

        return at

    def _restore(self, error: OSError) -> None:
        """Have an error name the path as the session does."""
        for attribute in ("filename", "filename2"):
            name = getattr(error, attribute, None)
            if isinstance(name, str) and name.startswith(self._folder):
                setattr(error, attribute, PLACE + name[len(self._folder) :])


class _Entries:
    """What ``os.scandir`` gives for a path below `PLACE`."""

    def __init__(self, found: Any, top: Any) -> None:
        self._found = found
        self._top = top
        self.close = found.close

    def __iter__(self) -> Iterator["Entry"]:
        return self

    def __next__(self) -> "Entry":
        return Entry(next(self._found), self._top)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Entry:
    """One of those, with its path as the session names it."""

    def __init__(self, entry: Any, top: Any) -> None:
        self._entry = entry
        self.name = entry.name
        self.path = os.path.join(top, entry.name)

    def __fspath__(self) -> Any:
        return self.path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"


def _truncate(path: Any, length: int) -> None:
    """Through an open file, since the system's own call is not there."""
    if isinstance(path, int):
        return posix.ftruncate(path, length)
    number = _open(path, os.O_WRONLY)
    try:
        posix.ftruncate(number, length)
    finally:
        posix.close(number)


def put(stand_in: dict[Any, Any]) -> None:
    """Have each of these functions replaced by its stand-in, wherever a module or one of its tables holds it."""
    for old, new in stand_in.items():
        update_wrapper(new, old)
        del new.__wrapped__
        for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
            if old in able:
                able.add(new)
    own = {id(vars(module)) for name, module in sys.modules.items() if name.startswith("score_distill.") and module}
    for old, new in stand_in.items():
        for holder in gc.get_referrers(old):
            if type(holder) is dict and id(holder) not in own:
                holder.update({name: new for name, value in holder.items() if value is old})
