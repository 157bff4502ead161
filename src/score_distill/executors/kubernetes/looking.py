"""Asks the cluster why objects of a run wait, or were refused: a few short reads, and only when something does."""

from score_distill.executors.kubernetes.admission import fits, room_for
from score_distill.executors.kubernetes.cluster import Cluster, Refused
from score_distill.executors.kubernetes.endings import condition
from score_distill.executors.kubernetes.names import Body
from score_distill.executors.kubernetes.observe import Children, Trouble
from score_distill.executors.kubernetes.waiting import claims, in_question, newest, unbound, unmounted


def look(cluster: Cluster, children: Children, now: float) -> dict[str, Trouble]:
    """Why objects wait, by the uid of each of which the cluster says so."""
    found = {one["metadata"]["uid"]: _why(cluster, one) for one in in_question(children, now)}
    return {uid: why for uid, why in found.items() if why is not None}


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
        return _refused(cluster, body, (condition(body, "ReplicaFailure") or {}).get("message", ""))
    if body["kind"] == "Job":
        last = newest(cluster.events(metadata), "FailedCreate")
        return _refused(cluster, body, last.get("message", "")) if last else None
    for name in claims(body):
        claim = cluster.get("PersistentVolumeClaim", {**metadata, "name": name})
        events = cluster.events(claim["metadata"]) if claim else []
        if (found := unbound(name, claim, events)) is not None:
            return found
    return unmounted(cluster.events(metadata)) if body["spec"].get("nodeName") else None


def _refused(cluster: Cluster, maker: Body, words: str) -> Trouble | None:
    """Why no pod of a Job or a Deployment is made; nothing if that is gone by now."""
    whole = cluster.get(maker["kind"], maker["metadata"])
    if whole is None:
        return None
    quotas, ranges = (cluster.all_of(kind, maker["metadata"]["namespace"]) for kind in ("ResourceQuota", "LimitRange"))
    room = fits(whole["spec"]["template"]["spec"], quotas, ranges)
    return Trouble("PolicyRefused" if room else "QuotaExceeded", words)
