"""What is to be done next with a run: start a step, wait, stop for a reason, or nothing. Pure.

Both executors call ``decide`` with what they observe, act on the answer, and observe again. Attempts, progress made,
classes of failure, back-off, budget and changed manifests are weighed here and nowhere else.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from score_distill.api import DistillationRun
from score_distill.contract import CONTROLS, Summary
from score_distill.control.pipeline import Need, Step
from score_distill.control.plan import Done, Plan, plan
from score_distill.errors import Exit

TRIES = 6
SERVERS: frozenset[Need] = frozenset({"teacher", "student", "sandbox"})


@dataclass(frozen=True)
class Ending:
    """How an attempt ended without a result. ``code`` is its exit code, 128 + n when signal n ended it.

    ``cause`` is the name of the error, where the stage could say it.
    """

    code: int
    message: str
    at: float
    cause: str = ""

    @property
    def retried(self) -> bool:
        """Whether trying again may help: something around the stage failed, or something killed it."""
        return self.code == Exit.INFRASTRUCTURE or (128 < self.code < 256 and self.code != Exit.INTERRUPTED)


@dataclass(frozen=True)
class Record:
    """The attempts at a step so far. ``failures`` of them in a row got no further than ``furthest`` units."""

    attempt: int = 0
    running: bool = False
    failures: int = 0
    furthest: int = -1
    ended: Ending | None = None

    def started(self, attempt: int) -> "Record":
        return replace(self, attempt=attempt, running=True, ended=None)

    def failed(self, ending: Ending, done: int) -> "Record":
        """After an attempt that had ``done`` units when it ended: one that got further starts the count anew."""
        failures = 1 if done > self.furthest else self.failures + 1
        return replace(self, running=False, ended=ending, failures=failures, furthest=max(done, self.furthest))


@dataclass(frozen=True)
class ServerState:
    """``message`` says why it is not ready, ``reason`` in one word where there is one."""

    ready: bool
    message: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Observed:
    """Everything that is known of a run. ``changed`` has the fields that may not differ from those it began with.

    ``leaving``: steps of which pods have not ended yet; no attempt begins beside one that may still write.
    """

    done: Mapping[str, Done] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)
    servers: Mapping[str, ServerState] = field(default_factory=dict)
    changed: Sequence[str] = ()
    gpu_seconds: float = 0.0
    leaving: Collection[str] = ()


@dataclass(frozen=True)
class Finished:
    """Every step is done."""


@dataclass(frozen=True)
class Suspended:
    """The manifest asks for a pause: nothing runs, nothing is lost."""

    step: Step


@dataclass(frozen=True)
class Start:
    """Begin an attempt at a step. ``teacher_tokens`` are left of the budget.

    ``given_up`` is why a control failed for the last time: this attempt makes that its result, and the run goes on.
    """

    step: Step
    attempt: int
    teacher_tokens: int | None
    given_up: str = ""


@dataclass(frozen=True)
class Wait:
    """Nothing to begin now; ``until`` is a time at which to look again, whatever happens before.

    ``server`` is the one that is not ready.
    """

    step: Step
    reason: Literal["Running", "Retrying", "PodsEnding", "ServerNotReady"]
    message: str = ""
    until: float | None = None
    server: Need | None = None


@dataclass(frozen=True)
class Stop:
    """The run cannot go on as it is; ``step`` is the one that it stopped at."""

    exit: Exit
    message: str
    step: Step | None = None


Action = Finished | Suspended | Start | Wait | Stop


@dataclass(frozen=True)
class Decision:
    """``servers`` are to be up, or coming up; all others down."""

    action: Action
    servers: frozenset[Need]
    plan: Plan


def pause(failures: int) -> float:
    """Seconds before the next attempt: 124 in all before the last, so that a store may be away for two minutes."""
    return float(min(120, 2 ** (failures + 1)))


def decide(run: DistillationRun, seen: Observed, now: float, *, ahead: int | None = None) -> Decision:
    """The next action. Servers of the current step and of the ``ahead`` steps after it are wanted, of all if None."""
    current = plan(run, seen.done, None)
    nothing: frozenset[Need] = frozenset()
    if not current.left:
        return Decision(Finished(), nothing, current)
    step = current.ready[0]
    record = seen.records.get(step.name, Record())
    if (stop := _stopped(run, current, step, record, seen)) is not None:
        return Decision(stop, nothing, current)
    if run.spec.suspend:
        return Decision(Suspended(step), nothing, current)
    near = current.left[: None if ahead is None else ahead + 1]
    wanted = frozenset(need for one in near for need in one.needs) & SERVERS
    return Decision(_next(run, current, step, record, seen, now), wanted, current)


def _stopped(run: DistillationRun, current: Plan, step: Step, record: Record, seen: Observed) -> Stop | None:
    if seen.changed:
        lines = "\n".join(f"  {one}" for one in seen.changed)
        return Stop(
            Exit.CHANGED,
            f"the run was begun with another manifest; give this one another metadata.name, or take back:\n{lines}",
        )
    if (end := record.ended) is not None:
        if not end.retried:
            return Stop(_exit(end.code), f"step {step.name}: {end.message}", step)
        if record.failures >= TRIES + (step.name in CONTROLS):
            told = f"step {step.name}: {end.message}\n  ({record.failures} tries in a row got no further)"
            return Stop(Exit.INFRASTRUCTURE, told, step)
    budget, spent = run.spec.budget.teacher_tokens, current.spent("teacher")
    if budget is not None and "teacher" in step.needs and spent >= budget and not record.running:
        told = f"spec.budget.teacherTokens: {budget:,}; {spent:,} are spent before step {step.name}"
        return Stop(Exit.BUDGET, told, step)
    hours, used = run.spec.budget.gpu_hours, seen.gpu_seconds / 3600
    if hours is not None and used >= hours:
        return Stop(Exit.BUDGET, f"spec.budget.gpuHours: {hours:g}; {used:.2f} are spent at step {step.name}", step)
    return None


def _next(run: DistillationRun, current: Plan, step: Step, record: Record, seen: Observed, now: float) -> Start | Wait:
    if record.running:
        return Wait(step, "Running")
    if record.ended is not None and now < (due := record.ended.at + pause(record.failures)):
        return Wait(step, "Retrying", record.ended.message.partition("\n")[0], due)
    if step.name in seen.leaving:
        return Wait(step, "PodsEnding", "its last pods have not ended yet")
    for name in sorted(step.needs & SERVERS):
        state = seen.servers.get(name, ServerState(ready=False))
        if not state.ready:
            return Wait(step, "ServerNotReady", state.message or f"waits for the {name}", server=name)
    budget = run.spec.budget.teacher_tokens
    left = None if budget is None else budget - current.spent("teacher")
    end = record.ended
    given_up = end.message.partition("\n")[0] if end is not None and record.failures >= TRIES else ""
    return Start(step, record.attempt + 1, left, given_up)


def _exit(code: int) -> Exit:
    return Exit(code) if code in set(Exit) else Exit.BUG


def code_of(code: int, workers: int, summaries: Sequence[Summary]) -> int:
    """The exit code of a step of several workers, whose launcher ends with 1 whatever happened to one of them.

    Each worker that ends by itself says why in a summary; one that was killed says nothing.
    """
    if code != Exit.BUG or workers == 1:
        return code
    reasons = {one.reason for one in summaries}
    understood = [end for end in Exit if end.name in reasons and end not in (Exit.BUG, Exit.OK)]
    if understood:
        return int(understood[0])
    return int(Exit.BUG if len(summaries) == workers else Exit.INFRASTRUCTURE)
