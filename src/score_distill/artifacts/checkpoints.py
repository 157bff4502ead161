"""Checkpoints of a step in the store, for a machine that has none: `RUN/steps/STEP/checkpoints/NNNNNNNN.json`.

Every worker puts its files and says which they are in `NNNNNNNN/WORKER.json`; the record that joins them is written
last, and before it the checkpoint is not there. Files that only removed records name are removed with them; what a
worker uploaded when it was killed, before it could say so, stays.
"""

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from score_distill.artifacts.blobs import FileRef, blob_key, fetch_files, put_folder
from score_distill.artifacts.steps import FileName, completed_steps
from score_distill.artifacts.store import ArtifactCorrupt, Store, StoreMissing

_RECORD = re.compile(r"\d{8}\.json")
_log = logging.getLogger(__name__)


class Record(BaseModel):
    """A checkpoint, or one worker's share of it: who may go on from it, and its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = Field(ge=0)
    identity: str
    workers: int = Field(ge=1)
    files: dict[FileName, FileRef]


class StoredCheckpoints:
    """Of one step of a run; all its workers may each have one of these."""

    def __init__(self, store: Store, run: str, step: str) -> None:
        self._store, self._run = store, run
        self.place = f"{run}/steps/{step}/checkpoints"

    def identities(self) -> dict[int, str]:
        """What each checkpoint belongs to, by its number; one that cannot be read is left out, and that is said."""
        return {record.step: record.identity for record in filter(None, map(self._told, self._keys()))}

    def put(self, number: int, identity: str, worker: int, workers: int, folder: Path) -> None:
        """Store the files of one worker; they count when all have done so and one of them called ``seal``."""
        files = put_folder(self._store, self._run, folder)
        record = Record(step=number, identity=identity, workers=workers, files=files)
        self._store.put(self._share(number, worker), record.model_dump_json().encode())

    def seal(self, number: int, workers: int, keep: int) -> None:
        """Make the checkpoint be there, and all but the ``keep`` newest go."""
        shares = [self._read(self._share(number, worker)) for worker in range(workers)]
        files = {name: ref for share in shares for name, ref in share.files.items()}
        whole = shares[0].model_copy(update={"files": files})
        self._store.put(self._key(number), whole.model_dump_json().encode())
        self._keep(self._keys()[-keep:])

    def fetch(self, number: int, folder: Path, wanted: Callable[[str], bool]) -> bool:
        """Make the folder hold the wanted files, each verified; False when one is gone or changed, and that is said."""
        try:
            record = self._read(self._key(number))
            fetch_files(self._store, self._run, {n: ref for n, ref in record.files.items() if wanted(n)}, folder)
        except (ArtifactCorrupt, StoreMissing) as error:
            _log.warning("checkpoint %d in the store is not used: %s", number, error)
            return False
        return True

    def clear(self) -> None:
        """Remove them all, and the files that no result of the run names."""
        self._keep([])

    def _keep(self, kept: list[str]) -> None:
        """Records go first: killed in between, this leaves files that nobody names, and no record without its files."""
        gone = [key for key in self._store.list(self.place) if key not in kept]
        if not gone:
            return
        unnamed = _digests(filter(None, map(self._told, gone))) - _digests(map(self._read, kept))
        for result in completed_steps(self._store, self._run).values():
            unnamed -= {ref.sha256 for ref in result.files.values()}
        for key in (*gone, *(blob_key(self._run, digest) for digest in unnamed)):
            self._store.delete(key)

    def _keys(self) -> list[str]:
        """Of the records of whole checkpoints, oldest first."""
        return sorted(key for key in self._store.list(self.place) if _RECORD.fullmatch(key[len(self.place) + 1 :]))

    def _key(self, number: int) -> str:
        return f"{self.place}/{number:08d}.json"

    def _share(self, number: int, worker: int) -> str:
        return f"{self.place}/{number:08d}/{worker}.json"

    def _read(self, key: str) -> Record:
        try:
            return Record.model_validate_json(self._store.get(key))
        except ValidationError as error:
            raise ArtifactCorrupt(f"{key}: not a record of a checkpoint: {error}") from error

    def _told(self, key: str) -> Record | None:
        try:
            return self._read(key)
        except (ArtifactCorrupt, StoreMissing) as error:
            _log.warning("a checkpoint in the store is not used: %s", error)
            return None


def _digests(records: Iterator[Record]) -> set[str]:
    return {ref.sha256 for record in records for ref in record.files.values()}
