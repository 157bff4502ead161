"""A run on a real API server without a node: the test plays it, and says of pods what a kubelet would."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually

from score_distill.api import KIND
from score_distill.contract import Progress, Summary
from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.known import KINDS
from score_distill.executors.kubernetes.names import ROLE, STEP, UID
from score_distill.executors.kubernetes.passes import Operator
from score_distill.executors.kubernetes.settings import Settings

ROOT = Path(__file__).parents[3]
WHERE = ("distill.score.dev", "v1alpha1")
SETTINGS = Settings(worker="worker:1", trainer="trainer:1", serving="serving:1", egress=())
Body = dict[str, Any]


class Namespace:
    def __init__(self, plane: ControlPlane) -> None:
        self.api, self.name = plane.client(), f"played-{uuid.uuid4().hex[:8]}"
        self._told: dict[str, Body] = {}
        self.cluster = Cluster(self.api)
        self.core, self.batch = client.CoreV1Api(self.api), client.BatchV1Api(self.api)
        self.apps, self.runs = client.AppsV1Api(self.api), client.CustomObjectsApi(self.api)
        definitions = client.ApiextensionsV1Api(self.api)
        crd = yaml.safe_load((ROOT / "crds/distill.score.dev_distillationruns.yaml").read_text())
        if crd["metadata"]["name"] not in [
            one.metadata.name for one in definitions.list_custom_resource_definition().items
        ]:
            definitions.create_custom_resource_definition(crd)
        self.core.create_namespace({"metadata": {"name": self.name}})

    def begin(self, **spec: Any) -> Body:
        manifest = yaml.safe_load((ROOT / "examples/kubernetes/quickstart.yaml").read_text())
        manifest["spec"]["method"]["rounds"] = 1
        manifest["spec"] |= spec
        where = (*WHERE, self.name, "distillationruns")
        return dict(eventually(lambda: self.runs.create_namespaced_custom_object(*where, manifest)))

    def run(self) -> Body:
        return dict(self.runs.get_namespaced_custom_object(*WHERE, self.name, "distillationruns", "quickstart"))

    def run_is_suspended(self, suspend: bool) -> None:
        where = (*WHERE, self.name, "distillationruns", "quickstart")
        self.runs.patch_namespaced_custom_object(*where, {"spec": {"suspend": suspend}})

    def children(self) -> list[Body]:
        """All that is watched of a run, as a watch brings it."""
        kinds = [kind for kind in KINDS if kind != KIND]
        return [
            one | {"kind": kind}
            for kind in kinds
            for one in self.cluster.all_of(kind, self.name)
            if UID in one["metadata"].get("labels", {})
        ]

    def tell(self, operator: Operator) -> tuple[str, str]:
        """What its watches would have brought it by now; the run's key."""
        run = self.run()
        there = {body["metadata"]["uid"]: body for body in (*self.children(), run)}
        for uid, body in self._told.items():
            if uid not in there:
                operator.known.drop(body["kind"], body)
        for body in there.values():
            operator.known.put(body["kind"], body)
        self._told |= there
        return self.name, run["metadata"]["uid"]

    def one_pass(self, operator: Operator) -> Body:
        """The status after a pass that knows all there is; the pods that it asks have then answered, or not."""

        async def one() -> None:
            key = self.tell(operator)
            await operator.reconcile(key)
            await operator.asking.ask(key)

        asyncio.run(one())
        return dict(self.run()["status"])

    def play(self) -> None:
        """Let stages succeed and models be ready."""
        for pod in self.core.list_namespaced_pod(self.name, label_selector=UID).items:
            labels, phase = pod.metadata.labels, pod.status.phase
            if phase != "Pending":
                continue
            if labels[ROLE] == "stage":
                told = Summary(step=labels[STEP], succeeded=True, tokens={"teacher": 7}, digest="a" * 64)
                told = told.model_copy(update={"progress": Progress(done=3, total=3, unit="tasks")})
                ended = {"exitCode": 0, "reason": "Completed", "message": told.bounded().decode()}
                self.say(pod, "Succeeded", False, {"terminated": ended})
            else:
                self.say(pod, "Running", True, {"running": {}})

    def say(self, pod: client.V1Pod, phase: str, ready: bool, state: Body, **more: Any) -> None:
        """What a kubelet says of a pod."""
        name = pod.spec.containers[0].name
        container = {"name": name, "ready": ready, "state": state, "image": "", "imageID": "", "restartCount": 0}
        status = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [container],
            **more,
        }
        self.core.patch_namespaced_pod_status(pod.metadata.name, self.name, {"status": status})
