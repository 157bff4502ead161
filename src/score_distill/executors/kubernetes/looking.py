"""Asks the cluster why objects of a run wait, or were refused: a few short reads, and only when something does."""

from collections.abc import Mapping

from score_distill.executors.kubernetes.admission import fits, room_for
from score_distill.executors.kubernetes.cluster import Cluster, Refused
from score_distill.executors.kubernetes.endings import condition
from score_distill.executors.kubernetes.known import Key
from score_distill.executors.kubernetes.names import Body, Owner
from score_distill.executors.kubernetes.observe import Children, Trouble
from score_distill.executors.kubernetes.waiting import (
    MOST,
    claims,
    in_question,
    in_question_at,
    newest,
    unbound,
    unmounted,
    unprepared,
)

KEPT_SECONDS, SILENT_SECONDS = 30.0, 8.0
"""So long an answer is taken for true of an object that still waits, and so long that there was none."""


class Looking:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._said: dict[Key, dict[str, tuple[float, Trouble | None]]] = {}

    def look(self, run: Key, children: Children, now: float) -> dict[str, Trouble]:
        """Why objects of a run wait, by the uid of each of which the cluster says so.

        A refusal keeps the reason that it had when it was new: quota that is free since is not why it was refused.
        """
        before, said = self._said.pop(run, {}), dict[str, tuple[float, Trouble | None]]()
        for body in in_question(children, now):
            uid = body["metadata"]["uid"]
            until, why = before.get(uid, (now, None))
            if until <= now:
                new = _why(self._cluster, body)
                why = why if new is not None and why is not None and new.message == why.message else new
                until = now + (SILENT_SECONDS if why is None else KEPT_SECONDS)
            said[uid] = until, why
        if said:
            self._said[run] = said
        return {uid: why for uid, (_, why) in said.items() if why is not None}

    def missing(self, run: Body, children: Children, told: Mapping[str, Trouble]) -> frozenset[str]:
        """The names of the run's own objects that pods of it lack: the Secret of its keys, ConfigMaps of its Jobs."""
        pods = unprepared(children, told)
        if not pods:
            return frozenset()
        owner = Owner.of(run)
        names = [
            job["metadata"]["name"] for job in children.unfinished if any(pod in pods for pod in children.pods_of(job))
        ]
        gone = [one for one in names[:MOST] if self._cluster.get("ConfigMap", owner.metadata(one, {})) is None]
        return frozenset(gone if self._cluster.has_keys(owner) else [*gone, owner.keys])

    def due(self, run: Key, children: Children, told: Mapping[str, Trouble], now: float) -> float | None:
        """When to look again: events are not watched."""
        times = [until for until, _ in self._said.get(run, {}).values()]
        if unprepared(children, told):
            times.append(now + KEPT_SECONDS)
        return min([*times, *filter(None, [in_question_at(children, now)])], default=None)

    def forget(self, run: Key) -> None:
        """The run is gone."""
        self._said.pop(run, None)


def refusal(cluster: Cluster, refused: Refused) -> str:
    """The reason for which an object of a run was not taken."""
    kind, namespace = refused.kind, refused.namespace
    if not cluster.may_make(kind, namespace):
        return "Forbidden"
    counted = room_for(cluster.resource(kind), cluster.all_of("ResourceQuota", namespace))
    return "PolicyRefused" if counted else "QuotaExceeded"


def _why(cluster: Cluster, body: Body) -> Trouble | None:
    metadata = body["metadata"]
    if body["kind"] == "Deployment":
        return _refused(cluster, body, condition(body, "ReplicaFailure"))
    if body["kind"] == "Job":
        return _refused(cluster, body, newest(cluster.events(metadata), "FailedCreate"))
    for name in claims(body):
        claim = cluster.get("PersistentVolumeClaim", {**metadata, "name": name})
        events = cluster.events(claim["metadata"]) if claim else []
        if (found := unbound(name, claim, events)) is not None:
            return found
    return unmounted(cluster.events(metadata)) if body["spec"].get("nodeName") else None


def _refused(cluster: Cluster, maker: Body, told: Mapping[str, str] | None) -> Trouble | None:
    """Why no pod of a Job or a Deployment is made; nothing if nobody said so, or it is gone by now."""
    whole = cluster.get(maker["kind"], maker["metadata"]) if told else None
    if told is None or whole is None:
        return None
    quotas, ranges = (cluster.all_of(kind, maker["metadata"]["namespace"]) for kind in ("ResourceQuota", "LimitRange"))
    room = fits(whole["spec"]["template"]["spec"], quotas, ranges)
    return Trouble("PolicyRefused" if room else "QuotaExceeded", told.get("message", ""))
