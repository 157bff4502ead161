"""A run on a real API server without a node: the test plays it, and says of pods what a kubelet would."""

import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually

from score_distill.contract import Progress, Summary
from score_distill.executors.kubernetes.names import ROLE, STEP, UID
from score_distill.executors.kubernetes.settings import Settings

ROOT = Path(__file__).parents[3]
WHERE = ("distill.score.dev", "v1alpha1")
SETTINGS = Settings(worker="worker:1", trainer="trainer:1", serving="serving:1", egress=())
Body = dict[str, Any]


class Namespace:
    def __init__(self, plane: ControlPlane) -> None:
        self.api, self.name = plane.client(), f"played-{uuid.uuid4().hex[:8]}"
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

    def children(self) -> list[dict[str, list[Body]]]:
        """Jobs, pods and Deployments by the uid of their run, as the operator's indexes have them."""
        lists = (self.batch.list_namespaced_job, self.core.list_namespaced_pod, self.apps.list_namespaced_deployment)
        found = []
        for listed, kind in zip(lists, ("Job", "Pod", "Deployment"), strict=True):
            index: defaultdict[str, list[Body]] = defaultdict(list)
            for one in listed(self.name, label_selector=UID).items:
                body = self.api.sanitize_for_serialization(one) | {"kind": kind}
                index[body["metadata"]["labels"][UID]].append(body)
            found.append(dict(index))
        return found

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
