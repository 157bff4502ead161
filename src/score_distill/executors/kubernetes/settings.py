"""What the operator is told when it is installed: images, and what pods get that the manifest does not give."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Images of the pods where a run names none."""

    worker: str
    trainer: str
    serving: str
    pull_policy: str = "IfNotPresent"


def from_environ(environ: Mapping[str, str]) -> Settings:
    """Raises KeyError for an image that is not given; the chart gives all of them."""
    return Settings(
        worker=environ["SCORE_IMAGE_WORKER"],
        trainer=environ["SCORE_IMAGE_TRAINER"],
        serving=environ["SCORE_IMAGE_SERVING"],
        pull_policy=environ.get("SCORE_PULL_POLICY", "IfNotPresent"),
    )
