"""What is to be done: the manifest and what the store already holds in, the steps and the servers they need out.

Pure, and the same for both executors. Starting anything is theirs; the order of steps is ``pipeline.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from score_distill.api import DistillationRun, Gpus
from score_distill.control.estimate import Tasks, Tokens, estimate
from score_distill.control.pipeline import Step, gpus_of, steps_of

State = Literal["done", "ready", "waiting"]


@dataclass(frozen=True)
class Done:
    """What the store says of a finished step: tokens by role, and the attempts at tasks that cost them."""

    attempt: int = 1
    counts: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)


TRIED = ("teacher", ("accepted", "rejected"))
ATTEMPTED: Mapping[str, tuple[str, tuple[str, ...]]] = {"demonstrate": TRIED, "more-demos": TRIED}


def done_with(step: str, attempt: int, counts: Mapping[str, int], tokens: Mapping[str, int]) -> Done:
    """A finished step by what its summary says; where its counts tell how many attempts a role made, those too."""
    role, names = ATTEMPTED.get(step, ("", ()))
    attempts = {role: sum(counts.get(name, 0) for name in names)} if role else {}
    return Done(attempt, dict(counts), dict(tokens), attempts)


@dataclass(frozen=True)
class PlannedStep:
    """``tokens`` is what a finished step cost, or what another is estimated to cost; ``gpus`` it needs at once."""

    step: Step
    state: State
    reason: str
    tokens: Tokens
    gpus: Gpus


@dataclass(frozen=True)
class Plan:
    steps: tuple[PlannedStep, ...]

    @property
    def left(self) -> tuple[Step, ...]:
        """The steps to run, in order."""
        return tuple(one.step for one in self.steps if one.state != "done")

    @property
    def ready(self) -> tuple[Step, ...]:
        return tuple(one.step for one in self.steps if one.state == "ready")

    def tokens(self, role: Literal["teacher", "student"]) -> int:
        """Spent and estimated tokens of a role over the whole run."""
        return sum(getattr(one.tokens, role) for one in self.steps)

    def spent(self, role: Literal["teacher", "student"]) -> int:
        return sum(getattr(one.tokens, role) for one in self.steps if one.state == "done")


def plan(run: DistillationRun, done: Mapping[str, Done], tasks: Tasks | None) -> Plan:
    """The state of every step. ``tasks`` is None when nobody could count the task files: no estimates then."""
    measured = {
        role: one.tokens[role] / one.attempts[role]
        for one in done.values()
        for role in one.attempts
        if one.attempts[role] and role in one.tokens
    }
    return Plan(tuple(_planned(step, run, done, tasks, measured) for step in steps_of(run.spec)))


def _planned(
    step: Step, run: DistillationRun, done: Mapping[str, Done], tasks: Tasks | None, measured: Mapping[str, float]
) -> PlannedStep:
    gpus = gpus_of(step, run.spec)
    if (result := done.get(step.name)) is not None:
        spent = Tokens(result.tokens.get("teacher", 0), result.tokens.get("student", 0), "spent")
        return PlannedStep(step, "done", f"attempt {result.attempt} is in the store", spent, gpus)
    tokens = estimate(step, run.spec, tasks, measured) if tasks else Tokens(basis="the task files were not counted")
    missing = [name for name in step.inputs if name not in done]
    if missing:
        return PlannedStep(step, "waiting", f"waits for {', '.join(missing)}", tokens, gpus)
    return PlannedStep(step, "ready", "every input is there", tokens, gpus)
