"""What one tenant writes about another's run does not become part of it, on a real API server."""

import logging
from contextlib import suppress

from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Body, Namespace

from score_distill.contract import Summary
from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import ATTEMPT, ROLE, STEP, UID
from score_distill.executors.kubernetes.passes import Operator

POD: Body = {"restartPolicy": "Never", "containers": [{"name": "stage", "image": "any"}]}


def test_a_forged_job_in_another_namespace_neither_ends_a_step_nor_spends_a_budget(control_plane: ControlPlane) -> None:
    victim, thief = Namespace(control_plane), Namespace(control_plane)
    uid = victim.begin()["metadata"]["uid"]
    operator = Operator(Cluster(victim.api), SETTINGS, logging.getLogger("test"))
    victim.one_pass(operator)
    labels = {UID: uid, STEP: "prepare", ATTEMPT: "9", ROLE: "stage"}
    reference = {
        "apiVersion": "distill.score.dev/v1alpha1",
        "kind": "DistillationRun",
        "name": "quickstart",
        "uid": uid,
        "controller": True,
    }
    template = {"metadata": {"labels": labels}, "spec": POD}
    for name, references in (("labelled", []), ("referring", [reference])):
        metadata = {"name": name, "labels": labels, "ownerReferences": references}
        thief.batch.create_namespaced_job(thief.name, {"metadata": metadata, "spec": {"template": template}})
    victim.core.create_namespaced_pod(victim.name, {"metadata": {"name": "bare", "labels": labels}, "spec": POD})

    def pods_are_made() -> list[client.V1Pod]:
        pods = list(thief.core.list_namespaced_pod(thief.name).items)
        assert "labelled" in [pod.metadata.labels["job-name"] for pod in pods]
        return pods

    for pod in eventually(pods_are_made):
        told = Summary(step="prepare", succeeded=True, tokens={"teacher": 10**12}, digest="a" * 64)
        ended = {"exitCode": 0, "reason": "Completed", "message": told.bounded().decode()}
        with suppress(
            client.exceptions.NotFoundException
        ):  # what refers to an owner elsewhere is garbage, and collected
            thief.say(pod, "Succeeded", False, {"terminated": ended})

    def forgery_is_complete() -> None:
        jobs = thief.batch.list_namespaced_job(thief.name).items
        assert "Complete" in [one.type for job in jobs for one in job.status.conditions or ()]

    eventually(forgery_is_complete)
    for body in thief.children():
        operator.known.put(body["kind"], body)
    status = victim.one_pass(operator)
    [prepare] = [one for one in status["steps"] if one["name"] == "prepare"]
    assert (prepare["state"], prepare["attempt"]) == ("Running", 1)
    assert status.get("usage", {}).get("teacherTokens", 0) == 0
    victim.run_is_suspended(True)
    victim.one_pass(operator)
    victim.run_is_suspended(False)

    def goes_on() -> None:
        conditions = {one["type"]: one for one in victim.one_pass(operator)["conditions"]}
        assert conditions["Succeeded"]["reason"] != "PodsEnding"

    eventually(goes_on)
