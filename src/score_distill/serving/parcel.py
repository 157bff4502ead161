"""A checkpoint on its way over the network: its name, the stream that it is sent as, and a safe way to unpack that.

The name is a digest of what is in it, so whoever unpacks a parcel can tell that it came whole.
"""

import asyncio
import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import IO

CHUNK = 1 << 20
MOST_FILES = 1000


class BadParcel(ValueError):
    """What arrived is not a checkpoint that may be unpacked here."""


def digest(folder: Path) -> str:
    """32 hexadecimal digits that say which names and bytes are in a folder; hidden files do not count."""
    found = {}
    for path in _files(folder):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:32]


async def packed(folder: Path) -> AsyncIterator[bytes]:
    """The folder's files as a tar; links in it are followed."""
    for path in _files(folder):
        with path.open("rb") as file:
            about = tarfile.TarInfo(path.relative_to(folder).as_posix())
            about.size = os.fstat(file.fileno()).st_size
            yield about.tobuf()
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                yield chunk
        yield bytes(-about.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


async def unpack(chunks: AsyncIterator[bytes], folder: Path, most_bytes: int) -> None:
    """Write a tar's files into a new folder as they arrive; BadParcel for anything but plain files inside it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    read, write = os.pipe()
    with os.fdopen(read, "rb") as source:
        reading = asyncio.ensure_future(asyncio.to_thread(_extract, source, folder, most_bytes))
        try:
            with os.fdopen(write, "wb", buffering=0) as pipe:
                async for chunk in chunks:
                    await asyncio.to_thread(_write, pipe, chunk)
        finally:
            await reading


def _extract(source: IO[bytes], folder: Path, most_bytes: int) -> None:
    """Reads to the end whatever happens, so that the writer of the pipe never waits for ever."""
    left, files = most_bytes, 0
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for one in tar:
                left, files = left - one.size, files + 1
                path = PurePosixPath(one.name)
                if not one.isreg() or path.is_absolute() or ".." in path.parts:
                    raise BadParcel(f"{one.name!r} is not a plain file inside the folder")
                if left < 0 or files > MOST_FILES:
                    raise BadParcel(f"more than {most_bytes} bytes or {MOST_FILES} files")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(one)
                assert content is not None
                with target.open("xb") as file:
                    shutil.copyfileobj(content, file, CHUNK)
    except (tarfile.TarError, FileExistsError, NotADirectoryError) as error:
        raise BadParcel(f"not a tar of files: {error}") from error
    finally:
        while source.read(CHUNK):
            pass


def _write(pipe: IO[bytes], chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[pipe.write(view) :]


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
