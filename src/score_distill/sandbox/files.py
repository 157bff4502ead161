"""File calls of a session, done for it by the daemon: only inside the step's folder, only so many, only so much.

The path is read once from the session's memory, made absolute against the asker's own folder as the kernel knows it,
and must lie below the step's folder. No symbolic or hard link can ever be made there, so a path means one file.
"""

import errno
import itertools
import os
import shutil
import stat
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from score_distill.sandbox.descriptors import deleted
from score_distill.sandbox.limits import Limits

_AT_FDCWD = 0xFFFFFF9C
_AT_REMOVEDIR = 0x200
_PATH_BYTES = 4096
_PAGE = 4096
_CALLS = 40  # that change files, of a step, for each entry that its folder may have
_FILE_MODE, _FOLDER_MODE = 0o444, 0o755  # what a session and its daemon need to read a folder and to remove it
_MOST_MODE = 0o755
_TIMES = struct.Struct("4q")
_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
_FLAGS = os.O_ACCMODE | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND
_ABUSE = 1000  # calls that are refused, of a step
_USUAL = {errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY}  # what honest code tries
_DEEPEST, _LONGEST = 64, 1024  # folders, and bytes of a path below the step's folder; what copies a tree can walk it


class Folder:
    """The folder of one running step: so many bytes and entries, and forty times as many calls that change it.

    It is walked once; from then on entries are counted as they change, and files that were opened for writing are
    known by their paths. One of them that the step deletes is moved out of its sight until `close`: it may still be
    open there, grow, and counts like any other.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self._limits = limits
        self._left = _CALLS * max(1, limits.files)
        self._refused = 0
        found = usage(path)
        self._entries, self._before = found.entries, found.size
        self._written: set[str] = set()
        self._deleted = deleted(path)
        self._numbers = itertools.count()

    @property
    def size(self) -> int:
        """Bytes of the files from before that the step has not opened, and of all that it has."""
        return self._before + sum(os.lstat(path).st_size for path in self._written)

    @property
    def had_files(self) -> bool:
        """Whether the step can have had a file of the folder open."""
        return bool(self._before or self._written)

    def close(self) -> None:
        shutil.rmtree(self._deleted, ignore_errors=True)

    @property
    def abused(self) -> bool:
        """Whether the step keeps on calling long after it was told that it may not, or that there is no more."""
        return self._refused > _ABUSE

    def perform(self, pid: int, call: str, arguments: list[int]) -> int | None:
        """Do ``call`` as ``pid`` asked; the descriptor of an opened file. OSError is for the asker."""
        try:
            return self._perform(pid, call, arguments)
        except OSError as error:
            self._refused += error.errno not in _USUAL
            raise

    def _perform(self, pid: int, call: str, arguments: list[int]) -> int | None:
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.ENOSPC, "too many file calls")
        first, second, third = arguments[0] & 0xFFFFFFFF, arguments[1], arguments[2]
        match call:
            case "openat":
                return self._open(pid, first, second, third & 0xFFFFFFFF)
            case "mkdir":
                self._mkdir(self._inside(pid, _AT_FDCWD, arguments[0]))
            case "mkdirat":
                self._mkdir(self._inside(pid, first, second))
            case "unlink" | "rmdir":
                self._remove(os.rmdir if call == "rmdir" else os.unlink, self._inside(pid, _AT_FDCWD, arguments[0]))
            case "unlinkat":
                self._remove(os.rmdir if third & _AT_REMOVEDIR else os.unlink, self._inside(pid, first, second))
            case "rename":
                self._rename(pid, (_AT_FDCWD, arguments[0]), (_AT_FDCWD, second))
            case "renameat" | "renameat2":
                if call == "renameat2" and arguments[4]:
                    raise OSError(errno.EINVAL, "flags")
                self._rename(pid, (first, second), (third & 0xFFFFFFFF, arguments[3]))
            case "chmod":
                self._set_mode(self._own(pid, _AT_FDCWD, arguments[0]), second)
            case "fchmod":
                self._set_mode(self._own(pid, first, 0), second)
            case "fchmodat":
                self._set_mode(self._own(pid, first, second), third)
            case "utimensat":
                self._set_times(pid, self._own(pid, first, second), third)
        return None

    def _own(self, pid: int, base: int, path: int) -> str:
        """The file of this folder that is meant by a path, or without one by a descriptor; no other is its owner's."""
        try:
            if path or base == _AT_FDCWD:
                return self._inside(pid, base, path)
            meant = os.readlink(f"/proc/{pid}/fd/{base}")
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise
            raise OSError(errno.EPERM, "no file of the scratch folder") from None
        if not meant.startswith(f"{self.path}/"):
            raise OSError(errno.EPERM, "no file of the scratch folder")
        return meant

    def _set_mode(self, path: str, mode: int) -> None:
        """Only what is safe to keep: it stays readable to the session, and its owner's alone to write."""
        mode &= 0xFFFF
        if mode & ~0o777:
            raise OSError(errno.EPERM, "no bits but those of reading, writing and executing")
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        os.chmod(path, mode & _MOST_MODE | (_FOLDER_MODE if is_folder else _FILE_MODE))

    def _set_times(self, pid: int, path: str, times: int) -> None:
        found, now = os.stat(path), time.time_ns()
        if not times:
            os.utime(path)
            return
        values = _TIMES.unpack(_memory(pid, times, _TIMES.size))
        kept = {_UTIME_NOW: (now, now), _UTIME_OMIT: (found.st_atime_ns, found.st_mtime_ns)}
        chosen = [
            kept[part][at] if part in kept else values[2 * at] * 1_000_000_000 + part
            for at, part in enumerate((values[1], values[3]))
        ]
        try:
            os.utime(path, ns=(chosen[0], chosen[1]))
        except OverflowError:
            raise OSError(errno.EINVAL, "times") from None

    def _open(self, pid: int, base: int, path: int, flags: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "O_TMPFILE")
        if _text(pid, path) == os.devnull:
            return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        meant = self._inside(pid, base, path)
        existed = os.path.lexists(meant)
        size = os.lstat(meant).st_size if existed else 0
        self._check_room(new=not existed)
        opened = os.open(meant, flags & _FLAGS | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self._entries += not existed
        if meant not in self._written:
            self._written.add(meant)
            self._before -= size
        return opened

    def _mkdir(self, path: str) -> None:
        self._check_room(new=True)
        os.mkdir(path, 0o755)
        self._entries += 1

    def _remove(self, remove: Callable[[str], None], path: str) -> None:
        if remove is os.unlink and path in self._written:
            self._set_aside(path)
        else:
            remove(path)
        self._entries -= 1

    def _set_aside(self, path: str) -> None:
        """Delete a file that was written, as the step sees it."""
        self._deleted.mkdir(mode=0o700, exist_ok=True)
        self._move(path, str(self._deleted / str(next(self._numbers))))

    def _move(self, source: str, target: str) -> None:
        os.rename(source, target)
        moved = {path for path in self._written if path == source or path.startswith(f"{source}/")}
        self._written = self._written - moved | {target + path.removeprefix(source) for path in moved}

    def _check_room(self, *, new: bool) -> None:
        if self.size >= self._limits.scratch_bytes or (new and self._entries >= self._limits.files):
            raise OSError(errno.ENOSPC, "the scratch folder is full")

    def _rename(self, pid: int, old: tuple[int, int], new: tuple[int, int]) -> None:
        source, target = self._inside(pid, *old), self._inside(pid, *new)
        is_folder = stat.S_ISDIR(os.lstat(source).st_mode)
        if is_folder:
            for path in _below(source):
                self._check_path(target + path.removeprefix(source))
        replaced = os.path.lexists(target) and not os.path.samefile(source, target)
        if replaced and not is_folder and target in self._written:
            self._set_aside(target)
        self._move(source, target)
        self._entries -= replaced

    def _inside(self, pid: int, base: int, path: int) -> str:
        """The path that ``pid`` means, if it lies below this folder."""
        folder = os.readlink(f"/proc/{pid}/cwd" if base == _AT_FDCWD else f"/proc/{pid}/fd/{base}")
        meant = os.path.normpath(os.path.join(folder, _text(pid, path)))
        if not meant.startswith(f"{self.path}/"):
            raise OSError(errno.EACCES, "outside the scratch folder")
        self._check_path(meant)
        return meant

    def _check_path(self, path: str) -> None:
        below = path.removeprefix(f"{self.path}/")
        if below.count("/") >= _DEEPEST or len(os.fsencode(below)) > _LONGEST:
            raise OSError(errno.ENAMETOOLONG, "path")


def _text(pid: int, address: int) -> str:
    """The string at ``address`` of the asker; it waits in the call, and was read before it is judged."""
    data = b""
    while b"\0" not in data:
        if len(data) >= _PATH_BYTES:
            raise OSError(errno.ENAMETOOLONG, "path")
        at = address + len(data)
        data += _memory(pid, at, _PAGE - at % _PAGE)
    return os.fsdecode(data[: data.index(b"\0")])


def _memory(pid: int, address: int, size: int) -> bytes:
    """So many bytes at ``address`` of the asker."""
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(memory, size, address)
    except (OSError, OverflowError):  # where no process has memory
        data = b""
    finally:
        os.close(memory)
    if len(data) != size:
        raise OSError(errno.EFAULT, "address")
    return data


@dataclass(frozen=True)
class Usage:
    """What lies below a folder: entries, and bytes as the file system counts them."""

    entries: int
    size: int

    @property
    def disk(self) -> int:
        """Bytes that it can take on a disk, where the smallest entry takes a block."""
        return self.size + self.entries * _PAGE


def usage(folder: Path) -> Usage:
    sizes = [os.lstat(path).st_size for path in _below(str(folder))]
    return Usage(len(sizes), sum(sizes))


def _below(folder: str) -> Iterator[str]:
    """Every path below a folder."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield os.path.join(place, name)
