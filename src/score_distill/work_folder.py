"""The work folder of a step: who writes which file there, and under what name. Every file appears whole.

An executor writes ``stage.json``. Each worker of the step (a rank of a trainer, a shard of a step that acts) writes
its own progress and summary; the executor reads all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from score_distill import whole_file
from score_distill.contract import Progress, StageConfig, Summary, together
from score_distill.errors import BadInput

T = TypeVar("T", Progress, Summary)
WORKER = "SCORE_WORKER"
TERMINATION_LOG = "SCORE_TERMINATION_LOG"
PROGRESS_PORT = "SCORE_PROGRESS_PORT"


def worker_of(environ: Mapping[str, str]) -> int:
    """Which worker of its step this process is: its shard, or its rank in a trainer."""
    return int(environ.get(WORKER) or environ.get("RANK") or 0)


def read_config(path: Path) -> StageConfig:
    try:
        return StageConfig.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a stage config: {error}") from error


@dataclass(frozen=True)
class WorkFolder:
    path: Path

    @property
    def config(self) -> Path:
        return self.path / "stage.json"

    def write_config(self, config: StageConfig) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        return whole_file.write(self.config, config.model_dump_json(by_alias=True, indent=1).encode())

    def last_attempt(self) -> int:
        """The attempt that was started last; 0 when there was none."""
        try:
            return StageConfig.model_validate_json(self.config.read_text(encoding="utf-8")).attempt
        except (OSError, ValueError):
            return 0

    def write_progress(self, worker: int, progress: Progress) -> None:
        whole_file.write(self.path / _name("progress", worker), progress.model_dump_json().encode())

    def read_progress(self) -> Progress | None:
        """Of all workers together; None when none has reported."""
        found = [_read(path, Progress) for path in sorted(self.path.glob("progress*.json"), key=_worker)]
        return together([one for one in found if one is not None])

    def write_summary(self, worker: int, summary: Summary) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        whole_file.write(self.path / _name("summary", worker), summary.bounded())

    def read_summaries(self) -> list[Summary]:
        """Of the workers that ended by themselves, the first worker's first."""
        found = [_read(path, Summary) for path in sorted(self.path.glob("summary*.json"), key=_worker)]
        return [one for one in found if one is not None]

    def begin(self) -> None:
        """Forget the summaries of an earlier attempt."""
        for path in self.path.glob("summary*.json"):
            path.unlink()


def report_end(config: StageConfig, summary: Summary, environ: Mapping[str, str]) -> None:
    """Leave the summary where executors look: in the work folder, and in the container's termination message."""
    folder = WorkFolder(Path(config.work))
    progress = folder.read_progress()
    if progress is not None:
        summary = summary.model_copy(update={"progress": progress.model_copy(update={"figures": {}})})
    folder.write_summary(worker_of(environ), summary)
    if path := environ.get(TERMINATION_LOG):
        Path(path).write_bytes(summary.bounded())


def _name(kind: str, worker: int) -> str:
    return f"{kind}-{worker}.json" if worker else f"{kind}.json"


def _worker(path: Path) -> int:
    return int(path.stem.partition("-")[2] or 0)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
