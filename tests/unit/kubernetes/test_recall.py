"""What a step achieved is in the status, also where its pods were gone before the operator heard of them."""

import pytest
from tests.unit.kubernetes.world import NOW, Body, EnvState, come_to, kinds, one_pass, step

from score_distill.contract import Progress, Summary
from score_distill.errors import Exit

SIZES = {"teacher": {"gpus": 4}, "student": {"gpus": 1}, "trainer": {"gpus": 8}, "rollout": {"parallelism": 4}}
WHOLE = Summary(step="", succeeded=True, tokens={"teacher": 60}, counts={"solved": 3}, digest="a" * 64)


def completes_unheard(world: EnvState, job: str) -> None:
    world.end(job, None)
    del world.pods[job]


def template(world: EnvState, job: str) -> Body:
    return dict(world.jobs[job]["spec"]["template"]["spec"])


@pytest.mark.parametrize("name", ["prepare", "mentor", "sft", "rl", "evaluate"])
def test_a_result_of_which_nothing_was_heard_is_told_again_by_a_light_attempt(name: str) -> None:
    world, body = come_to(name, resources=SIZES)
    one_pass(world, body, progress={name: Progress(done=3, total=9, unit="tasks")})
    completes_unheard(world, f"one-{name}-1")
    changes = one_pass(world, body)
    assert kinds(changes) == [f"ConfigMap one-{name}-2", f"Job one-{name}-2"]
    assert not world.deployments
    job = world.jobs[f"one-{name}-2"]["spec"]
    assert (job["completions"], job["parallelism"]) == (1, 1)
    pod = template(world, f"one-{name}-2")
    assert [one["name"] for one in (*pod.get("initContainers", ()), *pod["containers"])] == ["stage"]
    assert not [one for one in pod["containers"][0]["resources"].get("limits", {}) if "/" in one]
    assert '"recall":true' in changes.apply[0]["data"]["stage.json"]
    assert step(body, name)["state"] == "Running"

    world.end(f"one-{name}-2", WHOLE.model_copy(update={"step": name}))
    one_pass(world, body)
    found = step(body, name)
    assert (found["state"], found["counts"], found["tokens"]) == ("Succeeded", {"solved": 3}, {"teacher": 60})


def test_pods_that_have_not_said_it_yet_are_waited_for() -> None:
    world, body = come_to("mentor")
    world.end("one-mentor-1", WHOLE.model_copy(update={"step": "mentor"}))
    ended = world.pods["one-mentor-1"]["status"]
    world.pods["one-mentor-1"]["status"] = {"phase": "Running"}
    assert one_pass(world, body).apply == ()
    assert step(body, "mentor")["state"] == "Running"
    world.pods["one-mentor-1"]["status"] = ended
    one_pass(world, body)
    assert (step(body, "mentor")["state"], step(body, "mentor")["attempt"]) == ("Succeeded", 1)


def test_a_deleted_telling_begins_again_and_one_that_fails_is_retried_with_a_bound() -> None:
    world, body = come_to("mentor")
    completes_unheard(world, "one-mentor-1")
    one_pass(world, body)
    del world.jobs["one-mentor-2"]
    assert kinds(one_pass(world, body)) == ["ConfigMap one-mentor-2", "Job one-mentor-2"]
    now, tries = NOW, 0
    while step(body, "mentor")["state"] != "Failed":
        last = max(int(job.rpartition("-")[2]) for job in world.jobs if "-mentor-" in job)
        world.end(f"one-mentor-{last}", None, int(Exit.INFRASTRUCTURE))
        now, tries = now + 130, tries + 1
        one_pass(world, body, now)
        one_pass(world, body, now + 125)
        assert tries < 10
    assert tries == 6


def test_where_the_store_has_no_result_after_all_the_step_is_done_anew() -> None:
    world, body = come_to("mentor")
    completes_unheard(world, "one-mentor-1")
    one_pass(world, body)
    missing = Summary(step="mentor", succeeded=False, reason="INFRASTRUCTURE", cause="StoreMissing", message="gone")
    world.end("one-mentor-2", missing, int(Exit.INFRASTRUCTURE))
    one_pass(world, body, NOW)
    one_pass(world, body, NOW + 60)
    world.ready()
    changes = one_pass(world, body, NOW + 60)
    assert "Job one-mentor-3" in kinds(changes)
    assert '"recall":true' not in next(one for one in changes.apply if one["kind"] == "ConfigMap")["data"]["stage.json"]
