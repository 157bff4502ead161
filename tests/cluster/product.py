"""The product on a cluster as a user has it: the CRD, the operator, a namespace with a store and its Secret.

The operator runs beside the cluster, so that a test can kill it at any instant; in a pod it is the same program.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from tests.cluster import environment, images
from tests.cluster.node import Cluster
from tests.cluster.processes import free_ports
from tests.cluster.store import ObjectStore, object_store
from tests.cluster.waiting import eventually

ROOT = Path(__file__).parents[2]
GROUP, VERSION, PLURAL = "distill.score.dev", "v1alpha1", "distillationruns"
ROLES = ["stage", "teacher", "student"]
Body = dict[str, Any]


@dataclass
class Installed:
    cluster: Cluster
    store: ObjectStore
    namespace: str
    folder: Path
    _operator: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def runs(self) -> client.CustomObjectsApi:
        return client.CustomObjectsApi(self.cluster.client())

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.cluster.client())

    @property
    def batch(self) -> client.BatchV1Api:
        return client.BatchV1Api(self.cluster.client())

    def start_operator(self) -> None:
        images_of = dict.fromkeys(("SCORE_IMAGE_WORKER", "SCORE_IMAGE_TRAINER", "SCORE_IMAGE_SERVING"), images.WORKER)
        environ = os.environ | images_of | {"KUBECONFIG": str(self.cluster.admin)}
        environ["SCORE_METRICS_PORT"] = str(free_ports(1)[0])
        command = [sys.executable, "-m", "kopf", "run", "--standalone", "--all-namespaces", "operator/main.py"]
        with (self.folder / "operator.log").open("ab") as log:
            self._operator = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)

    def kill_operator(self, number: int = signal.SIGKILL) -> None:
        if self._operator is not None:
            self._operator.send_signal(number)
            self._operator.wait(30)
            self._operator = None

    def log(self) -> str:
        return (self.folder / "operator.log").read_text()

    def apply(self, manifest: Body) -> Body:
        created = self.runs.create_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, manifest)
        return dict(created)

    def patch(self, name: str, spec: Body) -> None:
        self.runs.patch_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name, {"spec": spec})

    def delete(self, name: str) -> None:
        self.runs.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)

    def status(self, name: str) -> Body:
        found = self.runs.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)
        return dict(found.get("status", {}))

    def until(self, name: str, look: Any, within: float) -> Body:
        """The status, once ``look`` holds of it."""

        def holds() -> Body:
            status = self.status(name)
            assert look(status), yaml.safe_dump(status)
            return status

        return eventually(holds, within=within, every=0.5)


def condition(status: Body, kind: str) -> Body:
    """The condition of that type; empty while there is none."""
    return next((one for one in status.get("conditions", ()) if one["type"] == kind), {})


def step(status: Body, name: str) -> Body:
    return next((one for one in status.get("steps", ()) if one["name"] == name), {})


@contextmanager
def installed(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Installed]:
    api = cluster.client()
    crd = yaml.safe_load((ROOT / "crds" / f"{GROUP}_{PLURAL}.yaml").read_text())
    client.ApiextensionsV1Api(api).create_custom_resource_definition(crd)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": namespace, "labels": labels}})
    environment.mount(api, namespace, ROLES)
    with object_store(cluster.host, folder / "store") as store:
        store.upload(ROOT / "examples/ledger/models", "quickstart/models")
        store.upload(ROOT / "examples/ledger/data", "quickstart/data")
        core.create_namespaced_secret(namespace, {"metadata": {"name": "s3"}, "stringData": store.environ})
        product = Installed(cluster, store, namespace, folder)
        try:
            yield product
        finally:
            product.kill_operator()
