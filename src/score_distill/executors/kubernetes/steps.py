"""A step as an Indexed Job: one index a shard or a trainer's node, with the sandbox beside it where code is run."""

import json
from dataclasses import asdict
from math import ceil

from score_distill.api import Pod
from score_distill.contract import StageConfig
from score_distill.control.pipeline import Step, Workers, workers_of
from score_distill.control.policy import Start
from score_distill.executors.kubernetes import models
from score_distill.executors.kubernetes.names import INDEX, Body, Owner
from score_distill.executors.kubernetes.pods import (
    claim_mounts,
    claim_volumes,
    container,
    empty,
    grouped,
    pod,
    resources,
    secret,
    store_access,
)
from score_distill.executors.kubernetes.settings import Settings
from score_distill.sandbox.limits import limits_of
from score_distill.train import launch
from score_distill.work_folder import PROGRESS_PORT, TERMINATION_LOG, WORKER

WORK, SOCKET, SCRATCH, CONFIG, SECRETS = "/work", "/run/score", "/scratch", "/config", "/secrets"
LOG = "/dev/termination-log"
NODE_RANK = "SCORE_NODE_RANK"
PORT = 8080
TAKEN: Body = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
"""Lets the Job say that its pod was evicted, preempted or lost, when the pod itself is gone."""
REPLACED: Body = {**TAKEN, "action": "Ignore"}
"""Workers that share tasks need not wait for each other: the Job makes another pod of that index alone."""


def config(owner: Owner, start: Start) -> StageConfig:
    """What the step is told; paths are those of its pods."""
    step, spec = start.step, owner.run.spec
    return StageConfig(
        run=owner.key,
        step=step.name,
        verb=step.verb,
        attempt=start.attempt,
        spec=spec,
        base="/",
        store=spec.artifacts.uri,
        inputs=step.inputs,
        work=f"{WORK}/{step.name}",
        teacher=models.served(owner, "teacher") if "teacher" in step.needs else None,
        student=models.served(owner, "student") if "student" in step.needs else None,
        sandbox=f"unix://{SOCKET}/sock" if "sandbox" in step.needs else None,
        teacher_tokens=start.teacher_tokens,
        workers=_workers(owner, start).shards,
        given_up=start.given_up,
        recall=start.recall,
    )


def objects(owner: Owner, start: Start, settings: Settings) -> list[Body]:
    """The ConfigMap and the Job of an attempt."""
    name = owner.job(start.step.name, start.attempt)
    labels = _labels(owner, start.step, start.attempt)
    told = config(owner, start).model_dump_json(by_alias=True, exclude_none=True)
    workers = _workers(owner, start)
    count = max(workers.shards, workers.nodes)
    group = owner.group(start.step)
    queued = {} if group else owner.queued
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(name, labels),
        "data": {"stage.json": told},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": owner.metadata(name, labels | queued),
        "spec": {
            "completionMode": "Indexed",
            "completions": count,
            "parallelism": count,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [REPLACED if workers.shards > 1 else TAKEN]},
            "template": grouped(_template(owner, start, name, settings, labels), group),
        }
        | ({"suspend": True} if queued else {}),
    }
    return [config_map, *meeting(owner, start.step, start.attempt), job]


def _workers(owner: Owner, start: Start) -> Workers:
    return Workers() if start.recall else workers_of(start.step, owner.run.spec)


def meeting(owner: Owner, step: Step, attempt: int) -> list[Body]:
    """The Service by whose name the pods of a trainer of several find each other, before any of them is ready."""
    if workers_of(step, owner.run.spec).nodes == 1:
        return []
    name = owner.job(step.name, attempt)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(name, _labels(owner, step, attempt)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": name},
            "ports": [{"name": "meeting", "port": launch.Nodes.port}],
        },
    }
    return [service]


def _labels(owner: Owner, step: Step, attempt: int) -> dict[str, str]:
    return owner.labels("stage", step=step.name, attempt=str(attempt))


def _command(name: str, step: Step, workers: Workers) -> list[str]:
    """The stage itself where a pod is one rank, else torchrun, whose exit code says less."""
    nodes = launch.Nodes(workers.nodes, f"$({NODE_RANK})", f"{name}-0.{name}")
    arguments = ["stage", step.verb, "--config", f"{CONFIG}/stage.json"]
    _, *words = launch.torchrun(workers.processes, "score_distill.cli", arguments, nodes)
    return ["python3", *words]


def _peers(name: str, workers: Workers, index: Body) -> dict[str, str | Body]:
    """How a pod of several finds its peers."""
    if workers.nodes == 1:
        return {}
    if workers.processes > 1:
        return {NODE_RANK: index}
    return {
        "RANK": index,
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(workers.nodes),
        "MASTER_ADDR": f"{name}-0.{name}",
        "MASTER_PORT": str(launch.Nodes.port),
    }


def _template(owner: Owner, start: Start, name: str, settings: Settings, labels: dict[str, str]) -> Body:
    step, spec = start.step, owner.run.spec
    trains = "trainer" in step.needs
    size: Pod = spec.resources.trainer if trains else spec.resources.rollout
    if start.recall:
        size = size.model_copy(update={"gpus": 0})
    image = (spec.images.trainer or settings.trainer) if trains else (spec.images.worker or settings.worker)
    workers = _workers(owner, start)
    volumes: dict[str, Body] = {
        "config": {"configMap": {"name": name}},
        "work": empty(),
        "tmp": empty(),
        **claim_volumes(spec),
    }
    mounts = {"config": f"{CONFIG}:ro", "work": WORK, "tmp": "/tmp", **claim_mounts(spec)}
    environ: dict[str, str | Body] = {
        "HOME": "/tmp",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        TERMINATION_LOG: LOG,
        PROGRESS_PORT: str(PORT),
    }
    if not size.gpus:
        environ["OMP_NUM_THREADS"] = str(max(1, models.machine_of(size).cores // workers.processes))
    index: Body = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    if workers.shards > 1:
        environ[WORKER] = index
    environ |= _peers(name, workers, index)
    if trains:
        volumes["shm"], mounts["shm"] = empty("8Gi" if size.gpus else "1Gi", memory=True), "/dev/shm"
    if own := owner.served(step):
        volumes["keys"], mounts["keys"] = secret(owner.keys, {role: role for role in own}), f"{models.KEYS}:ro"
    endpoint = spec.teacher.endpoint
    if "teacher" in step.needs and endpoint is not None and endpoint.api_key_secret is not None:
        key = endpoint.api_key_secret
        volumes["endpoint"], mounts["endpoint"] = secret(key.name, {key.key: "key"}), f"{models.ENDPOINT_KEY}:ro"
    for i, header in enumerate(endpoint.headers if "teacher" in step.needs and endpoint is not None else ()):
        if header.secret is not None:
            key, folder = header.secret, f"{models.header_folder(i)}:ro"
            volumes[f"header-{i}"], mounts[f"header-{i}"] = secret(key.name, {key.key: "value"}), folder
    search = spec.search.endpoint if spec.search else None
    if "sandbox" in step.needs and search is not None and search.api_key_secret is not None:
        key = search.api_key_secret
        volumes["search"], mounts["search"] = secret(key.name, {key.key: key.key}), f"{SECRETS}/{key.name}:ro"
        environ["SCORE_SECRETS"] = SECRETS
    beside = []
    if "sandbox" in step.needs:
        volumes |= {"socket": empty(), "scratch": empty("4Gi"), "sandbox-tmp": empty()}
        mounts["socket"] = SOCKET
        beside.append(_sandbox(owner, settings))
    stage = container(
        "stage",
        image,
        settings.pull_policy,
        _command(name, step, workers),
        environ,
        mounts,
        ports=[{"name": "progress", "containerPort": PORT}],
        resources=resources(size),
        terminationMessagePath=LOG,
        **store_access(spec),
    )
    return pod(
        spec,
        labels,
        volumes=volumes,
        restartPolicy="Never",
        **({"subdomain": name} if workers.nodes > 1 else {}),
        **({"initContainers": beside} if beside else {}),
        containers=[stage],
    )


def _sandbox(owner: Owner, settings: Settings) -> Body:
    """The daemon as a native sidecar: started before the stage, ended after it, with no key and no store.

    It may use a core for each step that it runs at once and one for itself.
    """
    spec = owner.run.spec
    cores = models.machine_of(spec.resources.rollout).cores
    bounds = limits_of(spec.method.agent, cores)
    arguments = {
        "limits": asdict(bounds),
        "libraries": list(spec.method.agent.libraries),
        "socket": f"{SOCKET}/sock",
        "scratch": SCRATCH,
    }
    limits = {"cpu": str(cores + 1), "memory": f"{ceil(bounds.memory_bytes * 4 / 2**20)}Mi"}
    return container(
        "sandbox",
        spec.images.worker or settings.worker,
        settings.pull_policy,
        ["python3", "-m", "score_distill.sandbox.supervisor", json.dumps(arguments)],
        {"PYTHONUNBUFFERED": "1"},
        {"socket": SOCKET, "scratch": SCRATCH, "sandbox-tmp": "/tmp"},
        restartPolicy="Always",
        startupProbe={
            "exec": {"command": ["test", "-S", f"{SOCKET}/sock"]},
            "periodSeconds": 1,
            "failureThreshold": 120,
        },
        resources={**settings.sandbox, "limits": limits | settings.sandbox.get("limits", {})},
    )
