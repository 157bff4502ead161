"""What the operator is told when it is installed: images, its place, and what pods get that no manifest gives."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

GATEWAY = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
SANDBOX = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": dict[str, str]()}


@dataclass(frozen=True)
class Settings:
    """Images of the pods where a run names none.

    ``egress`` are rules of a NetworkPolicy by which pods of a run reach their store; None: make no policies.
    ``scrapers`` are peers of one that may read the metrics of gateways.
    ``gateway`` and ``sandbox`` are the resources of the containers beside those whose size a manifest gives; limits of
    the sandbox that are not here follow from the manifest's bounds of a step.
    ``namespaces`` are those that are watched; none: all. ``lease`` is the operator's own namespace and pod, where
    several of it may run. Every ``check_seconds`` its watches are compared with the API server.
    """

    worker: str
    trainer: str
    serving: str
    pull_policy: str = "IfNotPresent"
    egress: tuple[dict[str, Any], ...] | None = None
    scrapers: tuple[dict[str, Any], ...] = ()
    gateway: Mapping[str, Any] = field(default_factory=lambda: GATEWAY)
    sandbox: Mapping[str, Any] = field(default_factory=lambda: SANDBOX)
    namespaces: tuple[str, ...] = ()
    lease: tuple[str, str] | None = None
    check_seconds: float = 60.0


def from_environ(environ: Mapping[str, str]) -> Settings:
    """Raises KeyError for an image that is not given; the chart gives all of them."""
    egress = environ.get("SCORE_RUN_EGRESS")
    settings = Settings(
        worker=environ["SCORE_IMAGE_WORKER"],
        trainer=environ["SCORE_IMAGE_TRAINER"],
        serving=environ["SCORE_IMAGE_SERVING"],
        pull_policy=environ.get("SCORE_PULL_POLICY", "IfNotPresent"),
        namespaces=tuple(filter(None, environ.get("SCORE_NAMESPACES", "").split(","))),
        lease=(environ["SCORE_NAMESPACE"], environ["SCORE_POD"]) if "SCORE_POD" in environ else None,
        check_seconds=float(environ.get("SCORE_CHECK_SECONDS", "60")),
        scrapers=tuple(json.loads(environ.get("SCORE_METRICS_FROM", "[]"))),
        egress=None if egress is None else tuple(json.loads(egress)),
    )
    return replace(settings, **json.loads(environ.get("SCORE_BESIDE", "{}")))
