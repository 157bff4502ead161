"""What is to be done next with a run: start a step, wait, stop for a reason, or nothing. Pure.

Both executors call ``decide`` with what they observe, act on the answer, and observe again. Attempts, progress made,
classes of failure, back-off, budget and changed manifests are weighed here and nowhere else.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from score_distill.api import DistillationRun, gpus_for
from score_distill.contract import CONTROLS, Summary
from score_distill.control.pipeline import Need, Step, gpus_of, may_lock, takes_at_once
from score_distill.control.places import Place, PodsState
from score_distill.control.plan import Done, Plan, plan
from score_distill.errors import Exit

TRIES = 6
LOCK_SECONDS = 1800
"""How long a part of a step's GPUs may be held where the manifest sets no bound: longer than it takes to add a node."""
NO_RESULT = "StoreMissing"
"""The cause of an attempt that was to tell of a result, and found none."""
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
    """The attempts at a step so far. ``failures`` of them in a row got no further than ``furthest`` units.

    ``committed``: one of them made the result, and what it said of that is lost.
    """

    attempt: int = 0
    running: bool = False
    failures: int = 0
    furthest: int = -1
    ended: Ending | None = None
    committed: bool = False

    def started(self, attempt: int) -> "Record":
        return replace(self, attempt=attempt, running=True, ended=None)

    def failed(self, ending: Ending, done: int) -> "Record":
        """After an attempt that had ``done`` units when it ended: one that got further starts the count anew."""
        failures = 1 if done > self.furthest else self.failures + 1
        committed = self.committed and ending.cause != NO_RESULT
        furthest = max(done, self.furthest)
        return replace(self, running=False, ended=ending, failures=failures, furthest=furthest, committed=committed)


@dataclass(frozen=True)
class Observed:
    """Everything that is known of a run. ``changed`` has the fields that may not differ from those it began with.

    ``leaving``: steps of which pods have not ended yet; no attempt begins beside one that may still write.
    ``attempts``: how the pods of attempts that run fare. ``places``: what earlier passes decided of that. ``holding``:
    whether the run has anything that others could use.
    """

    done: Mapping[str, Done] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)
    servers: Mapping[str, PodsState] = field(default_factory=dict)
    changed: Sequence[str] = ()
    gpu_seconds: float = 0.0
    leaving: Collection[str] = ()
    attempts: Mapping[str, PodsState] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    holding: bool = True


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
    ``recall``: the result is made, and the attempt tells of it again; it needs nothing but the store.
    """

    step: Step
    attempt: int
    teacher_tokens: int | None
    given_up: str = ""
    recall: bool = False


@dataclass(frozen=True)
class Wait:
    """Nothing to begin now; ``until`` is a time at which to look again, whatever happens before.

    ``server`` is the one that is not ready.
    """

    step: Step
    reason: Literal["Running", "Retrying", "PodsEnding", "ServerNotReady", "PendingDeadlineExceeded"]
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
    """``servers`` are to be up, or coming up; all others down. ``place`` is to be known to the next pass."""

    action: Action
    servers: frozenset[Need]
    plan: Plan
    place: Place | None = None


def pause(failures: int) -> float:
    """Seconds before the next attempt: 124 in all before the last, so that a store may be away for two minutes."""
    return float(min(120, 2 ** (failures + 1)))


def decide(run: DistillationRun, seen: Observed, now: float, *, ahead: int | None = None, uid: str = "") -> Decision:
    """The next action. Servers of the current step and of the ``ahead`` steps after it are wanted, of all if None.

    Of later steps only those that hold no GPUs, unless ``spec.scheduling.ahead`` says so; and none once the step had to
    wait for its place. In a cluster, where ``ahead`` is given, a step that takes its GPUs at once begins beside its
    servers. ``uid`` tells runs apart that try again.
    """
    current = plan(run, seen.done, None)
    nothing: frozenset[Need] = frozenset()
    if not current.left:
        return Decision(Finished(), nothing, current)
    step = current.ready[0]
    record = seen.records.get(step.name, Record())
    if record.committed:
        step = replace(step, needs=nothing)
    if (stop := _stopped(run, current, step, record, seen)) is not None:
        return Decision(stop, nothing, current)
    if run.spec.suspend:
        return Decision(Suspended(step), nothing, current)
    later = _servers_of(current.left[1:] if ahead is None else current.left[1 : ahead + 1]) - step.needs
    early = frozenset(need for need in later if ahead is not None and _gpus(run, [need]))
    if early and not _may_hold_ahead(run, step, later):
        later, early = later - early, nothing
    at_once = ahead is not None and takes_at_once(step, run.spec)
    waiting, deadline = _waiting(step, record, seen, at_once), run.spec.pending_deadline_seconds
    if deadline is None and ahead is not None and may_lock(step, run.spec):
        deadline = LOCK_SECONDS
    place = seen.places.get(step.name, Place()).next(
        waiting, holding=seen.holding, deadline=deadline, now=now, seed=f"{uid}/{step.name}"
    )
    if place.until is not None:
        told = f"step {step.name} could not begin in {deadline} s (spec.pendingDeadlineSeconds): {place.message}"
        return Decision(Wait(step, "PendingDeadlineExceeded", told, place.until), nothing, current, place)
    if early:
        place = place.beside(waiting, now)
    action = _next(run, current, step, record, seen, now, at_once)
    if isinstance(action, Wait) and action.until is None:
        over = place.since + deadline if place.since is not None and deadline is not None else None
        release = place.release(waiting) if early else None
        action = replace(action, until=min((due for due in (over, release) if due is not None), default=None))
    wanted = _servers_of([step]) | (later - early if place.alone else later)
    return Decision(action, wanted, current, place)


def _waiting(step: Step, record: Record, seen: Observed, at_once: bool) -> list[PodsState]:
    """The pods without which a step cannot begin, or not as wide as it should, and that have no node or are held up."""
    waiting = []
    if record.running and not (own := seen.attempts.get(step.name, PodsState(True))).ready:
        waiting.append(replace(own, placed=own.placed and "trainer" not in step.needs))
    if at_once or not record.running:
        servers = [seen.servers.get(need, PodsState(False)) for need in sorted(step.needs & SERVERS)]
        waiting += [one for one in servers if not (one.ready or one.placed)]
    return waiting


def _servers_of(steps: Iterable[Step]) -> frozenset[Need]:
    return frozenset(need for one in steps for need in one.needs) & SERVERS


def _may_hold_ahead(run: DistillationRun, step: Step, later: Collection[Need]) -> bool:
    most = run.spec.budget.gpus
    room = most is None or gpus_of(step, run.spec).total + _gpus(run, later) <= most
    return run.spec.scheduling.ahead and room


def _gpus(run: DistillationRun, servers: Collection[Need]) -> int:
    return gpus_for(run.spec, teacher="teacher" in servers, student="student" in servers).total


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


def _next(
    run: DistillationRun, current: Plan, step: Step, record: Record, seen: Observed, now: float, at_once: bool
) -> Start | Wait:
    """``at_once``: it begins beside its servers, and waits for them itself."""
    if record.running:
        return Wait(step, "Running")
    if record.ended is not None and now < (due := record.ended.at + pause(record.failures)):
        return Wait(step, "Retrying", record.ended.message.partition("\n")[0], due)
    if step.name in seen.leaving:
        return Wait(step, "PodsEnding", "its last pods have not ended yet")
    for name in () if at_once else sorted(step.needs & SERVERS):
        state = seen.servers.get(name, PodsState(ready=False))
        if not state.ready:
            return Wait(step, "ServerNotReady", state.message or f"waits for the {name}", server=name)
    budget = run.spec.budget.teacher_tokens
    left = None if budget is None else budget - current.spent("teacher")
    end = record.ended
    given_up = end.message.partition("\n")[0] if end is not None and record.failures >= TRIES else ""
    return Start(step, record.attempt + 1, left, given_up, record.committed)


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
