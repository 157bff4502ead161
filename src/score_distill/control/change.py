"""What of a manifest changed since its run began, and may not have. Pure.

A run's results are made by one manifest. Where and how wide it runs may change at any time (``api.FREE``); anything
else would mix results of different runs.
"""

from collections.abc import Iterator
from typing import Any

from score_distill.api import DistillationRun, settled


def changes(before: DistillationRun, now: DistillationRun) -> tuple[str, ...]:
    """One line for each field that differs and may not: ``spec.method.rl.groupSize: 16, now 8``."""
    return tuple(_differences(settled(before.spec), settled(now.spec), "spec"))


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}")
    else:
        yield f"{path}: {old}, now {new}"
