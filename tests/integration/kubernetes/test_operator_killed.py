"""The operator dies after every few writes to a real API server, and the run ends as an unbroken one does.

No node is there: the test plays it, and says of the pods that the controllers make what a kubelet would.
"""

import asyncio
import logging
import uuid
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually

from score_distill.contract import Progress, Summary
from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import ROLE, STEP, UID
from score_distill.executors.kubernetes.passes import Operator
from score_distill.executors.kubernetes.settings import Settings

ROOT = Path(__file__).parents[3]
WHERE = ("distill.score.dev", "v1alpha1")
STEPS = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]
SETTINGS = Settings(worker="worker:1", trainer="trainer:1", serving="serving:1", egress=())
Body = dict[str, Any]


class Killed(Exception):
    """What SIGKILL does: nothing after it happens."""


class Namespace:
    def __init__(self, plane: ControlPlane) -> None:
        self.api, self.name = plane.client(), f"killed-{uuid.uuid4().hex[:8]}"
        self.core, self.batch = client.CoreV1Api(self.api), client.BatchV1Api(self.api)
        self.apps, self.runs = client.AppsV1Api(self.api), client.CustomObjectsApi(self.api)
        definitions = client.ApiextensionsV1Api(self.api)
        crd = yaml.safe_load((ROOT / "crds/distill.score.dev_distillationruns.yaml").read_text())
        if crd["metadata"]["name"] not in [
            one.metadata.name for one in definitions.list_custom_resource_definition().items
        ]:
            definitions.create_custom_resource_definition(crd)
        self.core.create_namespace({"metadata": {"name": self.name}})

    def begin(self) -> Body:
        manifest = yaml.safe_load((ROOT / "examples/kubernetes/quickstart.yaml").read_text())
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
                self._say(pod, "Succeeded", False, {"terminated": ended})
            else:
                self._say(pod, "Running", True, {"running": {}})

    def _say(self, pod: client.V1Pod, phase: str, ready: bool, state: Body) -> None:
        name = pod.spec.containers[0].name
        container = {"name": name, "ready": ready, "state": state, "image": "", "imageID": "", "restartCount": 0}
        status = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [container],
        }
        self.core.patch_namespaced_pod_status(pod.metadata.name, self.name, {"status": status})


@pytest.mark.parametrize("dies", [False, True])
def test_a_run_ends_the_same_though_the_operator_dies_again_and_again(control_plane: ControlPlane, dies: bool) -> None:
    namespace = Namespace(control_plane)
    uid = namespace.begin()["metadata"]["uid"]
    deaths = list[tuple[str, str]]()
    jobs = set[tuple[str, str]]()
    left = 1

    def wrote(verb: str, kind: str) -> None:
        """Each life is of some writes more than the one before, up to six; then of one again."""
        nonlocal left
        left -= 1
        if dies and left == 0:
            deaths.append((verb, kind))
            left = len(deaths) % 6 + 1
            raise Killed

    def lives() -> Operator:
        return Operator(Cluster(namespace.api, wrote), SETTINGS, logging.getLogger("test"))

    operator = lives()

    def one_pass() -> None:
        nonlocal operator
        namespace.play()
        found = namespace.children()
        jobs.update((job["metadata"]["name"], job["metadata"]["uid"]) for job in found[0].get(uid, ()))
        operator.sees({uid: [namespace.run()]}, *found)
        try:
            asyncio.run(operator.reconcile(uid))
        except Killed:
            operator = lives()
        status = namespace.run().get("status", {})
        ended = [one for one in status.get("conditions", ()) if one["type"] == "Succeeded"]
        assert ended, "nothing is said yet"
        assert ended[0]["status"] == "True", status.get("steps")

    eventually(one_pass, within=180, every=0.05)

    status = namespace.run()["status"]
    assert [(one["name"], one["state"], one["attempt"]) for one in status["steps"]] == [
        (name, "Succeeded", 1) for name in STEPS
    ]
    assert status["usage"]["teacherTokens"] == 7 * len(STEPS)
    assert sorted(name for name, _ in jobs) == sorted(f"quickstart-{name}-1" for name in STEPS)
    secrets = [one.metadata.name for one in namespace.core.list_namespaced_secret(namespace.name).items]
    assert secrets == [f"quickstart-keys-{uid[:8]}"]
    if dies:
        assert len(deaths) >= 20
        assert len({*deaths}) >= 5, deaths

    def servers_are_gone() -> None:
        operator.sees({uid: [namespace.run()]}, *namespace.children())
        with suppress(Killed):
            asyncio.run(operator.reconcile(uid))
        assert not namespace.apps.list_namespaced_deployment(namespace.name).items

    eventually(servers_are_gone)
