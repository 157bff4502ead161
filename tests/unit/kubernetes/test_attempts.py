"""What becomes of a run when a step of it ends: a new attempt after a pause, or the end of the run."""

import pytest
from tests.unit.kubernetes.world import NOW, ORDER, Body, come_to, condition, kinds, one_pass, step

from score_distill.contract import StageConfig, Summary
from score_distill.control.policy import TRIES
from score_distill.errors import Exit


def test_what_a_retry_may_help_is_a_new_attempt_after_a_pause() -> None:
    world, body = come_to("sft")
    world.end("one-sft-1", Summary(step="sft", succeeded=False, message="the store is away"), int(Exit.INFRASTRUCTURE))
    changes = one_pass(world, body)
    assert (step(body, "sft")["state"], step(body, "sft")["message"]) == ("Retrying", "the store is away")
    assert condition(body, "Succeeded")["reason"] == "StepRetrying"
    assert changes.again is not None
    assert 0 < changes.again <= 4
    again = one_pass(world, body, NOW + 5)
    assert kinds(again) == ["ConfigMap one-sft-2", "Job one-sft-2"]
    assert (step(body, "sft")["state"], step(body, "sft")["attempt"]) == ("Running", 2)
    world.end("one-sft-2", Summary(step="sft", succeeded=True))
    one_pass(world, body, NOW + 9)
    assert step(body, "sft")["attempt"] == 2


@pytest.mark.parametrize("cause", ["StoreUnreachable", "StoreDenied", "StoreFull"])
def test_a_store_that_fails_is_named_while_it_is_tried_again_and_when_it_is_given_up(cause: str) -> None:
    world, body = come_to("mentor")
    lost = Summary(step="mentor", succeeded=False, reason="INFRASTRUCTURE", cause=cause, message="no answer")
    now = NOW
    for attempt in range(1, TRIES + 1):
        world.end(f"one-mentor-{attempt}", lost, int(Exit.INFRASTRUCTURE))
        one_pass(world, body, now)
        assert condition(body, "Succeeded")["reason"] == cause
        assert step(body, "mentor")["reason"] == cause
        one_pass(world, body, now := now + 120)
    assert (condition(body, "Succeeded")["status"], step(body, "mentor")["state"]) == ("False", "Failed")
    assert condition(body, "Succeeded")["reason"] == cause


def test_a_control_that_is_lost_again_and_again_is_told_to_give_up() -> None:
    order = [*ORDER[:-1], "full-horizon", ORDER[-1]]
    world, body = come_to("full-horizon", order, method={"rl": {"controls": ["FullHorizon"]}})
    now = NOW
    for attempt in range(1, TRIES + 1):
        lost = Summary(step="full-horizon", succeeded=False, message="no memory")
        world.end(f"one-full-horizon-{attempt}", lost, int(Exit.INFRASTRUCTURE))
        one_pass(world, body, now)
        begun = one_pass(world, body, now := now + 120)
        [told] = [made["data"]["stage.json"] for made in begun.apply if made["kind"] == "ConfigMap"]
        assert StageConfig.model_validate_json(told).given_up == ("no memory" if attempt == TRIES else "")


def test_a_lost_pod_is_not_the_runs_fault() -> None:
    world, body = come_to("sft")
    world.jobs["one-sft-1"]["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimit"}]}
    one_pass(world, body)
    assert "its pod was lost" in step(body, "sft")["message"]
    assert kinds(one_pass(world, body, NOW + 60)) == ["ConfigMap one-sft-2", "Job one-sft-2"]


ENDS = [
    (int(Exit.BAD_INPUT), {}, "BadInput", "no such file"),
    (int(Exit.MODEL), {}, "Model", "no such file"),
    (137, {"reason": "OOMKilled"}, "Model", "OOMKilled"),
]


@pytest.mark.parametrize(("code", "ended", "reason", "words"), ENDS)
def test_what_a_retry_cannot_help_ends_the_run_until_its_spec_changes(
    code: int, ended: Body, reason: str, words: str
) -> None:
    world, body = come_to("warmup")
    world.end("one-warmup-1", Summary(step="warmup", succeeded=False, message="no such file"), code, **ended)
    one_pass(world, body)
    found = condition(body, "Succeeded")
    assert (found["status"], found["reason"]) == ("False", reason)
    assert words in found["message"]
    assert world.deployments == {}
    later = one_pass(world, body, NOW + 500)
    assert (later.apply, later.again) == ((), None)
    assert condition(body, "Succeeded") == found
    body["metadata"]["generation"] = 2
    assert "Job one-warmup-2" in kinds(one_pass(world, body, NOW + 600))


def test_a_failed_step_that_must_wait_for_its_servers_is_tried_again_all_the_same() -> None:
    world, body = come_to("mentor")
    world.end("one-mentor-1", Summary(step="mentor", succeeded=False, message="no"), int(Exit.BAD_INPUT))
    one_pass(world, body)
    assert condition(body, "Succeeded")["reason"] == "BadInput"
    body["metadata"]["generation"] = 2
    for later in (1, 2):
        one_pass(world, body, NOW + later)
        assert condition(body, "Succeeded")["reason"] == "StudentNotReady"
    world.ready()
    assert "Job one-mentor-2" in kinds(one_pass(world, body, NOW + 3))


def test_pods_of_an_earlier_job_of_the_name_say_nothing_of_this_one() -> None:
    world, body = come_to("sft")
    world.jobs["one-sft-1"]["metadata"]["uid"] = "new"
    world.end("one-sft-1", Summary(step="sft", succeeded=False, message="from before"), 143)
    world.pods["one-sft-1"]["metadata"]["ownerReferences"] = [{"uid": "old"}]
    one_pass(world, body)
    assert "its pod was lost" in step(body, "sft")["message"]
