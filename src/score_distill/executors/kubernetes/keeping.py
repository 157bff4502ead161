"""How long a run is kept that has ended, and what its steps leave behind in the cluster. Pure."""

from collections.abc import Iterator

from score_distill.api import Spec, Status
from score_distill.executors.kubernetes.endings import condition, ended, lost, seconds
from score_distill.executors.kubernetes.names import ATTEMPT, STEP, Body
from score_distill.executors.kubernetes.observe import Children, label, over

HISTORY = 3
"""Of a run so many ended Jobs are kept, for their pods' logs."""


def left(spec: Spec, status: Status, now: float) -> float | None:
    """Seconds for which a run that has ended is still to be kept; None: for ever, or it has not ended."""
    found = next((one for one in status.conditions if one.type == "Succeeded"), None)
    if found is None or found.status == "Unknown":
        return None
    keep = spec.ttl_seconds_after_finished
    if found.status == "False":
        if spec.suspend:
            return None
        keep = keep if spec.ttl_seconds_after_failed is None else spec.ttl_seconds_after_failed
    return None if keep is None else found.last_transition_time.timestamp() + keep - now


def outlived(status: Status, children: Children, now: float) -> Iterator[Body]:
    """Old Jobs of which the status tells all, each after what was made for it; only their names are known of that."""
    jobs = sorted((job for job in children.jobs if over(job)), key=_end)
    for job in jobs[:-HISTORY]:
        writes = any(not ended(pod) and not lost(pod, now) for pod in children.pods_of(job))
        if writes or "deletionTimestamp" in job["metadata"] or not _is_told(status, job):
            continue
        named = {name: job["metadata"][name] for name in ("name", "namespace")}
        yield {"kind": "ConfigMap", "metadata": named}
        if job["spec"]["parallelism"] > 1:
            yield {"kind": "Service", "metadata": named}
        yield job


def _end(job: Body) -> tuple[float, str]:
    how = condition(job, "Complete") or condition(job, "Failed") or {}
    return seconds(how["lastTransitionTime"]) if "lastTransitionTime" in how else 0.0, label(job, ATTEMPT)


def _is_told(status: Status, job: Body) -> bool:
    """Whether the status has what became of that attempt."""
    step = next((one for one in status.steps if one.name == label(job, STEP)), None)
    if step is None:
        return False
    attempt = int(label(job, ATTEMPT) or 0)
    return step.attempt > attempt or (step.attempt == attempt and step.state in ("Succeeded", "Retrying", "Failed"))
