"""Results of steps: files first, `RUN/steps/STEP/manifest.json` last and only if absent.

A step is done when its manifest is there, and a manifest never changes: of two workers that raced, the first to commit
wins and the other is told. Work in flight goes to journals in `RUN/steps/STEP/journal/NAME`. What a manifest means for
the plan is not decided here.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from score_distill.artifacts.blobs import FileRef, Sha256, fetch_files, get_blob, put_blob, put_folder, read_rows
from score_distill.artifacts.store import (
    KEY,
    Appender,
    ArtifactCorrupt,
    Store,
    StoreMissing,
    check_key,
    encode_row,
    read_journal,
    room_needed,
)

FileName = Annotated[str, StringConstraints(pattern=KEY)]


class Manifest(BaseModel):
    """What a step made of what. `inputs` are digests of manifests; a file of a folder is named NAME/PATH."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    verb: str
    inputs: dict[str, Sha256]
    config_digest: str
    files: dict[FileName, FileRef]
    counts: dict[str, int]
    summary: dict[str, JsonValue]
    started: AwareDatetime
    finished: AwareDatetime
    attempt: int = Field(ge=1)
    versions: dict[str, str]

    def encode(self) -> bytes:
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1).encode()

    @property
    def digest(self) -> str:
        """Identity of the result; the `inputs` of later steps hold it."""
        return hashlib.sha256(self.encode()).hexdigest()


def manifest_key(run: str, step: str) -> str:
    return f"{run}/steps/{step}/manifest.json"


def journal_key(run: str, step: str, name: str) -> str:
    return f"{run}/steps/{step}/journal/{name}"


class StepWriter:
    """Collects the files of one step; nothing of it counts before `commit`."""

    def __init__(self, store: Store, run: str, step: str) -> None:
        self._store, self._run, self._step = store, run, step
        self._files: dict[str, FileRef] = {}

    def journal(self, name: str) -> Appender:
        return self._store.appender(journal_key(self._run, self._step, name))

    def read_journal(self, name: str) -> Iterator[dict[str, Any]]:
        """What this and earlier attempts recorded."""
        return read_journal(self._store, journal_key(self._run, self._step, name))

    def add_file(self, name: str, content: Path | bytes, rows: int | None = None) -> FileRef:
        return self._add({name: put_blob(self._store, self._run, content, rows)})[name]

    def add_rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> FileRef:
        """JSON Lines, streamed through a temporary file; equal rows in equal order give an equal file."""
        with tempfile.TemporaryDirectory() as scratch, room_needed(scratch):
            path, count = Path(scratch, "rows"), 0
            with path.open("wb") as file:
                for count, row in enumerate(rows, 1):  # noqa: B007
                    file.write(encode_row(row))
            return self.add_file(name, path, count)

    def add_tree(self, name: str, folder: Path) -> dict[str, FileRef]:
        """Every file of the folder, such as a checkpoint, by its relative path; hidden files are left out."""
        files = put_folder(self._store, self._run, folder)
        self._add({f"{name}/{path}": ref for path, ref in files.items()})
        return files

    def commit(
        self,
        *,
        verb: str,
        inputs: Mapping[str, str],
        config_digest: str,
        counts: Mapping[str, int],
        summary: Mapping[str, JsonValue],
        started: AwareDatetime,
        finished: AwareDatetime,
        attempt: int,
        versions: Mapping[str, str],
    ) -> Manifest:
        """Make the step done, unless it is; what stands then, which is another's where that came first."""
        ours = Manifest(
            step=self._step,
            verb=verb,
            inputs=dict(inputs),
            config_digest=config_digest,
            files=self._files,
            counts=dict(counts),
            summary=dict(summary),
            started=started,
            finished=finished,
            attempt=attempt,
            versions=dict(versions),
        )
        if self._store.put(manifest_key(self._run, self._step), ours.encode(), if_absent=True):
            return ours
        return read_manifest(self._store, self._run, self._step)

    def _add(self, files: dict[str, FileRef]) -> dict[str, FileRef]:
        for name in files:
            check_key(name)
        if twice := files.keys() & self._files.keys():
            raise ValueError(f"step {self._step} has a file {min(twice)} already")
        self._files |= files
        return files


class StepReader:
    """The committed result of a step; StoreMissing on first use when there is none."""

    def __init__(self, store: Store, run: str, step: str) -> None:
        self._store, self._run, self._step = store, run, step

    @cached_property
    def manifest(self) -> Manifest:
        return read_manifest(self._store, self._run, self._step)

    def read(self, name: str) -> bytes:
        return get_blob(self._store, self._run, self._file(name))

    def open_rows(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows one by one; ArtifactCorrupt may come as late as after the last, so commit nothing before that."""
        return read_rows(self._store, self._run, self._file(name))

    def has_tree(self, name: str) -> bool:
        return any(path.startswith(f"{name}/") for path in self.manifest.files)

    def fetch_tree(self, name: str, cache_dir: Path) -> Path:
        """A folder below `cache_dir` with the files of the tree, named by their content; only read it."""
        files = {path.removeprefix(f"{name}/"): ref for path, ref in self._tree(name)}
        listing = json.dumps({path: ref.sha256 for path, ref in files.items()}, sort_keys=True)
        digest = hashlib.sha256(listing.encode()).hexdigest()[:16]
        return fetch_files(self._store, self._run, files, cache_dir / f"{name}-{digest}")

    def _tree(self, name: str) -> list[tuple[str, FileRef]]:
        found = [item for item in self.manifest.files.items() if item[0].startswith(f"{name}/")]
        if not found:
            raise StoreMissing(f"step {self._step} has no folder {name}; it has {', '.join(self.manifest.files)}")
        return found

    def _file(self, name: str) -> FileRef:
        if name not in self.manifest.files:
            raise StoreMissing(f"step {self._step} has no file {name}; it has {', '.join(self.manifest.files)}")
        return self.manifest.files[name]


def read_manifest(store: Store, run: str, step: str) -> Manifest:
    key = manifest_key(run, step)
    try:
        return Manifest.model_validate_json(store.get(key))
    except ValidationError as error:
        raise ArtifactCorrupt(f"{key}: not a manifest: {error}") from error


def completed_steps(store: Store, run: str) -> dict[str, Manifest]:
    """The steps of a run that are done."""
    steps = store.children(f"{run}/steps")
    return {step: read_manifest(store, run, step) for step in steps if store.exists(manifest_key(run, step))}
