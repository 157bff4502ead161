"""The table of metrics in docs/operations.md has what is exported, and nothing else."""

import re
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry

from score_distill import progress_server
from score_distill.executors.kubernetes import metrics
from score_distill.serving.meter import Meter

PAGE = Path(__file__).parents[2] / "docs/operations.md"


def exported(registry: CollectorRegistry) -> dict[str, tuple[str, ...]]:
    found = {}
    for collector in {*registry._names_to_collectors.values()}:
        if getattr(collector, "_name", "").startswith("score_"):
            suffix = "_total" if collector._type == "counter" else ""
            found[collector._name + suffix] = tuple(collector._labelnames)
    return found


def test_every_metric_is_in_the_table_with_its_labels() -> None:
    assert metrics.RECONCILE
    assert progress_server.DONE
    listed: dict[str, tuple[str, ...]] = {}
    for row in PAGE.read_text().splitlines():
        if row.startswith("| `score_"):
            _, names, _, labels, _ = row.split("|")
            listed |= {name: tuple(re.findall(r"\w+", labels)) for name in re.findall(r"`(\w+)`", names)}
    of_runs = {name: labels for name, (_, labels) in metrics.RUNS.items()}
    assert listed == exported(REGISTRY) | exported(Meter()._registry) | of_runs
