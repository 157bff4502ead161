"""Where a run happens on this machine: the run, its folder, its store and what the machine has. Pure but for opening.

The folder of a run holds ``work`` (scratch of steps, cache of models), ``logs`` and ``report``; when the store is a
folder here, it is the run's folder in the store, so that everything of a run is in one place.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from score_distill.api import DistillationRun
from score_distill.artifacts.store import Store, open_store
from score_distill.artifacts.uris import UriResolver, local_path, scheme
from score_distill.errors import BadInput
from score_distill.executors.local import keys
from score_distill.machine import Machine

SITE = "site.json"


@dataclass(frozen=True)
class RunPaths:
    """``base`` resolves relative URIs of the manifest, ``folder`` is the run's own, ``environ`` the user's."""

    run: DistillationRun
    base: Path
    folder: Path
    environ: Mapping[str, str]
    machine: Machine

    @property
    def key(self) -> str:
        """The run's key in its store."""
        return self.run.metadata.name

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def report(self) -> Path:
        return self.folder / "report"

    @property
    def store_uri(self) -> str:
        """The store's URI, absolute."""
        uri = self.run.spec.artifacts.uri
        return uri if scheme(uri) == "s3" else str(local_path(uri, self.base).resolve())

    @property
    def record_key(self) -> str:
        """Of the manifest that the results in the store were made with."""
        return f"{self.key}/run.json"

    def record(self) -> None:
        """Write the manifest to the store, for differences from it to be seen when the run goes on."""
        self.store.put(self.record_key, self.run.model_dump_json(by_alias=True, indent=1).encode())

    def recorded(self) -> DistillationRun:
        """Raises StoreMissing when nothing was recorded."""
        return DistillationRun.model_validate_json(self.store.get(self.record_key))

    def remember(self) -> None:
        """Leave in the run's folder what ``remembered`` needs."""
        self.work.mkdir(parents=True, exist_ok=True)
        told = {"manifest": self.run.model_dump(mode="json", by_alias=True), "base": str(self.base)}
        (self.work / SITE).write_text(json.dumps(told))

    @cached_property
    def store(self) -> Store:
        try:
            return open_store(self.store_uri, self.store_environ)
        except ValueError as error:
            raise BadInput(f"spec.artifacts.uri: {error}") from error

    @property
    def store_environ(self) -> dict[str, str]:
        return keys.store_environ(self.run.spec.artifacts.credentials_secret, self.environ)

    @property
    def places(self) -> UriResolver:
        claims = Path(self.environ.get("SCORE_CLAIMS", "/claims"))
        return UriResolver(base=self.base, cache=self.work / "cache", claims=claims, environ=self.environ)


def run_paths(
    run: DistillationRun, base: Path, folder: Path | None, environ: Mapping[str, str], machine: Machine
) -> RunPaths:
    """The site of a run; without ``folder`` beside its artifacts, or in ./runs/NAME when those are not on this machine.

    Raises BadInput when the store's URI is neither s3:// nor local.
    """
    uri = run.spec.artifacts.uri
    if folder is None and scheme(uri) == "s3":
        folder = Path("runs", run.metadata.name)
    elif folder is None:
        try:
            folder = local_path(uri, base) / run.metadata.name
        except ValueError as error:
            raise BadInput(f"spec.artifacts.uri: {error}") from error
    return RunPaths(run, base.resolve(), folder.resolve(), environ, machine)


def remembered(folder: Path, environ: Mapping[str, str], machine: Machine) -> RunPaths:
    """The site of a run that was begun in ``folder``; BadInput when none was."""
    try:
        told = json.loads((folder / "work" / SITE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{folder}: no run was begun here; give its manifest, or the folder that `run` named, such as runs/NAME"
        ) from error
    return run_paths(DistillationRun.model_validate(told["manifest"]), Path(told["base"]), folder, environ, machine)


def begun_in(folder: Path, environ: Mapping[str, str], machine: Machine) -> list[RunPaths]:
    """The sites of the runs that were begun in folders of this one, by name; BadInput when it is no folder."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; give the one in which runs have theirs")
    found = sorted(path.parents[1] for path in folder.glob(f"*/work/{SITE}"))
    return [remembered(one, environ, machine) for one in found]
