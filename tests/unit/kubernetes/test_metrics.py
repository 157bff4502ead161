"""What the operator exports of a run, from its body."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.kubernetes.world import Body, come_to, one_pass, run

from score_distill.contract import Progress, Summary
from score_distill.executors.kubernetes.metrics import Runs

NAMES = {"namespace": "team", "run": "one"}


def value(body: Body, name: str, **labels: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(Runs(lambda: [body]))
    return registry.get_sample_value(name, NAMES | labels)


def state(body: Body, **more: str) -> float | None:
    return value(body, "score_run_info", **more)


def test_a_run_without_a_status_waits() -> None:
    assert state(run(), state="Waiting", step="", reason="") == 1


@pytest.mark.parametrize(
    ("code", "expected"), [(0, ("Succeeded", "", "Finished")), (2, ("Failed", "evaluate", "BadInput"))]
)
def test_a_run_that_ended_is_of_the_state_that_it_ended_in(code: int, expected: tuple[str, str, str]) -> None:
    world, body = come_to("evaluate")
    world.end("one-evaluate-1", Summary(step="evaluate", succeeded=code == 0), code)
    one_pass(world, body)
    assert state(body, **dict(zip(("state", "step", "reason"), expected, strict=True))) == 1


def test_progress_and_what_is_left_of_budgets() -> None:
    budget: Any = {"teacherTokens": "1k", "gpuHours": 2}
    world, body = come_to("mentor", budget=budget)
    one_pass(world, body, progress={"mentor": Progress(done=3, total=None, unit="tasks")})
    assert state(body, state="Running", step="mentor", reason="StepRunning") == 1
    assert value(body, "score_run_step_done", step="mentor") == 3
    assert value(body, "score_run_step_total", step="mentor") is None
    assert value(body, "score_run_budget_spent_ratio", budget="teacherTokens") == 0.06
    assert value(body, "score_run_budget_spent_ratio", budget="gpuHours") == 0
    assert value(body, "score_run_stalled") == 0
