"""The children that a cluster would have of a run, and passes over it: what the tests of reconciling share."""

import json
from collections.abc import Sequence
from typing import Any

from score_distill.contract import Progress, Summary
from score_distill.executors.kubernetes.names import STEP
from score_distill.executors.kubernetes.observe import Children
from score_distill.executors.kubernetes.reconcile import Changes, Measured, reconcile
from score_distill.executors.kubernetes.settings import Settings

SETTINGS = Settings(worker="worker:1", trainer="trainer:1", serving="serving:1")
NOW = 1_000_000.0
UID = "0f6a1b2c-0000-4000-8000-000000000001"
ORDER = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]
Body = dict[str, Any]


def run(status: Body | None = None, generation: int = 1, **spec: Any) -> Body:
    base = {
        "student": {"model": "s3://b/student"},
        "teacher": {"model": "s3://b/teacher"},
        "tasks": {"train": {"uri": "s3://b/train"}, "eval": [{"name": "test", "uri": "s3://b/test"}]},
        "artifacts": {"uri": "s3://b/runs", "credentialsSecret": "s3"},
    }
    return {
        "apiVersion": "distill.score.dev/v1alpha1",
        "kind": "DistillationRun",
        "metadata": {"name": "one", "namespace": "team", "uid": UID, "generation": generation},
        "spec": base | spec,
        "status": status or {},
    }


class EnvState:
    """The children that a cluster would have after what was applied; a test says how they fare."""

    def __init__(self) -> None:
        self.jobs: dict[str, Body] = {}
        self.deployments: dict[str, Body] = {}
        self.pods: dict[str, Body] = {}
        self.services: dict[str, Body] = {}
        self.policies: dict[str, Body] = {}

    @property
    def children(self) -> Children:
        jobs, pods, deployments, services, policies = (
            list(one.values()) for one in (self.jobs, self.pods, self.deployments, self.services, self.policies)
        )
        return Children(jobs, pods, deployments, [*services, *policies])

    def take(self, changes: Changes) -> None:
        for body in changes.apply:
            kind = {
                "Job": self.jobs,
                "Deployment": self.deployments,
                "Service": self.services,
                "NetworkPolicy": self.policies,
            }.get(body["kind"])
            if kind is not None:
                kind[body["metadata"]["name"]] = body
        for body in changes.delete:
            self.jobs.pop(body["metadata"]["name"], None)
            self.deployments.pop(body["metadata"]["name"], None)

    def ready(self) -> None:
        for body in self.deployments.values():
            body["status"] = {"readyReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]}

    def end(self, job: str, summary: Summary | None, code: int = 0, **ended: Any) -> None:
        """Its pod says nothing for a ``summary`` of None, unless it succeeds."""
        body = self.jobs[job]
        if summary is None and code == 0:
            summary = Summary(step=body["metadata"]["labels"][STEP], succeeded=True, digest="a" * 64)
        body["status"] = {"conditions": [{"type": "Failed" if code else "Complete", "status": "True"}]}
        labels = body["metadata"]["labels"] | {"batch.kubernetes.io/job-name": job}
        message = summary.bounded().decode() if summary else ""
        told = {"name": "stage", "state": {"terminated": {"exitCode": code, "message": message, **ended}}}
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [told]}
        spec = body["spec"]["template"]["spec"]
        self.pods[job] = {"metadata": {"name": f"{job}-0", "labels": labels}, "spec": spec, "status": status}


def one_pass(
    world: EnvState,
    body: Body,
    now: float = NOW,
    progress: dict[str, Progress] | None = None,
    asked: bool = True,
) -> Changes:
    """A pass, carried out: the body has the new status, the world the new children."""
    changes = reconcile(body, world.children, Measured(progress or {}, asked), SETTINGS, now)
    world.take(changes)
    if changes.status is not None:
        body["status"] = json.loads(json.dumps(changes.status))
    return changes


def condition(body: Body, kind: str) -> Body:
    return next(one for one in body["status"]["conditions"] if one["type"] == kind)


def step(body: Body, name: str) -> Body:
    return next(one for one in body["status"]["steps"] if one["name"] == name)


def come_to(name: str, order: Sequence[str] = ORDER, **spec: Any) -> tuple[EnvState, Body]:
    """A run whose step ``name`` has just been started for the first time."""
    world, body = EnvState(), run(**spec)
    for current in order:
        one_pass(world, body)
        world.ready()
        one_pass(world, body)
        if current == name:
            return world, body
        tokens = {"teacher": 60} if current == "demonstrate" else {}
        world.end(f"one-{current}-1", Summary(step=current, succeeded=True, tokens=tokens, digest="a" * 64))
    raise AssertionError(name)


def kinds(changes: Changes) -> list[str]:
    return [f"{body['kind']} {body['metadata']['name']}" for body in changes.apply]
