"""What every stage has around it: its config, its inputs, its writer, its progress, and the commit at the end."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from pydantic import JsonValue

from score_distill.agent.ledger import Account
from score_distill.agent.prompts import PROMPT_VERSION
from score_distill.api import kind_of, settled
from score_distill.artifacts.models import model_folder
from score_distill.artifacts.steps import Manifest, StepReader, StepWriter
from score_distill.artifacts.store import Store, StoreMissing
from score_distill.artifacts.uris import UriResolver
from score_distill.contract import Progress, Role, Served, StageConfig, Summary
from score_distill.work_folder import WorkFolder, worker_of

PROGRESS_SECONDS = 0.5


@dataclass
class StageContext:
    """One attempt at one step."""

    config: StageConfig
    store: Store
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    spent: Account = field(default_factory=Account)
    _reported: float = 0.0
    _reached: Progress | None = None

    @cached_property
    def writer(self) -> StepWriter:
        return StepWriter(self.store, self.config.run, self.config.step)

    @property
    def work(self) -> Path:
        return Path(self.config.work)

    @cached_property
    def worker(self) -> int:
        return worker_of(os.environ)

    @property
    def places(self) -> UriResolver:
        base = Path(self.config.base)
        claims = Path(os.environ.get("SCORE_CLAIMS", "/claims"))
        return UriResolver(base=base, cache=self.work.parent / "cache", claims=claims, environ=os.environ)

    @cached_property
    def day(self) -> date:
        """The day that the run began, as its first step recorded it."""
        try:
            return self.input("prepare").manifest.started.date()
        except StoreMissing:
            return self.started.date()

    def input(self, step: str) -> StepReader:
        return StepReader(self.store, self.config.run, step)

    def inputs_of(self, kind: str) -> tuple[str, ...]:
        """The inputs that are of a kind, such as mentor and mentor-2, in the order of the rounds."""
        return tuple(step for step in self.config.inputs if kind_of(step) == kind)

    def model(self, step: str) -> Path:
        """The folder of the student as ``step`` left it; "base" is the one in the manifest."""
        if step == "base":
            return model_folder(self.config.spec.student.model, self.places)
        return self.input(step).fetch_tree("model", self.work.parent / "cache")

    @cached_property
    def student(self) -> Served | None:
        """The student's server; where its base model is not on a shared disk, it is fetched for its tokenizer."""
        served = self.config.student
        if served is None or served.model_dir is not None:
            return served
        return served.model_copy(update={"model_dir": str(self.model("base"))})

    def progress(
        self,
        done: int,
        total: int | None,
        unit: str,
        message: str = "",
        *,
        figures: Mapping[str, float] | None = None,
        now: bool = False,
    ) -> None:
        """Report how far the stage is; reports that come too fast are left out unless ``now``."""
        self._reached = Progress(done=done, total=total, unit=unit)
        clock = time.monotonic()
        if not now and clock - self._reported < PROGRESS_SECONDS:
            return
        self._reported = clock
        tokens = {role: spent for role in get_args(Role) if (spent := self.spent.tokens(role))}
        told = Progress(done=done, total=total, unit=unit, message=message, figures=dict(figures or {}), tokens=tokens)
        WorkFolder(self.work).write_progress(self.worker, told)

    def finish(
        self,
        counts: Mapping[str, int],
        *,
        usage: list[dict[str, Any]] | None = None,
        problems: list[str] | None = None,
        metrics: Mapping[str, float] | None = None,
        extra: Mapping[str, JsonValue] | None = None,
        reached: Progress | None = None,
    ) -> Summary:
        """Commit the step. A worker that came second finds the first one's result standing, and reports that.

        ``reached`` is how far the step came, where this is not what the worker reported last.
        """
        reached = reached or self._reached
        summary: dict[str, JsonValue] = {
            "usage": json.loads(json.dumps(usage or [])),
            "problems": list(problems or []),
            "metrics": dict(metrics or {}),
            **({"progress": reached.model_dump(mode="json", include={"done", "total", "unit"})} if reached else {}),
            **(extra or {}),
        }
        stands = self.writer.commit(
            verb=self.config.verb,
            inputs={step: self.input(step).manifest.digest for step in self.config.inputs},
            config_digest=config_digest(self.config),
            counts=counts,
            summary=summary,
            started=self.started,
            finished=datetime.now(UTC),
            attempt=self.config.attempt,
            versions={"score-distill": version("score-distill"), "prompts": PROMPT_VERSION},
        )
        return summary_of(stands)


def summary_of(result: Manifest) -> Summary:
    """What an executor is told of a step that is done."""
    tokens: Counter[str] = Counter()
    for row in entries(result, "usage"):
        if isinstance(row, dict):
            tokens[str(row["role"])] += int(str(row["prompt"])) + int(str(row["completion"]))
    metrics = result.summary.get("metrics")
    return Summary(
        step=result.step,
        succeeded=True,
        message="; ".join(map(str, entries(result, "problems"))),
        counts=dict(result.counts),
        metrics={name: float(str(value)) for name, value in metrics.items()} if isinstance(metrics, dict) else {},
        tokens=dict(tokens),
        digest=result.digest,
        progress=Progress.model_validate(reached) if (reached := result.summary.get("progress")) else None,
    )


def entries(result: Manifest, name: str) -> list[JsonValue]:
    found = result.summary.get(name)
    return found if isinstance(found, list) else []


def config_digest(config: StageConfig) -> str:
    """What of the manifest a step's result depends on: all but where and how wide it runs."""
    basis = [config.verb, config.step, settled(config.spec)]
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()
