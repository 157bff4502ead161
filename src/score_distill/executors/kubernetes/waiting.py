"""Of which objects the cluster is asked why they wait, and what its answers mean. Pure; by fields, never by words."""

from collections.abc import Iterable, Mapping

from score_distill.executors.kubernetes.endings import condition, ended, seconds
from score_distill.executors.kubernetes.names import Body
from score_distill.executors.kubernetes.observe import Children, Trouble, trouble

SETTLE_SECONDS = 5.0
"""So long after it was made nothing is asked about an object."""
MOST = 8
"""Objects of one run that are asked about in a pass."""
MOUNTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
LACKING = frozenset({"MountFailed", "SecretMissing", "ConfigurationMissing"})
PATIENT = frozenset({"WaitForFirstConsumer", "WaitForPodScheduled"})
"""Events of a claim that waits for its pod, and not the pod for it."""


def in_question(children: Children, now: float) -> list[Body]:
    """Objects that wait and do not themselves say why: Deployments and Jobs without pods, and pods."""
    return [one for one in _waiting(children) if (at := _settles(one)) is not None and now >= at][:MOST]


def in_question_at(children: Children, now: float) -> float | None:
    """When the next of those will be in question that have only just been made."""
    times = [at for one in _waiting(children) if (at := _settles(one)) is not None and at > now]
    return min(times, default=None)


def _waiting(children: Children) -> list[Body]:
    deployments = [one for one in children.deployments if condition(one, "ReplicaFailure")]
    jobs = [job for job in children.unfinished if _lacks_pods(job, children)]
    pods = [pod for pod in children.pods if claims(pod) or _is_being_prepared(pod)]
    return [*deployments, *jobs, *pods]


def _settles(body: Body) -> float | None:
    made = body["metadata"].get("creationTimestamp")
    return None if made is None else seconds(made) + SETTLE_SECONDS


def _lacks_pods(job: Body, children: Children) -> bool:
    spec = job["spec"]
    return not spec.get("suspend") and len(children.pods_of(job)) < spec.get("parallelism", 1)


def _is_being_prepared(pod: Body) -> bool:
    """Whether a node has the pod, none of its containers has ever run, and nothing says why."""
    status = pod.get("status", {})
    if not pod["spec"].get("nodeName") or status.get("phase") != "Pending" or trouble(pod) is not None:
        return False
    told = [one for kind in ("initContainerStatuses", "containerStatuses") for one in status.get(kind) or ()]
    return "deletionTimestamp" not in pod["metadata"] and all(
        not {"running", "terminated"} & one.get("state", {}).keys() for one in told
    )


def claims(pod: Body) -> list[str]:
    """The PersistentVolumeClaims of a pod that no node was found for."""
    placed = [one for one in pod.get("status", {}).get("conditions") or () if one["type"] == "PodScheduled"]
    if (
        ended(pod)
        or "deletionTimestamp" in pod["metadata"]
        or not any((one["status"], one.get("reason")) == ("False", "Unschedulable") for one in placed)
    ):
        return []
    volumes = pod["spec"].get("volumes") or ()
    return [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one]


def unprepared(children: Children, told: Mapping[str, Trouble]) -> list[Body]:
    """The pods that lack something they mount or read, which may be an object of the run's own."""
    troubles = [(pod, told.get(pod["metadata"]["uid"]) or trouble(pod)) for pod in children.pods]
    return [pod for pod, found in troubles if found is not None and found.reason in LACKING]


def newest(events: Iterable[Body], *reasons: str) -> Body | None:
    """The last event, of one of these reasons if any are given."""
    return max((one for one in events if not reasons or one.get("reason") in reasons), key=_at, default=None)


def _at(event: Body) -> float:
    times = ((event.get("series") or {}).get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return seconds(next(filter(None, times), event["metadata"]["creationTimestamp"]))


def unmounted(events: Iterable[Body]) -> Trouble | None:
    """What keeps a pod's volumes away: the last that its node said of it is that."""
    last = newest(one for one in events if one.get("reason") != "Scheduled")
    return Trouble("MountFailed", last.get("message", "")) if last and last["reason"] in MOUNTS else None


def unbound(name: str, claim: Body | None, events: Iterable[Body]) -> Trouble | None:
    """Why a claim has no volume, unless it waits for its pod to be placed first."""
    if claim is None:
        return Trouble("VolumePending", f"claim {name} does not exist")
    phase, last = claim.get("status", {}).get("phase", "Pending"), newest(events) or {}
    if phase == "Bound" or (phase == "Pending" and last.get("reason") in PATIENT):
        return None
    return Trouble("VolumePending", f"claim {name} is {phase}: {last.get('message', 'it says no more')}")
