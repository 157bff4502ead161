"""A store in a folder: the embedded default, and what runs on a shared volume.

Files appear whole, by link or rename from `.tmp/` after an fsync. What a killed writer left in `.tmp/` is removed by
the next process that writes: living writers hold a lock on their file. Journals are one O_APPEND file per writer,
safe against the death of the process at once and against the loss of the machine from `flush` on.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Self

from score_distill.artifacts.store import (
    StoreDenied,
    StoreMissing,
    check_key,
    claim_journal,
    encode_row,
    room_needed,
)


class FolderStore:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming: Path | None = None

    def get(self, key: str) -> bytes:
        with self._errors(key):
            return self._path(key).read_bytes()

    def open_lines(self, key: str) -> Iterator[bytes]:
        with self._errors(key), self._path(key).open("rb") as file:
            yield from file

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        path = self._path(key)
        if if_absent and path.exists():
            return False
        source = data.open("rb") if isinstance(data, Path) else BytesIO(data)
        with source, self._errors(key), _locked_new(self._swept()) as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                (os.link if if_absent else os.replace)(file.name, path)
            except FileExistsError:
                return False
            _fsync_folder(path.parent)
        return True

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str) -> Iterator[str]:
        for name in self._names(prefix):
            key = f"{prefix}/{name}" if prefix else name
            if name.endswith("/"):
                yield from self.list(key[:-1])
            else:
                yield key

    def children(self, prefix: str) -> tuple[str, ...]:
        return tuple(name[:-1] for name in self._names(prefix) if name.endswith("/"))

    def delete(self, prefix: str) -> None:
        path = self._path(prefix)
        with self._errors(prefix):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def download(self, key: str, path: Path) -> None:
        path.unlink(missing_ok=True)
        with self._errors(key):
            try:
                os.link(self._path(key), path)
            except FileNotFoundError:
                raise
            except OSError:
                shutil.copyfile(self._path(key), path)

    def appender(self, key_prefix: str) -> "FolderAppender":
        return FolderAppender(self._path(claim_journal(self, key_prefix) + ".jsonl"))

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _swept(self) -> Path:
        """The folder for files in the making, cleared of what the dead left there."""
        if self._incoming is None:
            self._incoming = self.root / ".tmp"
            self._incoming.mkdir(parents=True, exist_ok=True)
            _sweep(self._incoming)
        return self._incoming

    def _names(self, prefix: str) -> tuple[str, ...]:
        """What is in the folder, hidden names left out and '/' after each folder, in the order of whole keys."""
        try:
            with os.scandir(self._path(prefix) if prefix else self.root) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
                return tuple(sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in visible))
        except (FileNotFoundError, NotADirectoryError):
            return ()

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            with room_needed(f"{self.root}: {key}"):
                yield
        except FileNotFoundError as error:
            raise StoreMissing(f"{error.filename}: no such file (key {key})") from error
        except PermissionError as error:
            raise StoreDenied(f"{error.filename}: {error.strerror}; uid {os.getuid()} needs access") from error


class FolderAppender:
    """A row that cannot be written whole is taken back, so that no later row is glued to half of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def append(self, record: Mapping[str, Any]) -> None:
        line = encode_row(record)
        size = os.fstat(self._file).st_size
        with room_needed(str(self._path)):
            try:
                written = os.write(self._file, line)
                while written < len(line):
                    written += os.write(self._file, line[written:])
            except OSError:
                os.ftruncate(self._file, size)
                raise

    def flush(self) -> None:
        with room_needed(str(self._path)):
            os.fsync(self._file)

    def close(self) -> None:
        if self._file >= 0:
            self.flush()
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextmanager
def _locked_new(folder: Path) -> Iterator[IO[bytes]]:
    """A new file that `_sweep` leaves alone while this process lives; its name is gone at the end."""
    while True:
        file = tempfile.NamedTemporaryFile(dir=folder, delete=False)  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()
    with file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    for path in folder.iterdir():
        try:
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except (FileNotFoundError, BlockingIOError, PermissionError):
            continue


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
