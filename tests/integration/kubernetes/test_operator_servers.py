"""A model's server that does not come up, on a real API server: the run says why, by what the kubelet says of it."""

import logging

import pytest
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Body, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import ROLE, UID
from score_distill.executors.kubernetes.passes import Operator

BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}


def one_pass(namespace: Namespace) -> dict[str, Body]:
    """Of an operator that has just begun; the conditions afterwards by type."""
    operator = Operator(Cluster(namespace.api), SETTINGS, logging.getLogger("test"))
    return {one["type"]: dict(one) for one in namespace.one_pass(operator)["conditions"]}


def says_of_its_server(namespace: Namespace, terminated: Body) -> None:
    """The pod of the teacher runs, and its server has ended as told and waits for its next start."""
    teachers = f"{UID},{ROLE}=teacher"
    [pod] = namespace.core.list_namespaced_pod(namespace.name, label_selector=teachers).items
    common = {"image": "", "imageID": ""}
    server = {"name": "vllm", "ready": False, "started": False, "restartCount": 1, **common, "state": BACK_OFF}
    gateway = {"name": "gateway", "ready": False, "restartCount": 0, **common, "state": {"running": {}}}
    both = [server | {"lastState": {"terminated": terminated}}, gateway]
    namespace.say(pod, "Running", False, {"running": {}}, containerStatuses=both)


@pytest.mark.parametrize(
    ("terminated", "reason", "words"),
    [
        ({"exitCode": 2, "message": "unrecognized arguments: --no"}, "ServingArgsRefused", "unrecognized arguments"),
        ({"exitCode": 1, "message": "no kernel image"}, "CrashLoop", "no kernel image"),
        ({"exitCode": 137, "reason": "OOMKilled"}, "CrashLoop", "OOMKilled"),
    ],
)
def test_a_server_that_ends_before_it_is_ready_is_told(
    control_plane: ControlPlane, terminated: Body, reason: str, words: str
) -> None:
    namespace = Namespace(control_plane)
    namespace.begin()
    one_pass(namespace)
    eventually(lambda: says_of_its_server(namespace, terminated))
    found = one_pass(namespace)
    for kind in ("TeacherReady", "Succeeded"):
        assert (found[kind]["reason"], words in found[kind]["message"]) == (reason, True)
    if reason == "ServingArgsRefused":
        assert found["Succeeded"]["message"].startswith("spec.teacher.serving.args: ")
    assert reason in [one.reason for one in namespace.core.list_namespaced_event(namespace.name).items]
