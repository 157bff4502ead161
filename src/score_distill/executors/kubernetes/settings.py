"""What the operator is told when it is installed: images, its place, and what pods get that no manifest gives."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Images of the pods where a run names none.

    ``egress`` are rules of a NetworkPolicy by which pods of a run reach their store; None: make no policies.
    """

    worker: str
    trainer: str
    serving: str
    pull_policy: str = "IfNotPresent"
    egress: tuple[dict[str, Any], ...] | None = None


def from_environ(environ: Mapping[str, str]) -> Settings:
    """Raises KeyError for an image that is not given; the chart gives all of them."""
    egress = environ.get("SCORE_RUN_EGRESS")
    return Settings(
        worker=environ["SCORE_IMAGE_WORKER"],
        trainer=environ["SCORE_IMAGE_TRAINER"],
        serving=environ["SCORE_IMAGE_SERVING"],
        pull_policy=environ.get("SCORE_PULL_POLICY", "IfNotPresent"),
        egress=None if egress is None else tuple(json.loads(egress)),
    )
