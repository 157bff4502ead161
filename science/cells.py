"""Which runs answer the question of when correction pays: one manifest for each value of a dial and each seed. Pure.

A dial changes `base.yaml` in one respect. In every cell plain imitation has as many teacher tokens and as many
optimizer steps as correction (`spec.method.control`), so a cell's own report compares them.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEEDS = range(5)

HORIZON, HORIZONS = "steps of a task", (5, 10, 20, 40)
TAUGHT, DEMONSTRATIONS = "steps of a task with more demonstrations", {10: 250, 20: 320}
MADE = Path("runs/science")  # by `horizons.py`, for the cells whose tasks are longer than the quickstart's


def data(steps: int) -> Path:
    return MADE / "data" / f"{steps}-steps"


def model(name: str) -> Path:
    return MADE / "models" / f"long-{name}"


def taught(steps: int) -> Mapping[str, Any]:
    """As `horizon`, but with more demonstrations where tasks are longer, for a student less weak when mentored."""
    shown = DEMONSTRATIONS[steps]
    tasks = shown + 3200 // steps
    return {**horizon(steps), "tasks.train.limit": tasks, "method.split.coldStart": round(shown / tasks, 4)}


def horizon(steps: int) -> Mapping[str, Any]:
    """As many steps of all tasks together at every horizon, so fewer tasks where they are longer."""
    return {
        "student.model": _from_manifests(model("student")),
        "student.serving.contextLength": 1536,
        "teacher.model": _from_manifests(model("teacher")),
        "teacher.serving.contextLength": 1536,
        "tasks.train.uri": _from_manifests(data(steps) / "train.jsonl"),
        "tasks.train.limit": 4000 // steps,
        "tasks.eval": [
            {"name": "ledger", "uri": _from_manifests(data(steps) / "eval.jsonl"), "metric": "exact", "limit": 500}
        ],
        "method.agent.maxSteps": steps + 6,
        "method.correction.maxCorrections": 16,
        **{f"method.{step}.{tokens}": 1280 for step in ("warmup", "sft") for tokens in ("batchTokens", "packTokens")},
        "method.warmup.epochs": 20,
        "method.sft.epochs": 12,
    }


def _from_manifests(path: Path) -> str:
    return f"../../../{path}"


DIALS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    HORIZON: {str(steps): horizon(steps) for steps in HORIZONS},
    TAUGHT: {str(steps): taught(steps) for steps in DEMONSTRATIONS},
    "student at mentoring": {
        "weak": {"method.warmup.epochs": 2},
        "strong": {},
    },
    "rounds of mentoring": {
        "two": {"method.rounds": 2},
        "four": {"method.rounds": 4},
    },
    "mentored tasks": {
        "100": {"tasks.train.limit": 200, "method.split.coldStart": 0.5},
        "800": {"tasks.train.limit": 900, "method.split.coldStart": 0.111},
    },
}


@dataclass(frozen=True)
class Cell:
    dial: str
    value: str
    seed: int
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])


def cells(base: Mapping[str, Any]) -> Iterator[Cell]:
    """All of them, one seed after the other, so that a part of the time gives a part of every dial."""
    for seed in SEEDS:
        for dial, values in DIALS.items():
            for value, changes in values.items():
                name = f"{dial} {value} {seed}".replace(" ", "-")
                yield Cell(dial, value, seed, manifest_of(base, name, {**changes, "seed": seed}))


def manifest_of(base: Mapping[str, Any], name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` under another name, with other values at these paths of its spec."""
    made = deepcopy(dict(base))
    made["metadata"] = {"name": name}
    for path, value in changes.items():
        *folders, last = path.split(".")
        place = made["spec"]
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = deepcopy(value)
    return made
