"""What of a manifest changed since its run began, and may not have. Pure.

A run's results are made by one manifest. Where and how wide it runs may change at any time (``FREE``); anything else
would mix results of different runs.
"""

from collections.abc import Iterator
from typing import Any

from score_distill.api import DistillationRun

FREE = frozenset(
    {
        "spec.resources",
        "spec.budget",
        "spec.artifacts",
        "spec.teacher.concurrency",
        "spec.teacher.serving.args",
        "spec.student.serving.args",
    }
)


def changes(before: DistillationRun, now: DistillationRun) -> tuple[str, ...]:
    """One line for each field that differs and may not: ``spec.method.rl.groupSize: 16, now 8``."""
    old, new = (run.model_dump(mode="json", by_alias=True) for run in (before, now))
    return tuple(_differences({"spec": old["spec"]}, {"spec": new["spec"]}, ""))


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if path in FREE or old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}".removeprefix("."))
    else:
        yield f"{path}: {old}, now {new}"
