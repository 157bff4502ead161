"""What a run waits for, on a real API server with its own quotas, ranges, policies and claims: the run says it."""

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Body, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import ROLE, STEP
from score_distill.executors.kubernetes.passes import Operator

BARE: Body = {"metadata": {"name": "bare"}, "spec": {"containers": [{"name": "any", "image": "any"}]}}


def operator(namespace: Namespace) -> Operator:
    """One that takes nothing for new."""
    return Operator(Cluster(namespace.api), SETTINGS, logging.getLogger("test"), lambda: time.time() + 60)


def conditions(namespace: Namespace, by: Operator) -> dict[str, Body]:
    return {one["type"]: one for one in namespace.one_pass(by)["conditions"]}


def says(namespace: Namespace, reason: str, words: str, *kinds: str) -> None:
    """The run comes to say so, in all these conditions, and in an event."""
    by = operator(namespace)

    def is_said() -> None:
        found = conditions(namespace, by)
        for kind in kinds:
            assert (found[kind]["reason"], found[kind]["status"] != "True") == (reason, True), found[kind]
            assert words in found[kind]["message"]

    eventually(is_said, within=60)
    assert reason in [one.reason for one in namespace.core.list_namespaced_event(namespace.name).items]


def goes_on(namespace: Namespace) -> None:
    by = operator(namespace)

    def step_runs() -> None:
        assert conditions(namespace, by)["Succeeded"]["reason"] == "StepRunning"
        assert namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{STEP}=prepare").items

    eventually(step_runs, within=90)


def quota(hard: dict[str, str]) -> Callable[[Namespace], None]:
    def make(namespace: Namespace) -> None:
        body = {"metadata": {"name": "narrow"}, "spec": {"hard": hard}}
        namespace.core.create_namespaced_resource_quota(namespace.name, body)

        def is_counted() -> None:
            assert namespace.core.read_namespaced_resource_quota("narrow", namespace.name).status.used

        eventually(is_counted)

    return make


def limit_range(**bounds: Any) -> Callable[[Namespace], None]:
    def make(namespace: Namespace) -> None:
        body = {"metadata": {"name": "narrow"}, "spec": {"limits": [{"type": "Container", **bounds}]}}
        namespace.core.create_namespaced_limit_range(namespace.name, body)

    return make


def policy(group: str, resource: str) -> Callable[[Namespace], None]:
    """Nobody may make any of these in the namespace."""

    def make(namespace: Namespace) -> None:
        api, name = client.AdmissionregistrationV1Api(namespace.api), f"{namespace.name}-{resource}"
        rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}
        here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}}
        no = [{"expression": "false", "message": "the house says no"}]
        spec = {"failurePolicy": "Fail", "matchConstraints": {**here, "resourceRules": [rule]}, "validations": no}
        api.create_validating_admission_policy({"metadata": {"name": name}, "spec": spec})
        bound = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
        api.create_validating_admission_policy_binding({"metadata": {"name": name}, "spec": bound})
        job = {"metadata": {"name": "bare"}, "spec": {"template": {"spec": {**BARE["spec"], "restartPolicy": "Never"}}}}

        def is_in_force() -> None:
            try:
                if group:
                    namespace.batch.create_namespaced_job(namespace.name, job, dry_run="All")
                else:
                    namespace.core.create_namespaced_pod(namespace.name, BARE, dry_run="All")
            except ApiException as error:
                assert "the house says no" in str(error.body)
            else:
                raise AssertionError("it was taken")

        eventually(is_in_force)

    return make


NO_PODS: list[tuple[Callable[[Namespace], None], str, str]] = [
    (quota({"pods": "0"}), "QuotaExceeded", "exceeded quota: narrow"),
    (quota({"requests.memory": "1Mi", "limits.cpu": "64"}), "QuotaExceeded", "exceeded quota: narrow"),
    (quota({"count/pods": "0"}), "QuotaExceeded", "exceeded quota: narrow"),
    (limit_range(max={"memory": "1Mi"}), "QuotaExceeded", "1Mi"),
    (limit_range(min={"cpu": "900"}), "QuotaExceeded", "minimum cpu usage per Container is 900"),
    (policy("", "pods"), "PolicyRefused", "the house says no"),
]


@pytest.mark.parametrize(("narrow", "reason", "words"), NO_PODS)
def test_a_run_whose_pods_are_not_admitted_says_why(
    control_plane: ControlPlane, narrow: Callable[[Namespace], None], reason: str, words: str
) -> None:
    namespace = Namespace(control_plane)
    narrow(namespace)
    namespace.begin()
    says(namespace, reason, words, "Succeeded", "Progressing", "TeacherReady")


def test_a_step_goes_on_when_there_is_quota_for_it(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    quota({"pods": "0"})(namespace)
    namespace.begin()
    says(namespace, "QuotaExceeded", "exceeded quota: narrow", "Succeeded", "Progressing")
    namespace.core.delete_namespaced_resource_quota("narrow", namespace.name)
    goes_on(namespace)


WIDE = {"requests.cpu": "64", "requests.memory": "1Ti", "limits.cpu": "64", "limits.memory": "1Ti"}


def test_a_namespace_whose_quota_counts_limits_takes_every_pod_of_the_quickstart(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    quota(WIDE)(namespace)
    namespace.begin()
    by, roles = operator(namespace), set[str]()

    def is_played() -> None:
        namespace.play()
        pods = namespace.core.list_namespaced_pod(namespace.name).items
        roles.update(pod.metadata.labels.get(STEP) or pod.metadata.labels[ROLE] for pod in pods)
        assert conditions(namespace, by)["Succeeded"]["status"] == "True"

    eventually(is_played, within=120, every=0.05)
    assert roles == {"teacher", "student", "prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"}
    said = namespace.core.list_namespaced_event(namespace.name).items
    assert not [one.message for one in said if "quota" in one.message]


def test_pods_whose_limits_nobody_gives_are_refused_by_such_a_quota_and_get_those_of_a_limit_range(
    control_plane: ControlPlane,
) -> None:
    namespace = Namespace(control_plane)
    quota(WIDE)(namespace)
    namespace.begin(resources={"trainer": {"dtype": "float32"}})
    must = "must specify limits.cpu for: stage; limits.memory for: stage"
    says(namespace, "QuotaExceeded", must, "Succeeded", "Progressing")
    limit_range(default={"cpu": "1", "memory": "1Gi"})(namespace)
    goes_on(namespace)


def test_a_restricted_namespace_takes_all_pods_of_a_run(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    restricted = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    namespace.core.patch_namespace(namespace.name, restricted)
    namespace.begin()
    goes_on(namespace)


@pytest.mark.parametrize(
    ("narrow", "reason", "words"),
    [
        (quota({"count/jobs.batch": "0"}), "QuotaExceeded", "exceeded quota: narrow"),
        (quota({"secrets": "0"}), "QuotaExceeded", "exceeded quota: narrow"),
        (policy("batch", "jobs"), "PolicyRefused", "the house says no"),
    ],
)
def test_an_object_that_is_not_admitted_is_told(
    control_plane: ControlPlane, narrow: Callable[[Namespace], None], reason: str, words: str
) -> None:
    namespace = Namespace(control_plane)
    narrow(namespace)
    namespace.begin()
    with pytest.raises(ApiException):
        namespace.one_pass(operator(namespace))
    found = {one["type"]: one for one in namespace.run()["status"]["conditions"]}["Succeeded"]
    assert (found["reason"], words in found["message"]) == (reason, True), found


def test_an_operator_without_the_right_says_so_whatever_the_quotas(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    quota({"count/jobs.batch": "0"})(namespace)
    namespace.begin()
    rbac, user = client.RbacAuthorizationV1Api(namespace.api), f"narrow-{namespace.name}"
    rules = [
        {"apiGroups": [""], "resources": ["secrets", "services", "configmaps"], "verbs": ["*"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["*"]},
        {"apiGroups": ["distill.score.dev"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "create"]},
    ]
    rbac.create_namespaced_role(namespace.name, {"metadata": {"name": "some"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "some"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    binding = {"metadata": {"name": "some"}, "roleRef": role, "subjects": [subject]}
    rbac.create_namespaced_role_binding(namespace.name, binding)
    cluster = Cluster(control_plane.client(control_plane.kubeconfig(user)))
    with pytest.raises(ApiException):
        namespace.one_pass(Operator(cluster, SETTINGS, logging.getLogger("test")))
    found = {one["type"]: one for one in namespace.run()["status"]["conditions"]}["Succeeded"]
    assert (found["reason"], "jobs.batch" in found["message"]) == ("Forbidden", True), found


def prepares(namespace: Namespace) -> client.V1Pod:
    [pod] = namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{STEP}=prepare").items
    return pod


def test_a_pod_whose_volume_cannot_be_mounted_is_told_until_it_is(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    namespace.begin()
    namespace.one_pass(operator(namespace))
    pod = eventually(lambda: prepares(namespace))
    node = {"metadata": {"name": pod.metadata.name}, "target": {"kind": "Node", "apiVersion": "v1", "name": "any"}}
    namespace.core.create_namespaced_pod_binding(pod.metadata.name, namespace.name, node, _preload_content=False)
    namespace.say(pod, "Pending", False, {"waiting": {"reason": "ContainerCreating"}})

    def node_says(reason: str, message: str, at: float) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
        body = {"metadata": {"generateName": "said-"}, "type": "Warning", "reason": reason, "message": message}
        about = {"kind": "Pod", "name": pod.metadata.name, "namespace": namespace.name, "uid": pod.metadata.uid}
        body |= {"involvedObject": about, "firstTimestamp": when, "lastTimestamp": when}
        namespace.core.create_namespaced_event(namespace.name, body)

    node_says("FailedMount", 'MountVolume.SetUp failed: secret "k" not found', time.time())
    says(namespace, "MountFailed", 'secret "k" not found', "Succeeded", "Progressing")
    node_says("Pulling", "pulling image", time.time() + 2)
    goes_on(namespace)


def test_a_pod_without_a_volume_has_the_words_of_its_claim(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    namespace.core.create_namespaced_persistent_volume_claim(
        namespace.name, {"metadata": {"name": "weights"}, "spec": size}
    )
    namespace.begin(student={"model": "pvc://weights/student"})
    namespace.one_pass(operator(namespace))
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}

    def is_unplaced() -> None:
        namespace.say(prepares(namespace), "Pending", False, {"waiting": {}}, conditions=[unplaced])

    eventually(is_unplaced)
    says(namespace, "VolumePending", "claim weights is Pending: no persistent volumes available", "Succeeded")


def test_a_gated_pod_is_queued_and_never_stalled(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    namespace.begin(stallSeconds=60)
    late = [0.0]
    by = Operator(Cluster(namespace.api), SETTINGS, logging.getLogger("test"), lambda: time.time() + late[0])
    namespace.one_pass(by)
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked"}

    def are_gated() -> None:
        pods = namespace.core.list_namespaced_pod(namespace.name).items
        assert {pod.metadata.labels[ROLE] for pod in pods} == {"stage", "teacher"}
        for pod in pods:
            namespace.say(pod, "Pending", False, {"waiting": {}}, conditions=[gated])

    eventually(are_gated)
    for passed in (0.0, 3600.0, 7200.0):
        late[0] = passed
        found = conditions(namespace, by)
        assert {found[kind]["reason"] for kind in ("Succeeded", "Progressing", "TeacherReady")} == {"Queued"}
        assert found["Stalled"]["status"] == "False"
