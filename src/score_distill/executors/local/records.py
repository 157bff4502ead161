"""What the manifests of finished steps say, in the plan's words."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from score_distill.artifacts.steps import Manifest
from score_distill.control.plan import Done

ATTEMPTS = {"demonstrate": ("teacher", ("accepted", "rejected"))}


def done_of(manifests: Mapping[str, Manifest]) -> dict[str, Done]:
    return {name: _done(manifest) for name, manifest in manifests.items()}


def _done(manifest: Manifest) -> Done:
    tokens: Counter[str] = Counter()
    for row in _usage(manifest):
        tokens[str(row["role"])] += int(row["prompt"]) + int(row["completion"])
    attempts: dict[str, int] = {}
    if manifest.step in ATTEMPTS:
        role, counts = ATTEMPTS[manifest.step]
        attempts[role] = sum(manifest.counts.get(name, 0) for name in counts)
    return Done(attempt=manifest.attempt, counts=manifest.counts, tokens=tokens, attempts=attempts)


def _usage(manifest: Manifest) -> list[dict[str, Any]]:
    rows = manifest.summary.get("usage")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
