"""Whose an object is: what counts as a child of a run, whatever labels and references anybody has written."""

from typing import Any

import pytest
from tests.unit.kubernetes.world import UID, Body, run

from score_distill.executors.kubernetes.known import Known
from score_distill.executors.kubernetes.names import ROLE, STEP
from score_distill.executors.kubernetes.names import UID as UID_LABEL

RUN = ("team", UID)


def reference(kind: str, uid: str, **more: Any) -> Body:
    version = {"Job": "batch/v1", "DistillationRun": "distill.score.dev/v1alpha1"}.get(kind, "apps/v1")
    return {"apiVersion": version, "kind": kind, "name": "any", "uid": uid, "controller": True} | more


def thing(uid: str, *references: Body, namespace: str = "team", **metadata: Any) -> Body:
    """With every label that a child of the run has."""
    labels = {UID_LABEL: UID, STEP: "prepare", ROLE: "stage", "batch.kubernetes.io/job-name": "one-prepare-1"}
    named = {"name": uid, "namespace": namespace, "uid": uid, "resourceVersion": "1", "labels": labels}
    return {"metadata": named | ({"ownerReferences": list(references)} if references else {}) | metadata}


def known(*things: tuple[str, Body]) -> Known:
    found = Known()
    body = run()
    body["metadata"]["resourceVersion"] = "1"
    for kind, one in (("DistillationRun", body), *things):
        found.put(kind, one)
    return found


def names(found: Known) -> set[str]:
    children = found.children(RUN)
    return {one["metadata"]["name"] for one in (*children.jobs, *children.pods, *children.deployments)}


BY_RUN = reference("DistillationRun", UID)
CHILDREN = [
    ("Pod", thing("stage-pod", reference("Job", "job"))),
    ("Job", thing("job", BY_RUN)),
    ("Pod", thing("model-pod", reference("ReplicaSet", "set"))),
    ("ReplicaSet", thing("set", reference("Deployment", "deployment"))),
    ("Deployment", thing("deployment", BY_RUN)),
]


@pytest.mark.parametrize("order", [CHILDREN, CHILDREN[::-1]], ids=["pods first", "pods last"])
def test_what_a_run_controls_is_its_own_in_whatever_order_it_is_heard_of(order: list[tuple[str, Body]]) -> None:
    assert names(known(*order)) == {"job", "deployment", "stage-pod", "model-pod"}


FORGED = {
    "labels alone": [("Job", thing("f")), ("Deployment", thing("f2")), ("Pod", thing("f3"))],
    "another namespace": [
        ("Job", thing("f", BY_RUN, namespace="other")),
        ("Deployment", thing("f2", BY_RUN, namespace="other")),
        ("Pod", thing("f3", reference("Job", "job"), namespace="other")),
        ("Pod", thing("f4", reference("ReplicaSet", "set"), namespace="other")),
        ("Pod", thing("f5", reference("Job", "f"), namespace="other")),
        ("ReplicaSet", thing("f6", reference("Deployment", "deployment"), namespace="other")),
        ("Pod", thing("f7", reference("ReplicaSet", "f6"), namespace="other")),
    ],
    "owned, not controlled": [
        ("Job", thing("f", BY_RUN | {"controller": False})),
        ("Pod", thing("f2", reference("Job", "job", controller=False))),
        ("Job", thing("f3", {name: value for name, value in BY_RUN.items() if name != "controller"})),
        ("Job", thing("f4", reference("DistillationRun", "another"), BY_RUN | {"controller": False})),
    ],
    "a controller of another kind": [
        ("Job", thing("f", BY_RUN | {"kind": "CronJob"})),
        ("Job", thing("f2", BY_RUN | {"apiVersion": "elsewhere.dev/v1"})),
        ("Pod", thing("f3", BY_RUN)),
        ("Pod", thing("f4", reference("Job", "deployment"))),
        ("Pod", thing("f5", reference("DistillationRun", "job"))),
        ("Pod", thing("f6", reference("Job", "job", apiVersion="elsewhere.dev/v1"))),
        ("ReplicaSet", thing("f7", BY_RUN)),
        ("Pod", thing("f8", reference("ReplicaSet", "f7"))),
    ],
    "a controller that is not the run's": [
        ("Job", thing("f", reference("DistillationRun", "another"))),
        ("Pod", thing("f2", reference("Job", "f"))),
        ("Pod", thing("f3", reference("Job", "nobody"))),
        ("ReplicaSet", thing("f4", reference("Deployment", "nobody"))),
        ("Pod", thing("f5", reference("ReplicaSet", "f4"))),
        ("ReplicaSet", thing("f6")),
        ("Pod", thing("f7", reference("ReplicaSet", "f6"))),
    ],
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_what_only_says_that_it_is_a_child_is_none_and_causes_no_pass(
    forged: list[tuple[str, Body]], first: bool
) -> None:
    found = known(*forged, *CHILDREN) if first else known(*CHILDREN, *forged)
    assert names(found) == {"job", "deployment", "stage-pod", "model-pod"}
    assert [found.run_of(kind, one) for kind, one in forged] == [None] * len(forged)


def test_pods_outlive_their_job_in_what_is_known_of_the_run() -> None:
    found = known(*CHILDREN)
    found.children(RUN)
    found.drop("Job", CHILDREN[1][1])
    found.drop("Deployment", CHILDREN[4][1])
    found.drop("ReplicaSet", CHILDREN[3][1])
    assert names(found) == {"stage-pod", "model-pod"}
    assert found.run_of(*CHILDREN[0]) == found.run_of(*CHILDREN[2]) == RUN
    found.drop(*CHILDREN[0])
    assert names(found) == {"model-pod"}
    found.drop(*CHILDREN[2])
    assert names(found) == set()


def test_each_child_is_news_of_its_run_once_a_pass_has_seen_its_maker() -> None:
    found = known(*CHILDREN)
    assert found.run_of(*CHILDREN[1]) == found.run_of(*CHILDREN[4]) == RUN
    found.children(RUN)
    assert {found.run_of(kind, one) for kind, one in CHILDREN} == {RUN}
    found.forget(RUN)
    assert found.run_of(*CHILDREN[0]) is None


def test_a_child_that_is_given_to_another_is_a_child_no_more() -> None:
    found = known(*CHILDREN)
    found.put("Job", thing("job", reference("DistillationRun", "another")))
    assert names(found) == {"deployment", "model-pod"}
    found.put("Deployment", thing("deployment"))
    assert names(found) == set()


def test_every_version_that_was_heard_of_is_remembered_until_it_is_gone() -> None:
    found = known(*CHILDREN, *FORGED["labels alone"])
    assert set(found.versions["Job"]) == {"job", "f"}
    found.drop("Job", thing("f"))
    assert found.versions["Job"] == {"job": "1"}


def test_what_no_pass_reads_is_not_kept() -> None:
    big = {"managedFields": ["x" * 9000], "annotations": {"made-of": "a"}}
    containers = [{"name": "stage", "image": "i", "env": ["e"], "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
    pod = thing("stage-pod", reference("Job", "job"), **big)
    pod |= {"spec": {"nodeName": "n", "volumes": ["v"], "containers": containers}, "status": {"phase": "Running"}}
    job = thing("job", BY_RUN, **big)
    job["spec"] = {"suspend": True, "parallelism": 2, "completions": 2, "template": {"spec": pod["spec"]}}
    found = known(("Job", job), ("Pod", pod)).children(RUN)
    kept = [{"name": "stage", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
    assert found.pods[0]["spec"] == {"nodeName": "n", "containers": kept}
    assert found.jobs[0]["spec"] == {"suspend": True, "parallelism": 2, "template": {"spec": {"containers": kept}}}
    assert {"managedFields"} & {*found.pods[0]["metadata"], *found.jobs[0]["metadata"]} == set()
    assert found.pods[0]["status"] == {"phase": "Running"}


def test_jobs_and_pods_of_a_finished_run_leave_and_their_versions_stay() -> None:
    found = known(*CHILDREN)
    found.settle(RUN)
    assert names(found) == {"deployment", "model-pod"}
    assert set(found.versions["Job"]) == {"job"}
    assert set(found.versions["Pod"]) == {"stage-pod", "model-pod"}
    found.drop(*CHILDREN[0])
    found.drop(*CHILDREN[1])
    assert names(found) == {"deployment", "model-pod"}
