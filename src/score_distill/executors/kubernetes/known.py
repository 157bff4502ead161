"""The runs of a cluster and what belongs to each, as the watches bring them.

Whose an object is, its controller says, within one namespace. Labels choose what is watched; anybody may write them,
in any namespace, so nothing is taken for a run's because of one.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Iterator

from score_distill.api import GROUP, KIND
from score_distill.executors.kubernetes.names import Body
from score_distill.executors.kubernetes.observe import Children

Key = tuple[str, str]
"""Of a run: namespace and uid."""
Maker = tuple[str, str, str]
"""Namespace, kind and uid."""

MAKERS = {
    "Job": ((GROUP, KIND),),
    "Deployment": ((GROUP, KIND),),
    "ReplicaSet": (("apps", "Deployment"),),
    "Pod": (("batch", "Job"), ("apps", "ReplicaSet")),
    "Service": ((GROUP, KIND),),
    "NetworkPolicy": ((GROUP, KIND),),
}
"""By what the objects of a kind are made that a run has, as groups and kinds."""
KINDS = (KIND, *MAKERS)
TIMES = ("creationTimestamp", "deletionTimestamp")
METADATA = ("name", "namespace", "uid", "labels", "annotations", "ownerReferences", *TIMES)
SPEC = {
    "Job": ("suspend", "parallelism"),
    "Deployment": ("replicas",),
    "ReplicaSet": (),
    "Pod": ("nodeName",),
    "Service": ("selector", "ports"),
    "NetworkPolicy": ("podSelector", "policyTypes", "ingress", "egress"),
}
SILENT = ("ReplicaSet", "Service", "NetworkPolicy")
"""Kinds whose status no pass reads."""


def key_of(run: Body) -> Key:
    return run["metadata"]["namespace"], run["metadata"]["uid"]


def maker_of(kind: str, body: Body) -> Maker | None:
    """The controller of an object, if it is of a kind that makes such objects for a run."""
    for one in body["metadata"].get("ownerReferences") or ():
        if one.get("controller") and (one["apiVersion"].rpartition("/")[0], one["kind"]) in MAKERS[kind]:
            return body["metadata"]["namespace"], one["kind"], one["uid"]
    return None


def trimmed(kind: str, body: Body) -> Body:
    """What passes read of a child."""
    metadata = {name: body["metadata"][name] for name in METADATA if name in body["metadata"]}
    spec = body.get("spec") or {}
    kept = {name: spec[name] for name in SPEC[kind] if name in spec}
    if kind == "Pod":
        kept |= _containers(spec)
        if claims := [one for one in spec.get("volumes") or () if "persistentVolumeClaim" in one]:
            kept["volumes"] = claims
    if kind == "Job":
        kept["template"] = {"spec": _containers(spec.get("template", {}).get("spec", {}))}
    status = {} if kind in SILENT else body.get("status") or {}
    return {"kind": kind, "metadata": metadata, "spec": kept, "status": status}


def _containers(pod: Body) -> Body:
    found = pod.get("containers") or ()
    return {"containers": [{"name": one["name"], "resources": one.get("resources") or {}} for one in found]}


def without(body: Body, *names: str) -> Body:
    return {**body, "metadata": {name: value for name, value in body["metadata"].items() if name not in names}}


def packed(body: Body) -> bytes:
    """A twentieth of what its dictionaries take: of many runs far more are kept than looked at."""
    return zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 1)


def unpacked(content: bytes) -> Body:
    found: Body = json.loads(zlib.decompress(content))
    return found


class Known:
    """``versions`` are those of all objects that a watch brought, by kind and uid, also of those that are nobody's."""

    def __init__(self) -> None:
        self._runs: dict[Key, bytes] = {}
        self.versions = {kind: dict[str, str]() for kind in KINDS}
        self._made = {kind: defaultdict[Maker, dict[str, bytes]](dict) for kind in MAKERS}
        self._maker_of: dict[str, Maker] = {}
        self._makers: dict[Key, set[Maker]] = {}
        self._run_of: dict[Maker, Key] = {}

    @property
    def runs(self) -> list[Key]:
        return list(self._runs)

    def run(self, key: Key) -> Body | None:
        """Its body as it was brought last; a copy."""
        return unpacked(self._runs[key]) if key in self._runs else None

    def put(self, kind: str, body: Body) -> None:
        """The object as it is now."""
        self.drop(kind, body)
        uid = body["metadata"]["uid"]
        self.versions[kind][uid] = body["metadata"]["resourceVersion"]
        if kind == KIND:
            self._runs[key_of(body)] = packed(without(body, "managedFields"))
        elif (maker := maker_of(kind, body)) is not None:
            self._maker_of[uid] = maker
            self._made[kind][maker][uid] = packed(trimmed(kind, body))

    def drop(self, kind: str, body: Body) -> None:
        """The object is gone."""
        uid = body["metadata"]["uid"]
        self.versions[kind].pop(uid, None)
        self._runs.pop(key_of(body), None)
        self._take_out(kind, uid)

    def _take_out(self, kind: str, uid: str) -> None:
        if (maker := self._maker_of.pop(uid, None)) is not None:
            del self._made[kind][maker][uid]
            if not self._made[kind][maker]:
                del self._made[kind][maker]

    def run_of(self, kind: str, body: Body) -> Key | None:
        """The run that an object is news of; None if it is nobody's, or its maker's news is still to come."""
        if kind == KIND:
            return key_of(body)
        if (maker := maker_of(kind, body)) is None:
            return None
        namespace, made_by, uid = maker
        run = (namespace, uid)
        return run if made_by == KIND and run in self._runs else self._run_of.get(maker)

    def children(self, run: Key) -> Children:
        """All that belongs to a run, also what Jobs and Deployments of it have left behind that are gone."""
        namespace, uid = run
        itself = (namespace, KIND, uid)
        jobs, deployments = list(self._of("Job", itself)), list(self._of("Deployment", itself))
        makers = {maker for maker in self._makers.get(run, ()) if self._is_gone(maker) and self._has_left(maker)}
        makers |= {(namespace, one["kind"], one["metadata"]["uid"]) for one in (*jobs, *deployments)}
        sets = [one["metadata"]["uid"] for maker in makers for one in self._of("ReplicaSet", maker)]
        makers |= {(namespace, "ReplicaSet", one) for one in sets}
        self.forget(run)
        self._makers[run] = makers
        self._run_of |= dict.fromkeys(makers, run)
        pods = [pod for maker in sorted(makers) for pod in self._of("Pod", maker)]
        access = [one for kind in ("Service", "NetworkPolicy") for one in self._of(kind, itself)]
        return Children(jobs, pods, deployments, access)

    def settle(self, run: Key) -> None:
        """The run is finished, and its status has all that its steps said: Jobs and pods need not be kept for it."""
        namespace, uid = run
        for job in list(self._of("Job", (namespace, KIND, uid))):
            for pod in list(self._of("Pod", (namespace, "Job", job["metadata"]["uid"]))):
                self._take_out("Pod", pod["metadata"]["uid"])
            self._take_out("Job", job["metadata"]["uid"])

    def forget(self, run: Key) -> None:
        """The run is gone."""
        for maker in self._makers.pop(run, ()):
            self._run_of.pop(maker, None)

    def _is_gone(self, maker: Maker) -> bool:
        return maker[2] not in self.versions[maker[1]]

    def _has_left(self, maker: Maker) -> bool:
        return maker in self._made["Pod"] or maker in self._made["ReplicaSet"]

    def _of(self, kind: str, maker: Maker) -> Iterator[Body]:
        made = self._made[kind]
        yield from map(unpacked, made[maker].values() if maker in made else ())
