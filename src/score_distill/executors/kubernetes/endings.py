"""How pods ended, and whether they did: what their stages said, what Kubernetes says, and what a node leaves unsaid."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from score_distill.contract import Summary, together
from score_distill.control.policy import Ending
from score_distill.errors import Exit
from score_distill.executors.kubernetes.names import INDEX, Body

LOST_SECONDS = 30.0
"""What a node gets beyond a pod's grace to say that the pod has ended."""


def condition(body: Body, kind: str) -> Body | None:
    """The condition of that type, when it holds."""
    found = body.get("status", {}).get("conditions") or ()
    return next((one for one in found if one["type"] == kind and one["status"] == "True"), None)


def seconds(text: str) -> float:
    """A Kubernetes time as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def ended(pod: Body) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def lost(pod: Body, now: float) -> bool:
    """Whether a pod should have ended long ago and nobody has said that it did: its node is down or cut off.

    It stays so until its node is back or deleted. Kubernetes gives a deleted pod the time at which its grace is over.
    """
    at = lost_at(pod)
    return at is not None and now >= at


def lost_at(pod: Body) -> float | None:
    """When a pod that is to end will be lost, unless it is said before that it has ended."""
    over = pod["metadata"].get("deletionTimestamp")
    return None if over is None or ended(pod) else seconds(over) + LOST_SECONDS


def summary(pods: Iterable[Body]) -> Summary | None:
    """Of the workers of a step, what the one said that made the result: it knows most. How far they came adds up."""
    ends = summaries_of(pods)
    best = max(ends, key=lambda one: bool(one.digest), default=None)
    whole = together([one.progress for one in ends if one.progress is not None])
    return best and best.model_copy(update={"progress": whole})


def summaries_of(pods: Iterable[Body]) -> list[Summary]:
    """What the workers of a step said at their end."""
    found = []
    for stage in _stages(latest(pods)):
        with suppress(ValidationError):
            found.append(Summary.model_validate_json(stage.get("message", "")))
    return found


def latest(pods: Iterable[Body]) -> list[Body]:
    """The last pod of each index: a worker that was evicted has another in its place."""
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    return list({pod["metadata"].get("labels", {}).get(INDEX, str(n)): pod for n, pod in enumerate(ordered)}.values())


def ending(pods: Iterable[Body], why: Body | None, now: float) -> Ending:
    """How an attempt failed: by what its stage said, else by what Kubernetes says of its pods and, ``why``, its Job.

    A pod that was evicted, preempted or lost says nothing of the run, whatever its stage did at the end.
    """
    pods = latest(pods)
    stages = _stages(pods)
    if any(stage.get("reason") == "OOMKilled" for stage in stages):
        text = "its pod was out of memory (OOMKilled); raise spec.resources.rollout or .trainer limits.memory"
        return Ending(int(Exit.MODEL), text, now)
    if taken := [words for pod in pods if (words := _taken(pod, now))]:
        return Ending(int(Exit.INFRASTRUCTURE), f"its pod was lost ({taken[0]})", now)
    for stage in stages:
        code = int(stage["exitCode"])
        if code == 0:
            continue
        try:
            said = Summary.model_validate_json(stage.get("message", ""))
            message, cause = said.message, said.cause
        except ValidationError:
            message, cause = str(stage.get("message", "")).strip()[-600:], ""
        return Ending(code, message or f"its pod ended with exit code {code}", now, cause)
    why = why or {}
    return Ending(
        int(Exit.INFRASTRUCTURE), f"its pod was lost ({why.get('reason', '')}: {why.get('message', '')})", now
    )


def _taken(pod: Body, now: float) -> str:
    """In whose words a pod was taken from its run; empty if it was not."""
    if lost(pod, now):
        return f"node {pod['spec'].get('nodeName', '')} does not answer"
    disrupted = condition(pod, "DisruptionTarget")
    if disrupted is None or pod.get("status", {}).get("phase") == "Succeeded":
        return ""
    return f"{disrupted.get('reason', '')}: {disrupted.get('message', '')}"


def _stages(pods: Iterable[Body]) -> list[dict[str, Any]]:
    """How the stage containers that ended did so, those that failed first."""
    found = []
    for pod in pods:
        for one in pod.get("status", {}).get("containerStatuses") or ():
            if one["name"] == "stage" and (stage := one.get("state", {}).get("terminated")):
                found.append(stage)
    return sorted(found, key=lambda stage: stage["exitCode"] == 0)
