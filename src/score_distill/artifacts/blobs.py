"""Content-addressed files of a run: `RUN/objects/sha256/AA/DIGEST`, stored once, verified whenever they are read.

Nothing here knows about steps; a `FileRef` in a manifest (or in a journal, for work in flight) is what keeps a blob
reachable. A blob that is not what its name says gives ArtifactCorrupt with its key.
"""

import fcntl
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from score_distill.artifacts.store import ArtifactCorrupt, Store, StoreMissing, decode_row

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class FileRef(BaseModel):
    """A file by its content; `rows` when it is JSON Lines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    size: int = Field(ge=0)
    rows: int | None = Field(None, ge=0)


def blob_key(run: str, digest: str) -> str:
    return f"{run}/objects/sha256/{digest[:2]}/{digest}"


def put_blob(store: Store, run: str, data: bytes | Path, rows: int | None = None) -> FileRef:
    """Store the content unless the run has it; the file must not change meanwhile."""
    digest = _sha256(data) if isinstance(data, Path) else hashlib.sha256(data).hexdigest()
    size = data.stat().st_size if isinstance(data, Path) else len(data)
    key = blob_key(run, digest)
    if not store.exists(key):
        store.put(key, data, if_absent=True)
    return FileRef(sha256=digest, size=size, rows=rows)


def put_folder(store: Store, run: str, folder: Path) -> dict[str, FileRef]:
    """Every file below the folder by its relative path; hidden files and empty folders are left out."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: a folder was expected")
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    visible = {name: path for name, path in paths.items() if not any(part.startswith(".") for part in name.parts)}
    return {name.as_posix(): put_blob(store, run, path) for name, path in visible.items()}


def get_blob(store: Store, run: str, ref: FileRef) -> bytes:
    return b"".join(read_lines(store, run, ref))


def read_lines(store: Store, run: str, ref: FileRef) -> Iterator[bytes]:
    """The blob line by line; a wrong content is known at its end, so act on nothing before that for good."""
    key, digest = blob_key(run, ref.sha256), hashlib.sha256()
    try:
        for line in store.open_lines(key):
            digest.update(line)
            yield line
    except StoreMissing as error:
        raise ArtifactCorrupt(f"{key}: a manifest names it but it is gone") from error
    if digest.hexdigest() != ref.sha256:
        raise ArtifactCorrupt(f"{key}: the content has sha256 {digest.hexdigest()}")


def read_rows(store: Store, run: str, ref: FileRef) -> Iterator[dict[str, Any]]:
    key = blob_key(run, ref.sha256)
    for number, line in enumerate(read_lines(store, run, ref), 1):
        yield decode_row(line, f"{key}:{number}")


def fetch_files(store: Store, run: str, files: Mapping[str, FileRef], folder: Path) -> Path:
    """Make the folder hold the files, each verified; what is right already is kept.

    Safe when several processes do it at once, and after one was killed half-way. The files may share their bytes with
    the store: only read them.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, ref in files.items():
            path = folder / name
            if not _intact(path, ref):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                _download(store, blob_key(run, ref.sha256), path)
                if not _intact(path, ref):
                    path.unlink()
                    raise ArtifactCorrupt(f"{blob_key(run, ref.sha256)}: the content is not what its name says")
    return folder


def _download(store: Store, key: str, path: Path) -> None:
    try:
        store.download(key, path)
    except StoreMissing as error:
        raise ArtifactCorrupt(f"{key}: a manifest names it but it is gone") from error


def _intact(path: Path, ref: FileRef) -> bool:
    return path.is_file() and path.stat().st_size == ref.size and _sha256(path) == ref.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
