"""A real Prometheus scrapes the operator, answers the questions of docs/operations.md, and evaluates its alerts."""

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.binaries import prometheus
from tests.cluster.control_plane import ControlPlane
from tests.cluster.processes import free_ports, start
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.test_operator_process import ROOT, WHERE, Team

from score_distill.executors.kubernetes.cluster import Cluster

RULES = ROOT / "charts/score-operator/files/rules.yaml"
PROMQL = re.search(r"```promql\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)


class Prometheus:
    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self._root}/{path}?{urllib.parse.urlencode(query)}", timeout=10) as reply:
            return json.load(reply)["data"]

    def ask(self, query: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The value of each series by these of its labels."""
        found = self.get("query", query=query)["result"]
        return {tuple(one["metric"].get(name, "") for name in labels): float(one["value"][1]) for one in found}

    def alerts(self) -> dict[str, str]:
        return {one["labels"]["alertname"]: one["state"] for one in self.get("alerts")["alerts"]}


@contextmanager
def scraping(target: int, folder: Path) -> Iterator[Prometheus]:
    [port] = free_ports(1)
    scrape = {"job_name": "operator", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    told = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [scrape],
    }
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(told))
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{port}"]
    daemon = start([prometheus(), *arguments], folder / "log")
    try:
        yield Prometheus(port)
    finally:
        daemon.kill()


def test_prometheus_answers_what_the_page_asks_and_says_what_needs_a_person(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    team = Team(control_plane)
    cluster = Cluster(control_plane.client())
    [metrics] = free_ports(1)

    def read(name: str) -> dict[str, Any]:
        return dict(team.runs.get_namespaced_custom_object(*WHERE, team.namespace, "distillationruns", name))

    def goes_on_from(name: str, **told: Any) -> None:
        """The run has such a status, as if it had come to it by itself."""
        body = read(name)
        steps = [{**body["status"]["steps"][0], "done": 30, "total": 40, "unit": "tasks"}, *body["status"]["steps"][1:]]
        assert cluster.write_status(body["metadata"], {**body["status"], "steps": steps, **told})

    operator, _ = team.operator(tmp_path / "operator.log", SCORE_METRICS_PORT=metrics)
    with scraping(metrics, tmp_path) as server:
        try:
            team.run("one", stallSeconds=60, budget={"gpuHours": 2.5})
            team.run("two", suspend=True)
            for name in ("one", "two"):
                eventually(lambda name=name: team.started(name))
            long_ago = datetime.now(UTC) - timedelta(hours=2)
            score = {"eval": "test", "low": 0.1, "high": 0.9, "n": 40}
            scores = [{**score, "model": "base", "score": 0.25}, {**score, "model": "rl", "score": 0.75}]
            eventually(
                lambda: goes_on_from(
                    "one",
                    usage={"gpuSeconds": 8640, "countedUntil": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"},
                    scores=scores,
                    lastProgressTime=f"{long_ago:%Y-%m-%dT%H:%M:%SZ}",
                )
            )
            assert PROMQL is not None
            questions = dict(re.findall(r"# (.*)\n(.*)\n", PROMQL[1]))
            answers: dict[str, dict[tuple[str, ...], float]] = {
                "Runs by state": {("", "Running"): 1, ("", "Suspended"): 1},
                "Share of its current step that each run has done, with what it is at": {("one", "Running"): 0.75},
                "GPU hours by namespace": {("", ""): 2.4},
                "What correction brought: points between the student before and after": {("one", ""): 50},
                "Budgets of which less than a tenth is left": {("one", ""): 0.96},
            }
            speed = questions.pop("Tasks or updates an hour of each run's current step")
            assert questions.keys() == answers.keys()

            def answers_are_right() -> None:
                for question, query in questions.items():
                    assert server.ask(query, "run", "state") == pytest.approx(answers[question]), question
                assert server.ask(speed, "run").keys() == {("one",), ("two",)}

            eventually(answers_are_right, within=60)
            assert server.ask("score_run_info", "namespace", "run", "state", "step", "reason") == {
                (team.namespace, "one", "Running", "prepare", "StepRunning"): 1,
                (team.namespace, "two", "Suspended", "prepare", "Suspended"): 1,
            }
            eventually(
                lambda: same(server.alerts(), {"ScoreBudgetNearlySpent": "firing", "ScoreRunStalled": "pending"})
            )
            team.runs.delete_namespaced_custom_object(*WHERE, team.namespace, "distillationruns", "one")
            eventually(lambda: same(server.ask("score_run_stalled", "run"), {("two",): 0}))
        finally:
            operator.kill()
        eventually(lambda: same(server.alerts(), {"ScoreOperatorAbsent": "pending"}))
        faults = [one for group in server.get("rules")["groups"] for one in group["rules"] if one["health"] != "ok"]
        assert faults == []


def same(found: object, expected: object) -> None:
    assert found == expected
