"""Which runs answer the question of when correction pays: one manifest for each value of a dial and each seed. Pure.

A dial changes `base.yaml` in one respect. In every cell plain imitation has as many teacher tokens and as many
optimizer steps as correction (`spec.method.control`), so a cell's own report compares them.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

SEEDS = range(5)

DIALS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
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
                yield Cell(dial, value, seed, _manifest(base, name, {**changes, "seed": seed}))


def _manifest(base: Mapping[str, Any], name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    made = deepcopy(dict(base))
    made["metadata"] = {"name": name}
    for path, value in changes.items():
        *folders, last = path.split(".")
        place = made["spec"]
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = deepcopy(value)
    return made
