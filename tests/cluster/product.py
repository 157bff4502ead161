"""The product on a cluster as a user has it: the chart, the operator's pod, a namespace with a store and its Secret."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from tests.cluster import environment, images
from tests.cluster.helm import helm
from tests.cluster.node import Cluster
from tests.cluster.waiting import eventually
from tests.s3 import ObjectStore, object_store

ROOT = Path(__file__).parents[2]
GROUP, VERSION, PLURAL = "distill.score.dev", "v1alpha1", "distillationruns"
CHART = ROOT / "charts/score-operator"
MAIN = "/app/operator/main.py"
OPERATORS = "score"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
WORKER = dict(zip(("repository", "tag"), images.WORKER.rsplit(":", 1), strict=True))
VALUES = {
    "images": {
        "operator": dict(zip(("repository", "tag"), images.OPERATOR.rsplit(":", 1), strict=True)),
        **dict.fromkeys(("worker", "trainer", "serving"), WORKER),
    },
    "networkPolicy": {"runs": {"egress": [{"to": [{"ipBlock": {"cidr": f"{Cluster.host}/32"}}]}]}},
}
ROLES = ["stage", "teacher", "student"]
Body = dict[str, Any]


@dataclass
class Installed:
    cluster: Cluster
    store: ObjectStore
    folder: Path

    @property
    def runs(self) -> client.CustomObjectsApi:
        return client.CustomObjectsApi(self.cluster.client())

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.cluster.client())

    @property
    def batch(self) -> client.BatchV1Api:
        return client.BatchV1Api(self.cluster.client())

    def helm(self, *arguments: object) -> None:
        homes = {f"HELM_{kind}_HOME": str(self.folder / "helm" / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        environ = os.environ | homes | {"KUBECONFIG": str(self.cluster.admin)}
        ran = subprocess.run([helm(), *arguments], env=environ, capture_output=True, text=True, timeout=180)
        assert ran.returncode == 0, ran.stderr

    def kill_operator(self) -> None:
        """SIGKILL to its process, which is one of this machine too; its kubelet starts it again."""
        [process] = self._operators()
        process.kill()
        process.wait(30)

    @staticmethod
    def _operators() -> list[psutil.Process]:
        found = psutil.process_iter(["cmdline"])
        return [one for one in found if MAIN in (one.info["cmdline"] or ())]

    def log(self) -> str:
        """Of every operator that there was, as far as the node has kept it."""
        found = []
        for pod in self.core.list_namespaced_pod(OPERATORS).items:
            for previous in (True, False):
                with suppress(ApiException):
                    found.append(self.core.read_namespaced_pod_log(pod.metadata.name, OPERATORS, previous=previous))
        return "\n".join(found)

    def prepare(self, namespace: str) -> None:
        """Make a namespace in which runs can be: with the keys of the store, and the environment in its pods."""
        self.core.create_namespace({"metadata": {"name": namespace, "labels": RESTRICTED}})
        environment.mount(self.cluster.client(), namespace, ROLES)
        self.core.create_namespaced_secret(namespace, {"metadata": {"name": "s3"}, "stringData": self.store.environ})


@dataclass(frozen=True)
class Run:
    """A DistillationRun that a person has applied."""

    product: Installed
    namespace: str
    name: str

    def apply(self, manifest: Body) -> Body:
        created = self.product.runs.create_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, manifest)
        return dict(created)

    def patch(self, spec: Body) -> None:
        runs = self.product.runs
        runs.patch_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, self.name, {"spec": spec})

    def delete(self) -> None:
        self.product.runs.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, self.name)

    def status(self) -> Body:
        found = self.product.runs.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, self.name)
        return dict(found.get("status", {}))

    def until(self, look: Callable[[Body], object], within: float) -> Body:
        """The status, once ``look`` holds of it."""

        def holds() -> Body:
            status = self.status()
            assert look(status), yaml.safe_dump(status)
            return status

        return eventually(holds, within=within, every=0.5)

    def jobs(self) -> list[str]:
        found = self.product.batch.list_namespaced_job(self.namespace, label_selector=self._mine)
        return sorted(job.metadata.name for job in found.items)

    def pods(self, more: str = "") -> list[client.V1Pod]:
        return list(self.product.core.list_namespaced_pod(self.namespace, label_selector=self._mine + more).items)

    @property
    def _mine(self) -> str:
        return f"{GROUP}/run={self.name}"


def condition(status: Body, kind: str) -> Body:
    """The condition of that type; empty while there is none."""
    return next((one for one in status.get("conditions", ()) if one["type"] == kind), {})


def step(status: Body, name: str) -> Body:
    return next((one for one in status.get("steps", ()) if one["name"] == name), {})


@contextmanager
def installed(cluster: Cluster, folder: Path) -> Iterator[Installed]:
    """The chart with the operator as a pod, and a store with the quickstart's models and tasks."""
    core = client.CoreV1Api(cluster.client())
    core.create_namespace({"metadata": {"name": OPERATORS, "labels": RESTRICTED}})
    with object_store(cluster.host, folder / "store") as store:
        store.upload(ROOT / "examples/ledger/models", "quickstart/models")
        store.upload(ROOT / "examples/ledger/data", "quickstart/data")
        store.upload(ROOT / "examples/search/pages", "quickstart/pages")
        product = Installed(cluster, store, folder)
        values = folder / "values.yaml"
        values.write_text(yaml.safe_dump(VALUES))
        product.helm(
            "install", "score", CHART, "--namespace", OPERATORS, "--values", values, "--wait", "--timeout", "2m"
        )
        yield product
