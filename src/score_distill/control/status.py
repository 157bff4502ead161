"""The status of a run in a cluster: from the last one, what was observed and what was decided to the next. Pure.

Conditions are the truth; step, progress and score are for a table. A condition keeps the time of its last change.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import get_args

from score_distill.api import (
    ArtifactsStatus,
    Condition,
    DistillationRun,
    PlaceStatus,
    Score,
    Status,
    StepStatus,
    StepTokens,
    Usage,
    kind_of,
    round_of,
)
from score_distill.contract import MOST_TOKENS, Progress, Role, Summary
from score_distill.control.pipeline import Step
from score_distill.control.places import Place
from score_distill.control.plan import Plan
from score_distill.control.policy import (
    Action,
    Decision,
    Finished,
    Observed,
    Record,
    Start,
    Stop,
    Suspended,
    Wait,
)
from score_distill.errors import Exit

MESSAGE = 1000
GOING = ("Progressing", "Succeeded")
NOTABLE = frozenset(
    {"InsufficientCapacity", "ImagePullFailed", "SecretMissing", "ConfigurationMissing", "CrashLoop", "ForeignObject"}
    | {"QuotaExceeded", "PolicyRefused", "MountFailed", "VolumePending", "PendingDeadlineExceeded"}
    | {"ServingArgsRefused", "Forbidden", "StoreUnreachable", "StoreDenied", "StoreFull"}
)
CAUSES = frozenset({"StoreUnreachable", "StoreDenied", "StoreFull"})
STOPPED = {Exit.BUDGET: "BudgetExceeded", Exit.CHANGED: "SpecChanged"}


def reason_of(code: Exit) -> str:
    """The CamelCase reason of an exit: ``BadInput``, ``Infrastructure`` ..."""
    return STOPPED.get(code) or "".join(word.title() for word in code.name.split("_"))


def next_status(
    run: DistillationRun,
    before: Status,
    decision: Decision,
    seen: Observed,
    *,
    generation: int,
    now: float,
    summaries: Mapping[str, Summary],
    progress: Mapping[str, Progress],
    trouble: tuple[str, str] | None = None,
    key: str = "",
    asked: bool = True,
) -> Status:
    """``trouble`` is the reason and message of pods that do not run; ``key`` is the run's in its store.

    ``asked``: whether pods had the time to say how far they are; until then nothing new is called stalled.
    """
    old = {one.name: one for one in before.steps}
    steps = tuple(
        _step(
            one.step,
            old.get(one.step.name, StepStatus(name=one.step.name, state="Waiting")),
            decision.action,
            seen.records.get(one.step.name, Record()),
            summaries.get(one.step.name),
            progress.get(one.step.name),
            done=one.state == "done",
            place=decision.place if one.step in decision.plan.ready[:1] else None,
            now=now,
        )
        for one in decision.plan.steps
    )
    scores = next((one.scores for one in summaries.values() if one.scores), before.scores)
    current = _current(decision.action, decision.plan)
    shown = next((one for one in steps if one.name == current), None)
    held = isinstance(decision.action, Suspended) or (trouble is not None and trouble[0] == "Queued")
    moved = _moved(before, steps, held, now)
    waited = decision.action.step if isinstance(decision.action, Wait) and not held else None
    facts = [*_facts(run, decision, seen, trouble), _stalled(run, before, waited, moved, asked, now)]
    return Status(
        observed_generation=generation,
        conditions=_conditions(before.conditions, facts, generation, now),
        step=current,
        progress=_progress(shown),
        score=_best(scores),
        steps=steps,
        last_progress_time=moved,
        usage=_usage(steps, before.usage or Usage(), int(seen.gpu_seconds), now),
        scores=scores,
        artifacts=_artifacts(run, key, decision.plan, summaries, before.artifacts),
    )


def _step(
    step: Step,
    old: StepStatus,
    action: Action,
    record: Record,
    summary: Summary | None,
    progress: Progress | None,
    *,
    done: bool,
    place: Place | None,
    now: float,
) -> StepStatus:
    at = datetime.fromtimestamp(int(now), UTC)
    if done:
        if summary is None:
            return old
        reached = _reached(old, summary.progress or progress)
        return old.model_copy(
            update={
                "state": "Succeeded",
                "attempt": max(old.attempt, record.attempt),
                **dict(zip(("done", "total", "unit"), reached, strict=True)),
                "message": summary.message[:MESSAGE],
                "reason": None,
                "exit_code": None,
                "finished_at": at,
                "counts": dict(list(summary.counts.items())[:32]),
                "tokens": _more(StepTokens(), summary.tokens) if summary.tokens else old.tokens,
                "place": None,
                "committed": False,
            }
        )
    new: dict[str, object] = {
        "attempt": record.attempt,
        "failures": record.failures,
        "furthest": max(0, record.furthest),
        "committed": record.committed,
    }
    if place is not None:
        new["place"] = _placed(place)
    if isinstance(action, Start) and action.step.name == step.name:
        new |= {
            "attempt": action.attempt,
            "state": "Running",
            "message": "",
            "reason": None,
            "exit_code": None,
            "started_at": old.started_at or at,
        }
    elif record.running and not _gives_back(action, step):
        message = progress.message[:MESSAGE] if progress else old.message
        new |= {"state": "Running", "message": message, "started_at": old.started_at or at}
    elif record.ended is not None:
        final = isinstance(action, Stop)
        same = old.state == ("Failed" if final else "Retrying") and old.attempt == record.attempt
        new |= {
            "state": "Failed" if final else "Retrying",
            "message": record.ended.message[:MESSAGE],
            "reason": record.ended.cause or None,
            "exit_code": record.ended.code,
            "finished_at": old.finished_at if same else at,
        }
    else:
        new |= {"state": "Waiting", "attempt": old.attempt}
    fewer = progress is not None and new["attempt"] == old.attempt and progress.done < old.done  # a worker was silent
    if progress is not None and not fewer:
        new |= {"done": progress.done, "total": progress.total, "unit": progress.unit}
    if progress is not None and progress.tokens:
        new["tokens"] = _more(old.tokens or StepTokens(), progress.tokens)
    return old.model_copy(update=new)


def _gives_back(action: Action, step: Step) -> bool:
    return isinstance(action, Wait) and action.reason == "PendingDeadlineExceeded" and action.step.name == step.name


def _placed(place: Place) -> PlaceStatus | None:
    since, until = (None if at is None else datetime.fromtimestamp(int(at), UTC) for at in (place.since, place.until))
    told = PlaceStatus(
        alone=place.alone, since=since, given_back=place.given_back, until=until, message=place.message[:MESSAGE]
    )
    return None if place == Place() else told


def _reached(old: StepStatus, last: Progress | None) -> tuple[int, int | None, str | None]:
    """Of a step that is done. Where not all of its workers are known to have told how far they came, it did all."""
    if last is not None and (last.total is None or last.total >= (old.total or 0)):
        return last.done, last.total, last.unit
    return (old.done if old.total is None else old.total), old.total, old.unit


def _more(old: StepTokens, told: Mapping[Role, int] | Mapping[str, int]) -> StepTokens:
    """What was spent stays spent, also where a worker is silent or begins anew."""
    teacher, student = (min(MOST_TOKENS, told.get(role, 0)) for role in get_args(Role))
    return StepTokens(teacher=max(old.teacher, teacher), student=max(old.student, student))


def _current(action: Action, plan: Plan) -> str | None:
    match action:
        case Finished():
            return None
        case Start(step) | Wait(step) | Suspended(step):
            return step.name
        case Stop():
            return action.step.name if action.step else (plan.left[0].name if plan.left else None)


def _facts(
    run: DistillationRun, decision: Decision, seen: Observed, trouble: tuple[str, str] | None
) -> Iterable[tuple[str, str, str, str]]:
    """Type, status, reason and message of every condition."""
    action = decision.action
    yield "Accepted", "True", "Valid", ""
    if "teacher" in decision.servers and run.spec.teacher.endpoint is None:
        teacher = seen.servers.get("teacher")
        ready = teacher is not None and teacher.ready
        why, message = ("", "") if ready or teacher is None else (teacher.reason, teacher.message)
        yield "TeacherReady", str(ready), "Answering" if ready else why or "TeacherNotReady", message
    else:
        yield "TeacherReady", "Unknown", "NotNeeded", ""
    paused = isinstance(action, Suspended)
    yield "Suspended", str(paused), "Suspended" if paused else "Active", ""
    if isinstance(action, Stop) and action.exit == Exit.BUDGET:
        yield "BudgetExceeded", "True", "BudgetExceeded", action.message
    else:
        yield "BudgetExceeded", "False", "WithinBudget", ""
    match action:
        case Finished():
            yield "Progressing", "False", "Finished", ""
            yield "Succeeded", "True", "Finished", "every step is done"
        case Stop(code, message):
            why = _cause(action.step, seen) or reason_of(code)
            yield "Progressing", "False", why, message
            yield "Succeeded", "False", why, message
        case Suspended(step):
            yield "Progressing", "False", "Suspended", f"at step {step.name}"
            yield "Succeeded", "Unknown", "Suspended", f"at step {step.name}"
        case Start(step, attempt):
            yield "Progressing", "True", "StepRunning", f"step {step.name}, attempt {attempt}"
            yield "Succeeded", "Unknown", "StepRunning", ""
        case Wait() as wait:
            told, why = _waiting(wait, trouble, _cause(wait.step, seen))
            yield "Progressing", str(wait.reason == "Running" and trouble is None), told, why
            yield "Succeeded", "Unknown", told, why


def _moved(before: Status, steps: Iterable[StepStatus], held: bool, now: float) -> datetime:
    """When the run last got any further, by what its status kept; to be let go on after it was held is further."""
    facts = {(one.type, one.status) for one in before.conditions} | {
        (one.type, one.reason) for one in before.conditions
    }
    let_go = not held and not facts.isdisjoint({("Suspended", "True"), ("Progressing", "Queued")})
    if before.last_progress_time is None or let_go or [*map(_far, before.steps)] != [*map(_far, steps)]:
        return datetime.fromtimestamp(int(now), UTC)
    return before.last_progress_time


def _far(step: StepStatus) -> tuple[str, int, int]:
    return step.state, step.attempt, step.done


def _stalled(
    run: DistillationRun, before: Status, waited: Step | None, moved: datetime, asked: bool, now: float
) -> tuple[str, str, str, str]:
    """Whether the step that is waited for has got no further for spec.stallSeconds."""
    idle = now - moved.timestamp()
    was = any(one.type == "Stalled" and one.status == "True" for one in before.conditions)
    if waited is None or idle < run.spec.stall_seconds or not (asked or was):
        return "Stalled", "False", "Moving", ""
    return "Stalled", "True", "NoProgress", f"step {waited.name} has got no further since {moved:%Y-%m-%dT%H:%M:%SZ}"


def blocked(before: Status, status: Status, reason: str, message: str, now: float) -> Status:
    """What is said in place of ``status`` when an object that the run needs could not be made.

    Steps stay as they were ``before``; said again of the same block it is the same, so that nothing is written.
    """
    facts = [(one.type, one.status, one.reason, one.message) for one in status.conditions if one.type not in GOING]
    facts += [("Progressing", "False", reason, message), ("Succeeded", "Unknown", reason, message)]
    generation = status.observed_generation or 0
    conditions = _conditions(before.conditions, facts, generation, now)
    kept = {"steps": before.steps, "last_progress_time": before.last_progress_time}
    return status.model_copy(update={**kept, "conditions": conditions})


def news(before: Status, after: Status) -> Iterable[tuple[str, str, str]]:
    """Type, reason and message of the events that the change of a status is worth."""
    old = {one.name: one for one in before.steps}
    for step in after.steps:
        last = old.get(step.name)
        if last is not None and (last.state, last.attempt) == (step.state, step.attempt):
            continue
        match step.state:
            case "Running":
                yield "Normal", "StepStarted", f"step {step.name}, attempt {step.attempt}"
            case "Succeeded":
                yield "Normal", "StepSucceeded", f"step {step.name}{': ' if step.message else ''}{step.message}"
            case "Retrying":
                yield "Warning", "StepRetrying", f"step {step.name}: {step.message}"
            case "Failed":
                yield "Warning", "StepFailed", f"step {step.name}: {step.message}"
            case _:
                pass
    was: dict[str, tuple[str, str]] = {one.type: (one.status, one.reason) for one in before.conditions}
    for one in after.conditions:
        if one.type == "Succeeded" and was.get(one.type) != (one.status, one.reason):
            if one.status == "True":
                yield "Normal", one.reason, one.message
            elif one.status == "False" or one.reason in NOTABLE:
                yield "Warning", one.reason, one.message
        elif one.type == "Stalled" and one.status == "True" and was.get(one.type, ("", ""))[0] != "True":
            yield "Warning", one.reason, one.message


def _cause(step: Step | None, seen: Observed) -> str | None:
    """What ended the step's last attempt, if it is one of those that a person mends."""
    ended = seen.records.get(step.name, Record()).ended if step else None
    return ended.cause if ended is not None and ended.cause in CAUSES else None


def _waiting(wait: Wait, trouble: tuple[str, str] | None, cause: str | None) -> tuple[str, str]:
    if trouble is not None and wait.reason != "PendingDeadlineExceeded":
        return trouble
    match wait.reason:
        case "Running":
            return "StepRunning", f"step {wait.step.name}"
        case "Retrying":
            return cause or "StepRetrying", f"step {wait.step.name}: {wait.message}"
        case "PodsEnding":
            return "PodsEnding", f"step {wait.step.name}: {wait.message}"
        case "ServerNotReady":
            return f"{str(wait.server).title()}NotReady", wait.message
        case "PendingDeadlineExceeded":
            return wait.reason, wait.message


def _conditions(
    before: Iterable[Condition], facts: Iterable[tuple[str, str, str, str]], generation: int, now: float
) -> tuple[Condition, ...]:
    old = {one.type: one for one in before}
    found = []
    for kind, status, reason, message in facts:
        same = kind in old and old[kind].status == status
        since = old[kind].last_transition_time if same else datetime.fromtimestamp(int(now), UTC)
        found.append(
            Condition.model_validate(
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message[:MESSAGE],
                    "last_transition_time": since,
                    "observed_generation": generation,
                }
            )
        )
    return tuple(found)


def _progress(step: StepStatus | None) -> str | None:
    if step is None or not step.unit:
        return None
    return f"{step.done}/{step.total} {step.unit}" if step.total else f"{step.done} {step.unit}"


def _best(scores: Iterable[Score]) -> str | None:
    """The student's last score: of rl where there is one, on the first eval set."""
    order = ["rl", "sft", "init", "base"]
    students = (one for one in scores if kind_of(one.model) in order)
    found = sorted(students, key=lambda one: (order.index(kind_of(one.model)), -round_of(one.model)))
    return f"{found[0].model} {100 * found[0].score:.1f}" if found else None


def _usage(steps: Iterable[StepStatus], before: Usage, gpu_seconds: int, now: float) -> Usage:
    tokens = [one.tokens for one in steps if one.tokens]
    return Usage(
        teacher_tokens=sum(one.teacher for one in tokens),
        student_tokens=sum(one.student for one in tokens),
        gpu_seconds=gpu_seconds,
        counted_until=before.counted_until
        if gpu_seconds == before.gpu_seconds
        else datetime.fromtimestamp(int(now), UTC),
    )


def _artifacts(
    run: DistillationRun, key: str, plan: Plan, summaries: Mapping[str, Summary], before: ArtifactsStatus | None
) -> ArtifactsStatus:
    root = f"{run.spec.artifacts.uri.rstrip('/')}/{key}"
    done = {one.step.name for one in plan.steps if one.state == "done"}
    last = "rl" if run.spec.method.rl.enabled else run.spec.method.students[-1]
    digest = summaries[last].digest if last in summaries else before.model_digest if before else None
    return ArtifactsStatus(
        run=root,
        model=f"{root}/steps/{last}" if last in done else None,
        model_digest=digest or None,
        report=f"{root}/report/report.html" if "evaluate" in done else None,
    )
