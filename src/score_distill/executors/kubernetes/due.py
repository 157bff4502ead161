"""When a run must be looked at though no event came: the times at which time alone changes what a pass says. Pure."""

from collections.abc import Iterator
from math import ceil

from score_distill.api import DistillationRun, Status
from score_distill.control.policy import Action, Finished, Stop, Suspended, Wait
from score_distill.executors.kubernetes.endings import lost_at
from score_distill.executors.kubernetes.gpus import gpus_held
from score_distill.executors.kubernetes.observe import Children, held_at

NEARLY = 0.9
"""The share of a budget from which a person is told."""


def pause(run: DistillationRun, status: Status, action: Action, children: Children, now: float) -> float | None:
    """Seconds until the next of these times; None if there is none."""
    if isinstance(action, Finished | Stop | Suspended):
        return None
    return min((at - now for at in _times(run, status, action, children, now) if at > now), default=None)


def _times(run: DistillationRun, status: Status, action: Action, children: Children, now: float) -> Iterator[float]:
    if isinstance(action, Wait):
        if action.until is not None:
            yield action.until
        if status.last_progress_time is not None:
            yield status.last_progress_time.timestamp() + run.spec.stall_seconds
    yield from (at for pod in children.pods if (at := lost_at(pod)) is not None)
    yield from (at for job in children.jobs if (at := held_at(job)) is not None)
    hours, gpus = run.spec.budget.gpu_hours, gpus_held(children, now)
    if hours is not None and gpus:
        used = status.usage.gpu_seconds if status.usage else 0
        yield from (ceil(now + (share * hours * 3600 - used) / gpus) for share in (NEARLY, 1.0))
