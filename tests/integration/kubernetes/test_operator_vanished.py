"""Pods that never end, on a real API server: their Job keeps its name for as long, and the run goes on without it."""

import logging
import time
from collections.abc import Callable

import pytest
from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Body, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.endings import LOST_SECONDS
from score_distill.executors.kubernetes.names import STEP
from score_distill.executors.kubernetes.passes import Operator
from score_distill.executors.kubernetes.pods import GRACE_SECONDS

LATE = GRACE_SECONDS + LOST_SECONDS + 5


def vanish_with_its_node(namespace: Namespace, pod: client.V1Pod) -> None:
    """It is evicted from a node that no kubelet speaks for."""
    target = {
        "target": {"apiVersion": "v1", "kind": "Node", "name": "vanished"},
        "metadata": {"name": pod.metadata.name},
    }
    namespace.core.create_namespaced_pod_binding(pod.metadata.name, namespace.name, target, _preload_content=False)
    namespace.say(pod, "Running", True, {"running": {}})
    namespace.core.delete_namespaced_pod(pod.metadata.name, namespace.name, grace_period_seconds=1)


def be_held_by_a_finalizer_after_its_end(namespace: Namespace, pod: client.V1Pod) -> None:
    """Its run is suspended and resumed; it ends in time, and somebody does not let go of it."""
    finalizers = [*(pod.metadata.finalizers or ()), "example.com/audit"]
    namespace.core.patch_namespaced_pod(pod.metadata.name, namespace.name, {"metadata": {"finalizers": finalizers}})
    namespace.run_is_suspended(True)
    namespace.one_pass(Operator(Cluster(namespace.api), SETTINGS, logging.getLogger("test")))

    def is_being_deleted() -> None:
        found = namespace.core.read_namespaced_pod(pod.metadata.name, namespace.name)
        assert found.metadata.deletion_timestamp

    eventually(is_being_deleted)
    namespace.say(pod, "Failed", False, {"terminated": {"exitCode": 143}})
    namespace.run_is_suspended(False)


@pytest.mark.parametrize("happens", [vanish_with_its_node, be_held_by_a_finalizer_after_its_end])
def test_a_run_goes_on_beside_a_job_that_cannot_go(
    control_plane: ControlPlane, happens: Callable[[Namespace, client.V1Pod], None]
) -> None:
    namespace, late = Namespace(control_plane), [0.0]
    operator = Operator(Cluster(namespace.api), SETTINGS, logging.getLogger("test"), lambda: time.time() + late[0])
    namespace.begin()
    namespace.one_pass(operator)

    def pod_is_made() -> client.V1Pod:
        [pod] = namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{STEP}=prepare").items
        return pod

    def prepare() -> Body:
        return dict(namespace.one_pass(operator)["steps"][0])

    happens(namespace, eventually(pod_is_made))
    assert prepare()["attempt"] == 1
    late[0] = LATE

    def next_attempt_runs() -> None:
        found = prepare()
        late[0] += 5
        assert (found["state"], found["attempt"]) == ("Running", 2)

    eventually(next_attempt_runs)
    jobs = {one.metadata.name: one.metadata for one in namespace.batch.list_namespaced_job(namespace.name).items}
    assert jobs.keys() == {"quickstart-prepare-1", "quickstart-prepare-2"}
    assert jobs["quickstart-prepare-1"].deletion_timestamp
    assert not jobs["quickstart-prepare-2"].deletion_timestamp
    namespace.play()

    def is_done() -> None:
        assert (prepare()["state"], prepare()["attempt"]) == ("Succeeded", 2)

    eventually(is_done)
