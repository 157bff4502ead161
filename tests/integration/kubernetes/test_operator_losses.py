"""A pod is taken from its run while no operator looks, and is gone when one does: what is known, and that it counts."""

import logging

from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Body, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import STEP
from score_distill.executors.kubernetes.passes import Operator

TAKEN = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for another"}


def one_pass(namespace: Namespace) -> Body:
    """Of an operator that has just begun; the step prepare afterwards."""
    operator = Operator(Cluster(namespace.api), SETTINGS, logging.getLogger("test"))
    return dict(namespace.one_pass(operator)["steps"][0])


def stage_pods(namespace: Namespace) -> list[client.V1Pod]:
    return list(namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{STEP}=prepare").items)


def test_a_pod_that_was_taken_while_no_operator_looked_is_a_failed_attempt_of_which_the_job_tells(
    control_plane: ControlPlane,
) -> None:
    namespace = Namespace(control_plane)
    namespace.begin()
    one_pass(namespace)

    def pod_is_made() -> client.V1Pod:
        [pod] = stage_pods(namespace)
        return pod

    pod = eventually(pod_is_made)
    namespace.say(pod, "Failed", False, {"terminated": {"exitCode": 1, "reason": "Error"}}, conditions=[TAKEN])
    namespace.core.delete_namespaced_pod(pod.metadata.name, namespace.name, grace_period_seconds=0)

    def is_over_and_gone() -> None:
        assert not stage_pods(namespace)
        [job] = namespace.batch.list_namespaced_job(namespace.name).items
        assert "Failed" in [one.type for one in job.status.conditions or ()]

    eventually(is_over_and_gone)
    told = one_pass(namespace)
    assert (told["state"], told["attempt"], told["failures"]) == ("Retrying", 1, 1)
    assert pod.metadata.name in told["message"]
    assert "DisruptionTarget" in told["message"]

    def is_tried_again() -> None:
        found = one_pass(namespace)
        assert (found["state"], found["attempt"], found["failures"]) == ("Running", 2, 1)

    eventually(is_tried_again, every=0.5)
