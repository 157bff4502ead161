"""A worker of several is evicted, on a real API server: another takes its place, and the others go on."""

import logging

from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import INDEX, STEP
from score_distill.executors.kubernetes.passes import Operator

TAKEN = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}
WORKERS = 3


def test_an_evicted_worker_is_replaced_alone_and_its_step_succeeds_at_its_first_attempt(
    control_plane: ControlPlane,
) -> None:
    namespace = Namespace(control_plane)
    namespace.begin(resources={"rollout": {"parallelism": WORKERS}, "trainer": {"dtype": "float32"}})
    operator = Operator(Cluster(namespace.api), SETTINGS, logging.getLogger("test"))

    def workers() -> list[client.V1Pod]:
        return list(namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{STEP}=demonstrate").items)

    def all_are_made() -> list[client.V1Pod]:
        namespace.one_pass(operator)
        found = workers()
        if len(found) != WORKERS:
            namespace.play()
        assert len(found) == WORKERS
        return found

    first = eventually(all_are_made, within=90)
    evicted = next(one for one in first if one.metadata.labels[INDEX] == "1")
    ended = {"terminated": {"exitCode": 143, "reason": "Error"}}
    namespace.say(evicted, "Failed", False, ended, conditions=[TAKEN])

    def is_replaced() -> None:
        status = namespace.one_pass(operator)
        step = next(one for one in status["steps"] if one["name"] == "demonstrate")
        assert (step["state"], step["attempt"], step.get("failures", 0)) == ("Running", 1, 0)
        there = [one for one in workers() if one.status.phase == "Pending"]
        assert sorted(one.metadata.labels[INDEX] for one in there) == ["0", "1", "2"]
        assert {one.metadata.uid for one in first} - {evicted.metadata.uid} < {one.metadata.uid for one in there}

    eventually(is_replaced, within=90)

    def succeeds() -> None:
        namespace.play()
        status = namespace.one_pass(operator)
        step = next(one for one in status["steps"] if one["name"] == "demonstrate")
        assert (step["state"], step["attempt"], step["done"]) == ("Succeeded", 1, 3 * WORKERS)

    eventually(succeeds, within=60)
