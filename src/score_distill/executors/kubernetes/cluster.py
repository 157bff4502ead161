"""All that is asked of the API server. Thin: what to ask is decided elsewhere.

Objects are applied by server-side apply under one field manager. An object that is there and belongs to another is
never touched: ForeignObject. Every request has a time limit.
"""

import base64
import json
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from score_distill.api import GROUP, VERSION
from score_distill.errors import Infrastructure
from score_distill.executors.kubernetes.names import MANAGER, Body, Owner, owned

SECONDS = 30.0
PAGE = 500
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
    "DistillationRun": (f"/apis/{GROUP}/{VERSION}", "distillationruns"),
}


class ForeignObject(Infrastructure):
    """An object of that name is there and belongs to somebody else."""


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
        there = self._get(path)
        if there is not None and not owned(there, uid):
            raise ForeignObject(
                f"{kind} {name} is there and does not belong to this run; remove it or give the run another name"
            )
        self._call(
            "PATCH",
            path,
            body,
            query=[("fieldManager", MANAGER), ("force", "true")],
            content="application/apply-patch+yaml",
        )
        self._wrote("apply", kind)

    def create_keys(self, owner: Owner, roles: Iterable[str]) -> None:
        """The Secret with a fresh key for each model server of the run; made once, never read."""
        metadata = owner.metadata(owner.keys, owner.labels("keys"))
        data = {role: base64.b64encode(secrets.token_urlsafe(32).encode()).decode() for role in roles}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data, "immutable": True}
        try:
            self._call("POST", _path("Secret", {**metadata, "name": ""}).rstrip("/"), body)
            self._wrote("create", "Secret")
        except ApiException as error:
            if error.status != 409:
                raise

    def delete(self, kind: str, metadata: Body) -> None:
        """Delete an object and its pods; one that is gone is fine. A Job outlives its pods, to say whose they are."""
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

    def _get(self, path: str) -> Body | None:
        try:
            return self._call("GET", path)
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


def _path(kind: str, metadata: Body) -> str:
    group, plural = PLACES[kind]
    return f"{group}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"
