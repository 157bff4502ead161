"""GPU seconds of a run, by the times that Kubernetes keeps. Pure: an operator that was down misses nothing."""

from score_distill.executors.kubernetes.endings import condition, ended, seconds
from score_distill.executors.kubernetes.names import Body
from score_distill.executors.kubernetes.observe import Children


def gpu_seconds(children: Children, since: float, now: float) -> int:
    """GPUs times seconds between ``since`` and ``now``: of the pods, and of ended Jobs whose pods are gone."""
    spans = _spans(children, now)
    return sum(gpus * max(0, int(min(end, now)) - int(max(begin, since))) for gpus, (begin, end) in spans)


def gpus_held(children: Children, now: float) -> int:
    """How many GPUs nodes have given to pods now."""
    return sum(gpus for gpus, (begin, end) in _spans(children, now) if begin <= now <= end)


def _spans(children: Children, now: float) -> list[tuple[int, tuple[float, float]]]:
    gone = [job for job in children.jobs if not children.pods_of(job)]
    taken = [pod for pod in children.pods if "startTime" in pod.get("status", {})]
    held = [(_gpus(pod["spec"]), _held(pod, now)) for pod in taken]
    held += [(_gpus(job["spec"]["template"]["spec"]) * job["spec"]["parallelism"], _ran(job)) for job in gone]
    return [(gpus, span) for gpus, span in held if gpus]


def _gpus(pod: Body) -> int:
    """The only resources of other names than Kubernetes' own that a run asks for."""
    limits = [one.get("resources", {}).get("limits", {}) for one in pod["containers"]]
    return sum(int(count) for one in limits for name, count in one.items() if "/" in name)


def _held(pod: Body, now: float) -> tuple[float, float]:
    """From when a node took the pod, which is when its GPUs were given to it, to the end of its last container.

    Of one that its node never ends, to when its grace was over.
    """
    status, over = pod["status"], pod["metadata"].get("deletionTimestamp")
    begin = seconds(status["startTime"])
    if not ended(pod):
        return begin, seconds(over) if over else now
    states = [one.get("state", {}).get("terminated") or {} for one in status.get("containerStatuses") or ()]
    ends = [one["finishedAt"] for one in states if one.get("finishedAt")]
    changes = [one["lastTransitionTime"] for one in status.get("conditions") or () if one.get("lastTransitionTime")]
    return begin, max(map(seconds, ends or changes), default=begin)


def _ran(job: Body) -> tuple[float, float]:
    begin, last = job.get("status", {}).get("startTime"), condition(job, "Complete") or condition(job, "Failed")
    return (seconds(begin), seconds(last["lastTransitionTime"])) if begin and last else (0.0, 0.0)
