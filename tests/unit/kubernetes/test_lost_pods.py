"""Pods that a node never ended, and pods that were taken from their run: what the run does about it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.kubernetes.test_clocks import pod as gpu_pod
from tests.unit.kubernetes.world import NOW, Body, EnvState, come_to, condition, kinds, one_pass, step

from score_distill.contract import Summary
from score_distill.control.policy import TRIES
from score_distill.errors import Exit
from score_distill.executors.kubernetes.endings import LOST_SECONDS, ending, summaries_of
from score_distill.executors.kubernetes.gpus import gpu_seconds
from score_distill.executors.kubernetes.observe import Children
from score_distill.executors.kubernetes.reconcile import running

LATER = NOW + LOST_SECONDS + 1


def at(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def add_pod(world: EnvState, job: str, index: int = 0, *, over: float | None = None, phase: str = "Running") -> Body:
    """A pod of a Job; ``over`` is when its grace is, if it was deleted."""
    labels = world.jobs[job]["metadata"]["labels"] | {"batch.kubernetes.io/job-name": job}
    metadata: Body = {"name": f"{job}-{index}", "labels": labels}
    if over is not None:
        metadata["deletionTimestamp"] = at(over)
    spec = {"nodeName": "node-9", "containers": []}
    found = {"metadata": metadata, "spec": spec, "status": {"phase": phase, "podIP": "10.1.2.3"}}
    world.pods[metadata["name"]] = found
    return found


def test_a_pod_that_its_node_never_ends_is_a_failed_attempt_and_the_next_does_not_wait_for_the_node() -> None:
    world, body = come_to("mentor")
    left = add_pod(world, "one-mentor-1", over=NOW)
    assert one_pass(world, body, NOW + LOST_SECONDS - 1).delete == ()
    changes = one_pass(world, body, LATER)
    assert [one["metadata"]["name"] for one in changes.delete] == ["one-mentor-1"]
    assert (step(body, "mentor")["state"], step(body, "mentor")["failures"]) == ("Retrying", 1)
    assert "node node-9 does not answer" in step(body, "mentor")["message"]
    assert "Job one-mentor-2" in kinds(one_pass(world, body, LATER + 5))
    again = one_pass(world, body, LATER + 6)
    assert (again.apply, again.delete) == ((), ())
    assert (step(body, "mentor")["state"], step(body, "mentor")["attempt"]) == ("Running", 2)
    assert left in world.children.pods
    world.end("one-mentor-2", Summary(step="mentor", succeeded=True))
    one_pass(world, body, LATER + 9)
    assert step(body, "mentor")["state"] == "Succeeded"


def test_a_job_that_is_deleted_late_is_no_second_failure() -> None:
    world, body = come_to("mentor")
    add_pod(world, "one-mentor-1", over=NOW)
    job = world.jobs["one-mentor-1"]
    one_pass(world, body, LATER)
    world.jobs["one-mentor-1"] = job
    assert [one["metadata"]["name"] for one in one_pass(world, body, LATER + 1).delete] == ["one-mentor-1"]
    assert (step(body, "mentor")["state"], step(body, "mentor")["failures"]) == ("Retrying", 1)


def test_nodes_that_vanish_again_and_again_end_the_run() -> None:
    world, body = come_to("mentor")
    now = LATER
    for attempt in range(1, TRIES + 1):
        add_pod(world, f"one-mentor-{attempt}", over=now - LOST_SECONDS - 1)
        one_pass(world, body, now)
        one_pass(world, body, now := now + 120)
    found = condition(body, "Succeeded")
    assert (found["status"], found["reason"]) == ("False", "Infrastructure")
    assert "node node-9 does not answer" in found["message"]


def test_no_attempt_begins_beside_pods_of_the_last() -> None:
    world, body = come_to("mentor", resources={"rollout": {"parallelism": 2}})
    add_pod(world, "one-mentor-1", 0, over=NOW)
    peer = add_pod(world, "one-mentor-1", 1)
    one_pass(world, body, LATER)
    assert one_pass(world, body, LATER + 60).apply == ()
    assert condition(body, "Succeeded")["reason"] == "PodsEnding"
    peer["status"]["phase"] = "Failed"
    assert "Job one-mentor-2" in kinds(one_pass(world, body, LATER + 61))


def delete_by_hand(world: EnvState, body: Body) -> None:
    del world.jobs["one-mentor-1"]


def suspend_and_resume(world: EnvState, body: Body) -> None:
    body["spec"]["suspend"] = True
    one_pass(world, body)
    body["spec"]["suspend"] = False


@pytest.mark.parametrize("happens", [delete_by_hand, suspend_and_resume])
def test_a_name_that_a_lost_pod_still_has_is_not_given_again(happens: Any) -> None:
    world, body = come_to("mentor")
    add_pod(world, "one-mentor-1", over=NOW)
    happens(world, body)
    for later in range(3):
        one_pass(world, body, NOW + later)
        world.ready()
    assert condition(body, "Succeeded")["reason"] == "PodsEnding"
    assert world.jobs.keys() & {"one-mentor-1", "one-mentor-2"} == set()
    for later in range(3):
        one_pass(world, body, LATER + 5 * later)
    assert world.jobs.keys() & {"one-mentor-1", "one-mentor-2"} == {"one-mentor-2"}


def test_the_end_of_a_pod_that_was_taken_from_its_run_is_not_the_runs_fault() -> None:
    world, body = come_to("warmup")
    world.end("one-warmup-1", Summary(step="warmup", succeeded=False, message="peers are gone"), int(Exit.BUG))
    taken = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for another"}
    world.pods["one-warmup-1"]["status"]["conditions"] = [taken]
    one_pass(world, body)
    assert step(body, "warmup")["state"] == "Retrying"
    assert step(body, "warmup")["message"] == "its pod was lost (PreemptionByScheduler: for another)"
    assert "Job one-warmup-2" in kinds(one_pass(world, body, NOW + 5))


def test_a_lost_pod_holds_its_gpus_until_its_grace_is_over() -> None:
    one = gpu_pod(0, gpus=2)
    one["metadata"]["deletionTimestamp"] = at(NOW + 100)
    assert gpu_seconds(Children(pods=[one]), NOW, NOW + 50) == 100
    assert gpu_seconds(Children(pods=[one]), NOW, NOW + 600) == 200


def test_a_lost_pod_is_not_asked_how_far_it_is() -> None:
    world, _ = come_to("mentor")
    add_pod(world, "one-mentor-1", over=NOW)
    assert len(running(world.children, NOW)) == 1
    assert running(world.children, LATER) == []


def test_of_the_pods_of_one_worker_the_last_says_how_it_ended() -> None:
    """An eviction that was made good hides no later failure, and its tokens are not counted twice."""
    evicted, failed, other = (pod_of(index, made) for index, made in (("0", "01"), ("0", "02"), ("1", "01")))
    evicted["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": "Preempted"}]
    said = Summary(step="mentor", succeeded=False, reason="BAD_INPUT", message="bad", tokens={"teacher": 5})
    for one in (evicted, failed, other):
        ended = {"exitCode": int(Exit.BAD_INPUT), "message": said.bounded().decode()}
        one["status"]["containerStatuses"] = [{"name": "stage", "state": {"terminated": ended}}]
    for order in ([evicted, failed, other], [failed, other, evicted]):
        assert (ending(order, None, NOW).code, ending(order, None, NOW).message) == (Exit.BAD_INPUT, "bad")
        assert len(summaries_of(order)) == 2


def pod_of(index: str, made: str) -> Body:
    labels = {"batch.kubernetes.io/job-completion-index": index}
    return {"metadata": {"creationTimestamp": f"2026-01-{made}T00:00:00Z", "labels": labels}, "status": {}}
