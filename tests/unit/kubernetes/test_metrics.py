"""What the operator exports of a run, from its body."""

import gzip
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.unit.kubernetes.world import Body, come_to, one_pass, run

from score_distill.contract import Progress, Summary
from score_distill.executors.kubernetes.known import key_of
from score_distill.executors.kubernetes.metrics import Runs, serve

NAMES = {"namespace": "team", "run": "one"}


def value(body: Body, name: str, **labels: str) -> float | None:
    return values(runs_of(body)).get((name, *sorted((NAMES | labels).items())))


def runs_of(*bodies: Body) -> Runs:
    runs = Runs()
    for body in bodies:
        runs.put(key_of(body), body)
    return runs


def values(runs: Runs) -> dict[tuple[Any, ...], float]:
    families = text_string_to_metric_families(runs.text().decode())
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


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


def named(name: str, version: str, **spec: Any) -> Body:
    body = run(**spec)
    body["metadata"] |= {"name": name, "uid": name, "resourceVersion": version}
    return body


def test_a_scrape_has_each_run_as_it_was_last_seen_and_none_that_is_gone() -> None:
    one, other = named("one", "1"), named("other", "1")
    runs = runs_of(one, other)
    assert [name for name, *_ in values(runs)] == ["score_run_info"] * 2 + ["score_run_stalled"] * 2
    later = {**one, "metadata": {**one["metadata"], "resourceVersion": "2"}, "status": {"step": "mentor"}}
    runs.put(key_of(later), later)
    runs.drop(key_of(other))
    found = values(runs)
    assert len(found) == 2
    assert [dict(labels)["step"] for name, *labels in found if name == "score_run_info"] == ["mentor"]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_scrape_has_the_operators_own_series_too(encoding: str) -> None:
    port = serve(runs_of(run()), 0)
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept-Encoding": encoding})
    with urllib.request.urlopen(asked, timeout=10) as reply:
        text = reply.read()
    text = gzip.decompress(text) if encoding == "gzip" else text
    names = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {"score_operator_queue_depth", "score_run_info"} <= names
