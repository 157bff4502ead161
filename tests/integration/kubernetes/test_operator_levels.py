"""What a run needs and somebody deletes or changes by hand comes back, on a real API server."""

import logging
import time
from collections import Counter

import pytest
from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Body, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import ROLE, STEP
from score_distill.executors.kubernetes.passes import Operator

WRITES = Counter[tuple[str, str]]


def operator(namespace: Namespace, writes: WRITES) -> Operator:
    """One that takes nothing for new."""
    cluster = Cluster(namespace.api, lambda verb, kind: writes.update([(verb, kind)]))
    return Operator(cluster, SETTINGS, logging.getLogger("test"), lambda: time.time() + 60)


def run_at(namespace: Namespace, step: str) -> Operator:
    """Of which the models are ready and the step's Job has a pod that no node has yet."""
    writes = WRITES()
    by = operator(namespace, writes)

    def has_come() -> None:
        status = namespace.one_pass(by)
        if not any((one["name"], one["state"]) == (step, "Running") for one in status["steps"]):
            namespace.play()
            raise AssertionError(status["steps"])
        assert namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{STEP}={step}").items
        writes.clear()
        namespace.one_pass(by)
        assert not writes

    eventually(has_come, within=90)
    return by


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Namespace:
    made = Namespace(control_plane)
    made.begin()
    return made


def state(namespace: Namespace) -> list[Body]:
    """What was asked for of all that may come back."""
    kinds = ("Service", "NetworkPolicy", "Deployment")
    return sorted(
        (
            {"kind": one["kind"], "name": one["metadata"]["name"], "spec": said}
            for one in namespace.children()
            if one["kind"] in kinds
            for said in [{key: value for key, value in one["spec"].items() if not key.startswith("clusterIP")}]
        ),
        key=str,
    )


def test_services_policies_and_replicas_are_what_they_were_after_one_pass(namespace: Namespace) -> None:
    by, network = run_at(namespace, "mentor"), client.NetworkingV1Api(namespace.api)
    before = state(namespace)
    assert len(before) == 6
    namespace.core.delete_namespaced_service("quickstart-teacher", namespace.name)
    elsewhere = {"spec": {"selector": {ROLE: "another"}}}
    namespace.core.patch_namespaced_service("quickstart-student", namespace.name, elsewhere)
    network.delete_namespaced_network_policy("quickstart-stages", namespace.name)
    network.patch_namespaced_network_policy("quickstart-models", namespace.name, {"spec": {"egress": [{}]}})
    namespace.apps.patch_namespaced_deployment_scale("quickstart-teacher", namespace.name, {"spec": {"replicas": 0}})
    namespace.apps.delete_namespaced_deployment("quickstart-student", namespace.name)
    assert state(namespace) != before

    namespace.one_pass(by)
    assert state(namespace) == before


def cannot_mount(namespace: Namespace, step: str) -> client.V1Pod:
    """What a node says of a pod whose volumes name what is not there."""
    [pod] = namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{STEP}={step}").items
    node = {"metadata": {"name": pod.metadata.name}, "target": {"kind": "Node", "apiVersion": "v1", "name": "any"}}
    namespace.core.create_namespaced_pod_binding(pod.metadata.name, namespace.name, node, _preload_content=False)
    namespace.say(pod, "Pending", False, {"waiting": {"reason": "ContainerCreating"}})
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    about = {"kind": "Pod", "name": pod.metadata.name, "namespace": namespace.name, "uid": pod.metadata.uid}
    body = {"metadata": {"generateName": "said-"}, "type": "Warning", "reason": "FailedMount", "message": "not found"}
    body |= {"involvedObject": about, "firstTimestamp": when, "lastTimestamp": when}
    namespace.core.create_namespaced_event(namespace.name, body)
    return pod


def uids(namespace: Namespace, kind: str) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["uid"] for one in namespace.children() if one["kind"] == kind}


def ends(namespace: Namespace, by: Operator) -> None:
    """As if nothing had been, every attempt the first."""

    def has_ended() -> None:
        namespace.play()
        status = namespace.one_pass(by)
        assert [(one["state"], one["attempt"]) for one in status["steps"]] == [("Succeeded", 1)] * 7, status["steps"]

    eventually(has_ended, within=120, every=0.05)


def vanishes(namespace: Namespace, pod: client.V1Pod) -> None:
    """What a node does of a pod that is being deleted."""
    namespace.core.delete_namespaced_pod(pod.metadata.name, namespace.name, grace_period_seconds=0)


def test_deleted_keys_are_made_anew_with_the_servers_that_had_them(namespace: Namespace) -> None:
    by = run_at(namespace, "demonstrate")
    servers, jobs = uids(namespace, "Deployment"), uids(namespace, "Job")
    [secret] = namespace.core.list_namespaced_secret(namespace.name).items
    namespace.core.delete_namespaced_secret(secret.metadata.name, namespace.name)
    pod = cannot_mount(namespace, "demonstrate")

    def servers_are_new() -> None:
        namespace.one_pass(by)
        found = uids(namespace, "Deployment")
        assert found.keys() == servers.keys()
        assert not {*found.values()} & {*servers.values()}

    eventually(servers_are_new, within=60)
    [again] = namespace.core.list_namespaced_secret(namespace.name).items
    assert again.metadata.name == secret.metadata.name
    assert again.data != secret.data
    vanishes(namespace, pod)
    ends(namespace, by)
    assert uids(namespace, "Job").get("quickstart-demonstrate-1") != jobs["quickstart-demonstrate-1"]


def test_a_step_whose_configuration_is_deleted_before_its_pod_has_it_begins_anew(namespace: Namespace) -> None:
    by = run_at(namespace, "prepare")
    namespace.core.delete_namespaced_config_map("quickstart-prepare-1", namespace.name)
    pod = cannot_mount(namespace, "prepare")

    def job_goes() -> None:
        namespace.one_pass(by)
        [job] = [one for one in namespace.children() if one["kind"] == "Job"]
        assert "deletionTimestamp" in job["metadata"]

    eventually(job_goes, within=60)
    vanishes(namespace, pod)
    ends(namespace, by)


def test_what_a_user_has_not_made_yet_is_waited_for(namespace: Namespace) -> None:
    by = run_at(namespace, "demonstrate")
    before = uids(namespace, "Deployment"), uids(namespace, "Job"), uids(namespace, "Pod")
    cannot_mount(namespace, "demonstrate")

    def is_said() -> None:
        found = {one["type"]: one for one in namespace.one_pass(by)["conditions"]}
        assert found["Succeeded"]["reason"] == "MountFailed"

    eventually(is_said, within=60)
    assert (uids(namespace, "Deployment"), uids(namespace, "Job"), uids(namespace, "Pod")) == before
