"""What a person sees of a run: each step with its progress and pace, each server. Data, kept in ``work/view.json``.

The runner replaces the file as things change; ``score-distill status`` reads it, also while the run is under way.
Showing it is ``display.py``.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from score_distill import whole_file
from score_distill.contract import Progress
from score_distill.report.wording import duration

StepState = Literal["done", "running", "waiting", "retrying", "failed", "interrupted"]


class StepView(BaseModel):
    """``began`` is when this attempt began, ``first`` what was done already then: the pace counts from there."""

    name: str
    state: StepState = "waiting"
    attempt: int = 0
    began: float | None = None
    ended: float | None = None
    first: int | None = None
    progress: Progress | None = None
    note: str = ""

    def pace(self, now: float) -> tuple[float | None, float | None]:
        """Units a second, and seconds left; None while nothing can be said."""
        if self.state != "running" or self.progress is None or self.began is None or self.first is None:
            return None, None
        done, seconds = self.progress.done - self.first, now - self.began
        if done <= 0 or seconds <= 0:
            return None, None
        rate = done / seconds
        return rate, None if self.progress.total is None else max(0.0, self.progress.total - self.progress.done) / rate


class View(BaseModel):
    """``pid`` and ``born`` are of the runner; together no other process has them."""

    run: str
    pid: int
    born: str | None = None
    began: float
    steps: list[StepView]
    servers: dict[str, str] = {}

    def step(self, name: str) -> StepView:
        return next(one for one in self.steps if one.name == name)

    @property
    def live(self) -> bool:
        """Whether the runner that wrote this still runs here."""
        return self.born is not None and self.born == birth(self.pid)

    def write(self, path: Path) -> None:
        whole_file.write(path, self.model_dump_json())


def birth(pid: int) -> str | None:
    """When a process was started, in ticks since boot; None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def read_view(path: Path) -> View | None:
    """The last view written; None when there is none, or none that can be read."""
    try:
        return View.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def read_progress(path: Path) -> Progress | None:
    try:
        return Progress.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def line(step: StepView, now: float) -> str:
    """A step in one line of plain text: `mentor  120/400 tasks (30 %), 2.4 tasks/s, 1 min 57 s left`."""
    parts = [f"{step.name:<12}{step.state}"]
    if step.progress and step.state in ("running", "retrying", "interrupted", "failed"):
        done, total, unit = step.progress.done, step.progress.total, step.progress.unit
        share = f"/{total:,} {unit} ({100 * done / total:.0f} %)" if total else f" {unit}"
        parts.append(f"{done:,}{share}")
    rate, left = step.pace(now)
    if rate is not None and step.progress:
        parts.append(f"{rate:.3g} {step.progress.unit}/s")
    if left is not None:
        parts.append(f"{duration(left)} left")
    if step.state == "done" and step.began and step.ended:
        parts.append(f"in {duration(step.ended - step.began)}")
    parts += [text for text in (step.progress.message if step.progress else "", step.note) if text]
    return ", ".join(parts)
