"""All that is asked of the API server. Thin: what to ask is decided elsewhere.

Objects are applied by server-side apply under one field manager. An object that is there and belongs to another is
never touched: ForeignObject. Every request has a time limit.
"""

import base64
import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from score_distill.api import GROUP, VERSION
from score_distill.errors import Infrastructure
from score_distill.executors.kubernetes.names import MANAGER, Body, Owner, owned

SECONDS = 30.0
REFUSED = (403, 422)
"""How admission says no; 422 is what a ValidatingAdmissionPolicy answers if it is not told otherwise."""
PAGE = 500
AUTHORIZATION = "authorization.k8s.io/v1"
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PLACES = {
    "ConfigMap": ("/api/v1", "configmaps"),
    "Secret": ("/api/v1", "secrets"),
    "Event": ("/api/v1", "events"),
    "Pod": ("/api/v1", "pods"),
    "ReplicaSet": ("/apis/apps/v1", "replicasets"),
    "Service": ("/api/v1", "services"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Job": ("/apis/batch/v1", "jobs"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "ResourceQuota": ("/api/v1", "resourcequotas"),
    "LimitRange": ("/api/v1", "limitranges"),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "DistillationRun": (f"/apis/{GROUP}/{VERSION}", "distillationruns"),
}


class ForeignObject(Infrastructure):
    """An object of that name is there and belongs to somebody else."""


class Refused(ApiException):
    """The API server does not take an object: for want of a right, by a quota or by a policy."""

    def __init__(self, kind: str, namespace: str, error: ApiException) -> None:
        super().__init__(status=error.status, reason=error.reason)
        self.kind, self.namespace = kind, namespace


class Cluster:
    """``wrote`` is told the verb and kind of every write, for the metrics."""

    def __init__(self, client: ApiClient, wrote: Callable[[str, str], None] = lambda verb, kind: None) -> None:
        self._client, self._wrote = client, wrote

    def serves_runs(self) -> None:
        """Raise ApiException unless the CRD is there: without it nothing would ever be seen."""
        self._call("GET", f"/apis/{GROUP}/{VERSION}")

    def apply(self, body: Body, uid: str) -> None:
        """Make the object as ``body`` says, unless another's stands there."""
        kind, name = body["kind"], body["metadata"]["name"]
        path = _path(kind, body["metadata"])
        there = self.get(kind, body["metadata"])
        if there is not None and not owned(there, uid):
            raise ForeignObject(
                f"{kind} {name} is there and does not belong to this run; remove it or give the run another name"
            )
        query, content = [("fieldManager", MANAGER), ("force", "true")], "application/apply-patch+yaml"
        with _making(kind, body["metadata"]):
            self._call("PATCH", path, body, query=query, content=content)
        self._wrote("apply", kind)

    def create_keys(self, owner: Owner, roles: Iterable[str]) -> None:
        """The Secret with a fresh key for each model server of the run; made once, never read."""
        try:
            with _making("Secret", owner.metadata(owner.keys, {})):
                self._make_keys(owner, roles)
            self._wrote("create", "Secret")
        except ApiException as error:
            if error.status != 409:
                raise

    def has_keys(self, owner: Owner) -> bool:
        """Whether that Secret is there, without the right to read it; so it is taken to be where nobody can say."""
        try:
            self._make_keys(owner, (), [("dryRun", "All")])
        except ApiException:
            return True
        return False

    def _make_keys(self, owner: Owner, roles: Iterable[str], query: list[tuple[str, str]] | None = None) -> None:
        metadata = owner.metadata(owner.keys, owner.labels("keys"))
        data = {role: base64.b64encode(secrets.token_urlsafe(32).encode()).decode() for role in roles}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data, "immutable": True}
        self._call("POST", _path("Secret", {**metadata, "name": ""}).rstrip("/"), body, query=query)

    def delete(self, kind: str, metadata: Body, whose: str | None = None) -> None:
        """Delete an object and its pods; one that is gone is fine. A Job outlives its pods, to say whose they are.

        One of which the name alone is known goes only if it belongs to ``whose`` uid that is.
        """
        if whose is not None:
            there = self.get(kind, metadata)
            if there is None or not owned(there, whose):
                return
            metadata = there["metadata"]
        policy = "Foreground" if kind == "Job" else "Background"
        options = {"propagationPolicy": policy, "preconditions": {"uid": metadata["uid"]}}
        try:
            self._call("DELETE", _path(kind, metadata), options)
            self._wrote("delete", kind)
        except ApiException as error:
            if error.status not in (404, 409):
                raise

    def write_status(self, metadata: Body, status: Body) -> bool:
        """Replace the status of a run as it was seen; False when it is gone or was changed since."""
        patch = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {"op": "add", "path": "/status", "value": status},
        ]
        path = f"{_path('DistillationRun', metadata)}/status"
        try:
            self._call("PATCH", path, patch, content="application/json-patch+json")
        except ApiException as error:
            if error.status not in (404, 409):
                raise
            return False
        self._wrote("patch", "DistillationRun")
        return True

    def event(self, run: Body, kind: str, reason: str, message: str) -> None:
        """Say something about a run where ``kubectl describe`` shows it; one that cannot be said is not missed."""
        metadata, now = run["metadata"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = {name: metadata[name] for name in ("name", "namespace", "uid")}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
            "involvedObject": {"apiVersion": f"{GROUP}/{VERSION}", "kind": "DistillationRun", **about},
            "type": kind,
            "reason": reason,
            "message": message[:1000],
            "source": {"component": MANAGER},
            "reportingComponent": MANAGER,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        with suppress(ApiException):
            self._call("POST", _path("Event", {**about, "name": ""}).rstrip("/"), body)
            self._wrote("create", "Event")

    def all_of(self, kind: str, namespace: str) -> list[Body]:
        """Of a kind of which a namespace has few."""
        return self._items(kind, namespace, [("limit", str(PAGE))])

    def events(self, metadata: Body) -> list[Body]:
        """What was said of an object lately."""
        about = f"involvedObject.uid={metadata['uid']}"
        return self._items("Event", metadata["namespace"], [("fieldSelector", about), ("limit", str(PAGE))])

    def _items(self, kind: str, namespace: str, query: list[tuple[str, str]]) -> list[Body]:
        group, plural = PLACES[kind]
        return list(self._call("GET", f"{group}/namespaces/{namespace}/{plural}", query=query).get("items") or ())

    @staticmethod
    def resource(kind: str) -> str:
        """By which quotas count objects of a kind: ``jobs.batch``, ``secrets``."""
        group, plural = PLACES[kind]
        return f"{plural}.{group.split('/')[2]}" if group.startswith("/apis/") else plural

    def may_make(self, kind: str, namespace: str) -> bool:
        """Whether the operator has the right to, as the API server says."""
        plural, _, group = self.resource(kind).partition(".")
        verbs = ("create",) if kind == "Secret" else ("create", "patch")
        for verb in verbs:
            asked = {"namespace": namespace, "verb": verb, "group": group, "resource": plural}
            body = {
                "apiVersion": AUTHORIZATION,
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": asked},
            }
            reviewed = self._call("POST", f"/apis/{AUTHORIZATION}/selfsubjectaccessreviews", body)
            if not reviewed["status"]["allowed"]:
                return False
        return True

    def versions(self, kind: str, namespaces: Iterable[str], label: str = "") -> dict[str, str]:
        """The resourceVersion of every object by uid, in these namespaces or in all; of those that have the label."""
        group, plural = PLACES[kind]
        paths = [f"{group}/namespaces/{name}/{plural}" for name in namespaces] or [f"{group}/{plural}"]
        found: dict[str, str] = {}
        for path in paths:
            query = [("labelSelector", label), ("limit", str(PAGE))]
            more = ""
            while True:
                listed = self._call("GET", path, query=[*query, ("continue", more)] if more else query, accept=METADATA)
                told = [one["metadata"] for one in listed.get("items") or ()]
                found |= {one["uid"]: one["resourceVersion"] for one in told}
                if not (more := listed.get("metadata", {}).get("continue", "")):
                    break
        return found

    def get(self, kind: str, metadata: Body) -> Body | None:
        """An object by its namespace and name, if it is there."""
        try:
            return self._call("GET", _path(kind, metadata))
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def _call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        query: list[tuple[str, str]] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> Body:
        method, url, headers, sent, form = self._client.param_serialize(
            verb,
            path,
            query_params=query or [],
            header_params={"Accept": accept, "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
        )
        reply = self._client.call_api(method, url, headers, sent, form, _request_timeout=SECONDS)
        reply.read()
        text = (reply.data or b"").decode("utf-8", "replace")
        if not 200 <= reply.status < 300:
            raise ApiException(status=reply.status, reason=f"{verb} {path}: {text[:1000]}")
        found = json.loads(text)
        return found if isinstance(found, dict) else {}


@contextmanager
def _making(kind: str, metadata: Body) -> Iterator[None]:
    """Raise Refused where admission or a missing right says no."""
    try:
        yield
    except ApiException as error:
        if error.status not in REFUSED:
            raise
        raise Refused(kind, metadata["namespace"], error) from error


def _path(kind: str, metadata: Body) -> str:
    group, plural = PLACES[kind]
    return f"{group}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"
