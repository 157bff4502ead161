"""Anything of a run is deleted at random, on a real API server; the run ends as an unbroken one does."""

import logging
import random
import time
from collections import Counter

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Body, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import UID
from score_distill.executors.kubernetes.passes import Operator

STEPS = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]
SEEDS, EVERY = 5, 1.0
"""Twenty seeds were tried by hand."""


class Chaos:
    """One run, its operator, and somebody who deletes one thing of it each second."""

    def __init__(self, plane: ControlPlane, seed: int) -> None:
        self._random, self._next = random.Random(seed), time.monotonic()
        self.namespace, self.deleted = Namespace(plane), Counter[str]()
        self.namespace.begin()
        self.operator = Operator(Cluster(self.namespace.api), SETTINGS, logging.getLogger("test"))

    def goes_on(self) -> Body:
        """Play what the pods do, let the operator look once, and delete something if it is time to."""
        self.namespace.play()
        status = self.namespace.one_pass(self.operator)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            self._delete()
        return status

    def _delete(self) -> None:
        where, core = self.namespace.name, self.namespace.core
        watched = [(one["kind"], one["metadata"]["name"]) for one in self.namespace.children()]
        others = {"ConfigMap": core.list_namespaced_config_map, "Secret": core.list_namespaced_secret}
        for kind, listed in others.items():
            watched += [(kind, one.metadata.name) for one in listed(where, label_selector=UID).items]
        if not watched:
            return
        kind = self._random.choice(sorted({kind for kind, _ in watched}))
        name = self._random.choice(sorted(name for one, name in watched if one == kind))
        delete = {
            "Job": self.namespace.batch.delete_namespaced_job,
            "Deployment": self.namespace.apps.delete_namespaced_deployment,
            "ReplicaSet": self.namespace.apps.delete_namespaced_replica_set,
            "Pod": core.delete_namespaced_pod,
            "Service": core.delete_namespaced_service,
            "NetworkPolicy": client.NetworkingV1Api(self.namespace.api).delete_namespaced_network_policy,
            "ConfigMap": core.delete_namespaced_config_map,
            "Secret": core.delete_namespaced_secret,
        }[kind]
        try:
            delete(
                name, where, grace_period_seconds=0, propagation_policy=self._random.choice(["Background", "Orphan"])
            )
            self.deleted[kind] += 1
        except ApiException as error:
            assert error.status == 404, error


def test_runs_end_as_if_nothing_had_been_deleted(control_plane: ControlPlane) -> None:
    runs = [Chaos(control_plane, seed) for seed in range(SEEDS)]

    def all_end() -> None:
        for one in runs:
            steps = one.goes_on()["steps"]
            assert not [step for step in steps if step["state"] == "Failed"], steps
        for one in runs:
            status = one.namespace.run()["status"]
            assert [(step["name"], step["state"]) for step in status["steps"]] == [
                (name, "Succeeded") for name in STEPS
            ]

    eventually(all_end, within=400, every=0.05)
    for one in runs:
        status = one.namespace.run()["status"]
        assert status["usage"]["teacherTokens"] == 7 * len(STEPS)
        assert [(step["done"], step["total"]) for step in status["steps"]] == [(3, 3)] * len(STEPS)
    assert sum((one.deleted for one in runs), Counter()).keys() == {
        "Job", "Deployment", "ReplicaSet", "Pod", "Service", "NetworkPolicy", "ConfigMap", "Secret",
    }  # fmt: skip
