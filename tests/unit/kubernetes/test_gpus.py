"""GPUs of a run: which of its servers hold some beside a step, and what is given back for a step that has no place."""

import pytest
from tests.unit.kubernetes.world import NOW, Body, EnvState, come_to, one_pass, step

from score_distill.control.policy import QUEUE_SECONDS

SIZES = {"teacher": {"gpus": 4}, "student": {"gpus": 1}, "trainer": {"gpus": 8}}
TRAINS = ("warmup", "sft")


def unscheduled(world: EnvState, job: str) -> None:
    """The pod of a Job, for which no node has room."""
    body = world.jobs[job]
    labels = body["metadata"]["labels"] | {"batch.kubernetes.io/job-name": job}
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    status = {"phase": "Pending", "conditions": [why]}
    world.pods[job] = {
        "metadata": {"name": f"{job}-0", "labels": labels},
        "spec": body["spec"]["template"]["spec"],
        "status": status,
    }


def up(world: EnvState) -> list[str]:
    return sorted(name.removeprefix("one-") for name in world.deployments)


AHEAD: list[tuple[str, Body, bool, list[str]]] = [
    ("warmup", SIZES, False, []),
    ("sft", SIZES, False, []),
    ("warmup", SIZES, True, ["student", "teacher"]),
    ("prepare", SIZES, False, []),
    ("prepare", SIZES, True, ["teacher"]),
    ("demonstrate", SIZES, False, ["teacher"]),
    ("mentor", SIZES, False, ["student", "teacher"]),
    ("warmup", {"trainer": {"gpus": 8}}, False, ["student", "teacher"]),
    ("warmup", {"teacher": {"gpus": 4}, "trainer": {"gpus": 8}}, False, ["student"]),
]


@pytest.mark.parametrize(("at", "sizes", "ahead", "servers"), AHEAD)
def test_servers_hold_gpus_for_the_step_that_needs_them_unless_the_manifest_says_ahead(
    at: str, sizes: Body, ahead: bool, servers: list[str]
) -> None:
    world, _ = come_to(at, resources=sizes, scheduling={"ahead": ahead})
    assert up(world) == servers


@pytest.mark.parametrize("at", TRAINS)
@pytest.mark.parametrize("sizes", [SIZES, {}])
def test_a_step_without_a_place_has_the_servers_that_it_does_not_need_released_until_it_has_ended(
    at: str, sizes: Body
) -> None:
    world, body = come_to(at, resources=sizes, scheduling={"ahead": True})
    assert up(world) == ["student", "teacher"]
    unscheduled(world, f"one-{at}-1")
    one_pass(world, body)
    assert up(world) == []
    assert step(body, at)["place"]["alone"]
    world.pods[f"one-{at}-1"]["status"] = {"phase": "Running"}
    for later in (10, 20):
        one_pass(world, body, NOW + later)
        assert up(world) == []
    world.end(f"one-{at}-1", None)
    one_pass(world, body, NOW + 30)
    assert up(world) == ["student", "teacher"]
    assert "place" not in step(body, at)


def test_a_step_whose_job_waits_in_its_queue_has_them_released_in_a_while() -> None:
    world, body = come_to("warmup", resources=SIZES, scheduling={"ahead": True, "queueName": "team"})
    waits = one_pass(world, body, NOW + 1)
    assert (up(world), waits.again) == (["student", "teacher"], QUEUE_SECONDS - 1)
    one_pass(world, body, NOW + QUEUE_SECONDS)
    assert up(world) == []


def test_a_server_that_a_step_needs_stays_up_however_long_its_job_has_no_place() -> None:
    world, body = come_to("mentor", resources=SIZES, scheduling={"ahead": True})
    unscheduled(world, "one-mentor-1")
    one_pass(world, body)
    assert up(world) == ["student", "teacher"]


def test_to_start_servers_ahead_or_no_longer_restarts_none() -> None:
    world, body = come_to("mentor", resources=SIZES)
    body["spec"]["scheduling"] = {"ahead": True}
    body["metadata"]["generation"] = 2
    assert one_pass(world, body).apply == ()
