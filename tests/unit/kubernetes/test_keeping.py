"""How long a run that has ended is kept, and what of its steps stays in the cluster."""

from typing import Any

import pytest
from tests.unit.kubernetes.world import NOW, Body, EnvState, come_to, condition, kinds, one_pass, step

from score_distill.contract import Summary
from score_distill.control.policy import TRIES
from score_distill.errors import Exit
from score_distill.executors.kubernetes.keeping import HISTORY


def failed(**spec: Any) -> tuple[EnvState, Body]:
    world, body = come_to("warmup", **spec)
    world.end("one-warmup-1", Summary(step="warmup", succeeded=False, message="no such file"), int(Exit.BAD_INPUT))
    one_pass(world, body)
    assert condition(body, "Succeeded")["status"] == "False"
    return world, body


@pytest.mark.parametrize(
    ("spec", "keep"),
    [
        ({"ttlSecondsAfterFinished": 100}, 100),
        ({"ttlSecondsAfterFinished": 5, "ttlSecondsAfterFailed": 100}, 100),
        ({"ttlSecondsAfterFailed": 100}, 100),
        ({"ttlSecondsAfterFinished": 100, "ttlSecondsAfterFailed": 0}, 0),
        ({}, None),
    ],
)
def test_a_failed_run_is_kept_as_long_as_it_says(spec: Body, keep: int | None) -> None:
    world, body = failed(**spec)
    assert step(body, "warmup")["state"] == "Failed", "said before it is removed"
    if keep is None:
        kept = one_pass(world, body, NOW + 10**8)
        assert (kept.again, kept.remove) == (None, False)
        return
    if keep:
        kept = one_pass(world, body, NOW + keep - 1)
        assert (kept.again, kept.remove) == (1, False)
    assert one_pass(world, body, NOW + keep).remove is True


def test_a_run_that_succeeded_does_not_go_by_the_time_of_one_that_failed() -> None:
    world, body = come_to("evaluate", ttlSecondsAfterFailed=1)
    world.end("one-evaluate-1", Summary(step="evaluate", succeeded=True))
    one_pass(world, body)
    assert one_pass(world, body, NOW + 10**8).remove is False


def test_a_failed_run_whose_spec_is_changed_in_time_is_tried_again() -> None:
    world, body = failed(ttlSecondsAfterFinished=100)
    body["metadata"]["generation"] = 2
    changes = one_pass(world, body, NOW + 200)
    assert changes.remove is False
    assert "Job one-warmup-2" in kinds(changes)
    assert one_pass(world, body, NOW + 300).remove is False


def test_a_spent_budget_is_an_end_too_but_a_pause_is_none() -> None:
    world, body = come_to("warmup", budget={"teacherTokens": 60}, ttlSecondsAfterFinished=100)
    world.end("one-warmup-1", Summary(step="warmup", succeeded=True))
    one_pass(world, body)
    assert condition(body, "Succeeded")["reason"] == "BudgetExceeded"
    assert one_pass(world, body, NOW + 100).remove is True
    body["spec"]["suspend"] = True
    assert one_pass(world, body, NOW + 100).remove is False


@pytest.mark.parametrize("name", ["prepare", "mentor"])
def test_a_suspended_run_is_kept(name: str) -> None:
    world, body = come_to(name, ttlSecondsAfterFinished=0, ttlSecondsAfterFailed=0)
    body["spec"]["suspend"] = True
    for later in range(3):
        assert one_pass(world, body, NOW + later).remove is False


def test_of_ended_jobs_the_last_are_kept_and_what_was_made_for_a_job_goes_with_it() -> None:
    world, body = come_to("warmup")
    for name in ("warmup", "mentor", "sft"):
        world.end(f"one-{name}-1", Summary(step=name, succeeded=True, digest="a" * 64))
        changes = one_pass(world, body)
        gone = [f"{one['kind']} {one['metadata']['name']}" for one in changes.delete if one["kind"] != "Deployment"]
        first = {"warmup": [], "mentor": ["prepare"], "sft": ["demonstrate"]}[name]
        assert gone == [f"{kind} one-{old}-1" for old in first for kind in ("ConfigMap", "Job")]
        world.ready()
        one_pass(world, body)
    assert {*world.jobs} == {f"one-{name}-1" for name in ("warmup", "mentor", "sft", "rl")}
    assert one_pass(world, body).delete == ()
    assert all(one["state"] == "Succeeded" for one in body["status"]["steps"][:5])


def test_the_meeting_place_of_a_trainer_goes_with_its_job() -> None:
    world, body = come_to("warmup", resources={"trainer": {"nodes": 2}})
    names = set()
    for name in ("warmup", "mentor", "sft", "rl"):
        world.end(f"one-{name}-1", Summary(step=name, succeeded=True, digest="a" * 64))
        names |= {f"{one['kind']} {one['metadata']['name']}" for one in one_pass(world, body).delete}
        world.ready()
        one_pass(world, body)
    world.end("one-evaluate-1", Summary(step="evaluate", succeeded=True, digest="a" * 64))
    names |= {f"{one['kind']} {one['metadata']['name']}" for one in one_pass(world, body).delete}
    assert {"Service one-warmup-1", "ConfigMap one-warmup-1", "Job one-warmup-1"} <= names


def test_attempts_are_numbered_on_when_old_jobs_are_gone() -> None:
    world, body = come_to("sft")
    now = NOW
    for attempt in range(1, TRIES):
        lost = Summary(step="sft", succeeded=False, message="the store is away")
        world.end(f"one-sft-{attempt}", lost, int(Exit.INFRASTRUCTURE))
        one_pass(world, body, now)
        assert step(body, "sft")["failures"] == attempt
        now += 130
        assert f"Job one-sft-{attempt + 1}" in kinds(one_pass(world, body, now))
        one_pass(world, body, now)
        assert len(world.jobs) <= HISTORY + 1
    world.end(f"one-sft-{TRIES}", Summary(step="sft", succeeded=True, digest="a" * 64))
    one_pass(world, body, now)
    assert (step(body, "sft")["state"], step(body, "sft")["attempt"]) == ("Succeeded", TRIES)


def test_a_job_of_which_the_status_does_not_tell_yet_is_kept() -> None:
    world, body = come_to("rl")
    body["status"]["steps"] = [one for one in body["status"]["steps"] if one["name"] not in ("mentor", "sft")]
    for name in ("mentor", "sft"):
        world.end(f"one-{name}-1", Summary(step=name, succeeded=True, digest="a" * 64))
    world.end("one-rl-1", Summary(step="rl", succeeded=True, digest="a" * 64))
    assert not {one["metadata"]["name"] for one in one_pass(world, body).delete} & {"one-mentor-1", "one-sft-1"}
