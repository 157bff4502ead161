"""When a run is looked at again by itself: at each time at which time alone changes something, and never before."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.kubernetes.test_lost_pods import add_pod, at
from tests.unit.kubernetes.world import NOW, Body, EnvState, come_to, condition, one_pass, step

from score_distill.contract import Summary
from score_distill.errors import Exit
from score_distill.executors.kubernetes.endings import LOST_SECONDS
from score_distill.executors.kubernetes.pods import GRACE_SECONDS

STALL = 604_800


def a_pod_is_lost(world: EnvState, body: Body) -> None:
    add_pod(world, "one-mentor-1", over=NOW + 20)


def a_deleted_job_is_held(world: EnvState, body: Body) -> None:
    world.jobs["one-mentor-1"]["metadata"]["deletionTimestamp"] = at(NOW)


def nothing_moves(world: EnvState, body: Body) -> None:
    body["spec"]["stallSeconds"] = 600


def gpu_hours(hours: float) -> Callable[[EnvState, Body], None]:
    def spend(world: EnvState, body: Body) -> None:
        pod = add_pod(world, "one-mentor-1")
        pod["status"]["startTime"] = at(NOW)
        pod["spec"]["containers"] = [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "4"}}}]
        body["spec"]["budget"] = {"gpuHours": hours}

    return spend


def reason(body: Body) -> Any:
    return condition(body, "Succeeded")["reason"]


CASES: dict[str, tuple[Callable[[EnvState, Body], None], float, Callable[[Body], Any], Any]] = {
    "a pod is lost": (a_pod_is_lost, 20 + LOST_SECONDS, lambda body: step(body, "mentor")["state"], "Retrying"),
    "a name is held": (
        a_deleted_job_is_held,
        GRACE_SECONDS + LOST_SECONDS,
        lambda body: (step(body, "mentor")["state"], step(body, "mentor")["attempt"]),
        ("Running", 2),
    ),
    "it stalls": (nothing_moves, 600, lambda body: condition(body, "Stalled")["status"], "True"),
    "its budget is nearly spent": (gpu_hours(1), 810, lambda body: body["status"]["usage"]["gpuSeconds"], 3240),
}


@pytest.mark.parametrize(("happens", "after", "told", "then"), CASES.values(), ids=CASES)
def test_a_pass_is_due_when_time_alone_changes_something(
    happens: Callable[[EnvState, Body], None], after: float, told: Callable[[Body], Any], then: Any
) -> None:
    world, body = come_to("mentor", stallSeconds=STALL)
    happens(world, body)
    changes = one_pass(world, body, NOW)
    assert changes.again == after
    changes = one_pass(world, body, NOW + after - 1)
    assert (told(body) == then, changes.again) == (False, 1)
    one_pass(world, body, NOW + after)
    assert told(body) == then


def test_a_budget_of_gpu_hours_ends_a_run_to_the_second() -> None:
    world, body = come_to("mentor", stallSeconds=STALL)
    gpu_hours(1)(world, body)
    now, passes = NOW, 0
    while reason(body) != "BudgetExceeded":
        again = one_pass(world, body, now).again
        if again is not None:
            now, passes = now + again, passes + 1
    assert (now, passes) == (NOW + 900, 2)


def test_a_run_that_runs_is_looked_at_only_for_stalling_and_one_that_has_ended_never() -> None:
    world, body = come_to("evaluate", stallSeconds=STALL)
    assert one_pass(world, body, NOW + 7).again == STALL - 7
    assert one_pass(world, body, NOW + STALL + 7).again is None, "that it stalls is said once"
    world.end("one-evaluate-1", Summary(step="evaluate", succeeded=False), code=int(Exit.BAD_INPUT))
    assert one_pass(world, body, NOW + STALL + 9).again is None
    assert reason(body) == "BadInput"


def test_gpus_that_no_node_has_given_yet_spend_no_budget() -> None:
    world, body = come_to("mentor", stallSeconds=STALL)
    gpu_hours(1)(world, body)
    for pod in world.pods.values():
        pod["status"].pop("startTime", None)
    assert one_pass(world, body, NOW).again == STALL
