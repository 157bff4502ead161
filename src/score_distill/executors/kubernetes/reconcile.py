"""One pass over a run: from its body and its children to what must be applied, deleted and said. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from score_distill.api import Condition, Status, Usage
from score_distill.contract import Progress
from score_distill.control.policy import Action, Start, Stop, Suspended, Wait, decide
from score_distill.control.status import next_status
from score_distill.executors.kubernetes import due, keeping, models, network, steps
from score_distill.executors.kubernetes.endings import lost
from score_distill.executors.kubernetes.gpus import gpu_seconds
from score_distill.executors.kubernetes.names import MADE_OF, QUEUE, ROLE, STEP, Body, Owner
from score_distill.executors.kubernetes.observe import NOTHING, Children, Trouble, forsaken, label, observe
from score_distill.executors.kubernetes.settings import Settings
from score_distill.manifest import ManifestError

AHEAD = 1


@dataclass(frozen=True)
class Changes:
    """``keys`` is the run whose model servers need their keys; ``again`` is when to look anew, in seconds.

    ``delete`` has objects, or the names alone of those that nobody watches. ``remove``: the run has ended for as long
    as it was to be kept.
    """

    apply: tuple[Body, ...] = ()
    delete: tuple[Body, ...] = ()
    keys: Owner | None = None
    status: Body | None = None
    again: float | None = None
    remove: bool = False


@dataclass(frozen=True)
class Measured:
    """The progress of each step whose pods answered; ``asked`` is whether it is known by now if they go further."""

    progress: Mapping[str, Progress] = field(default_factory=dict)
    asked: bool = True


def reconcile(
    body: Body,
    children: Children,
    measured: Measured,
    settings: Settings,
    now: float,
    told: Mapping[str, Trouble] = NOTHING,
    missing: Collection[str] = (),
) -> Changes:
    """``told`` is why objects wait that do not say so themselves, by uid; ``missing`` has what was deleted under them.

    Whatever needs a missing object is deleted, and made anew with it by the next pass.
    """
    metadata, progress = body["metadata"], measured.progress
    generation = int(metadata.get("generation", 0))
    before = Status.model_validate(body.get("status") or {})
    if metadata.get("deletionTimestamp"):
        return Changes()
    try:
        owner = Owner.of(body)
    except ManifestError as error:
        held = (*children.deployments, *children.unfinished)
        return Changes(delete=held, status=dumped(_refused(before, error, generation, now)))
    run = owner.run
    left = keeping.left(run.spec, before, now)
    if _finished(before):
        return Changes(delete=tuple(children.deployments), again=left, remove=left is not None and left <= 0)
    retry = before.observed_generation != generation
    endpoint = run.spec.teacher.endpoint is not None
    seen = observe(before, children, progress, now, retry=retry, endpoint=endpoint, told=told)
    usage = before.usage or Usage()
    counted = usage.counted_until.timestamp() if usage.counted_until else 0.0
    observed = replace(seen.observed, gpu_seconds=usage.gpu_seconds + gpu_seconds(children, counted, now))
    decision = decide(run, observed, now, ahead=AHEAD, uid=owner.uid)
    action = decision.action
    if isinstance(action, Stop) and not retry and left is not None and left <= 0:
        return Changes(remove=True)
    roles = [role for role in ("teacher", "student") if role in decision.servers]
    own = [role for role in roles if role == "student" or not endpoint]
    keyless = owner.keys in missing
    moved = _moved(owner, decision.action, children)
    have = {label(one, ROLE) for one in children.deployments}
    apply: list[Body] = []
    if isinstance(action, Start | Wait) and not keyless:
        apply += network.objects(owner, settings)
        for role in own:
            if role not in moved:
                apply += models.objects(owner, role, settings, action.step)
        if isinstance(action, Start):
            apply += steps.objects(owner, action, settings)
        elif action.reason == "Running":
            apply += steps.meeting(owner, action.step, observed.records[action.step.name].attempt)
    delete = [one for one in children.deployments if keyless or label(one, ROLE) not in {*own} - moved]
    gives_back = isinstance(action, Wait) and action.reason == "PendingDeadlineExceeded"
    if keyless or gives_back or isinstance(action, Suspended | Stop):
        delete += children.unfinished
    else:
        delete += [
            *forsaken(children, now),
            *(one for one in children.unfinished if one["metadata"]["name"] in missing),
        ]
    delete += keeping.outlived(before, children, now)
    status = next_status(
        run,
        before,
        decision,
        observed,
        generation=generation,
        now=now,
        summaries=seen.summaries,
        progress=progress,
        trouble=(seen.trouble.reason, seen.trouble.message) if seen.trouble else None,
        key=owner.key,
        asked=measured.asked,
    )
    return Changes(
        apply=tuple(one for one in apply if not _unchanged(one, children)),
        delete=tuple(delete),
        keys=owner if set(own) - have and not keyless else None,
        status=dumped(status),
        again=keeping.left(run.spec, status, now)
        if isinstance(action, Stop)
        else due.pause(run, status, action, children, now),
    )


def _moved(owner: Owner, action: Action, children: Children) -> set[str]:
    """Models whose Deployments a queue admits although their pods are now in a group, or the other way round.

    A queue takes no other label on them while they run.
    """
    if not isinstance(action, Start | Wait):
        return set()
    group = owner.group(action.step)
    queue = owner.queued.get(QUEUE, "")
    wanted = {role: "" if group and role in action.step.needs else queue for role in ("teacher", "student")}
    return {role for one in children.deployments if label(one, QUEUE) != wanted[role := label(one, ROLE)]}


def running(children: Children, now: float) -> list[tuple[str, Body]]:
    """The pods that can be asked for progress, with the step of each."""
    return [
        (label(pod, STEP), pod)
        for pod in children.pods_for("stage")
        if pod.get("status", {}).get("phase") == "Running" and pod["status"].get("podIP") and not lost(pod, now)
    ]


def succeeded(run: Body) -> bool:
    return _finished(Status.model_validate(run.get("status") or {}))


def _finished(status: Status) -> bool:
    """A run that succeeded stays so, whatever its spec says later; what failed is tried again when that changes."""
    return any(one.type == "Succeeded" and one.status == "True" for one in status.conditions)


def _unchanged(wanted: Body, children: Children) -> bool:
    """Whether an object is there as wanted: a Job's name says all, a model's what it was made of and how many it is."""
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    if kind == "Job":
        return name in {one["metadata"]["name"] for one in children.jobs}
    if kind == "Deployment":
        there = next((one for one in children.deployments if one["metadata"]["name"] == name), None)
        return (
            there is not None
            and there["metadata"].get("annotations", {}).get(MADE_OF) == wanted["metadata"]["annotations"][MADE_OF]
            and there["spec"].get("replicas") == wanted["spec"]["replicas"]
        )
    named = (one for one in children.access if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return any(contains(one["spec"], wanted["spec"]) for one in named)


def contains(there: Any, wanted: Any) -> bool:
    """Whether an object says all that is wanted of it; what else it says are the API server's defaults."""
    match wanted:
        case dict():
            return all(contains((there or {}).get(name), value) for name, value in wanted.items())
        case list():
            return len(there or ()) == len(wanted) and all(map(contains, there or (), wanted))
        case _:
            return bool(there == wanted)


def _refused(before: Status, error: ManifestError, generation: int, now: float) -> Status:
    message = "; ".join(error.faults)[:1000]
    since = {(one.type, one.status, one.reason): one.last_transition_time for one in before.conditions}
    conditions = tuple(
        Condition(
            type=kind,
            status="False",
            reason="Invalid",
            message=message,
            last_transition_time=since.get((kind, "False", "Invalid"), datetime.fromtimestamp(int(now), UTC)),
            observed_generation=generation,
        )
        for kind in ("Accepted", "Progressing", "Succeeded")
    )
    return before.model_copy(update={"observed_generation": generation, "conditions": conditions})


def dumped(status: Status) -> Body:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
