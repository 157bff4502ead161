"""A model as pods: vLLM that listens inside its pod alone, and the gateway beside it that the network sees."""

import hashlib
import json
from math import ceil
from pathlib import Path

from score_distill.api import Pod, Serving, amount
from score_distill.contract import Role, SentHeader, Served
from score_distill.control.pipeline import Step
from score_distill.executors.kubernetes.names import MADE_OF, SERVER, Body, Owner
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
from score_distill.machine import Machine
from score_distill.serving import vllm

PORT, INSIDE = 8000, 8001
MODEL, WEIGHTS, KEYS = "/models/base", "/weights", "/keys"
ENDPOINT_KEY = "/keys-endpoint"


def served(owner: Owner, role: Role) -> Served:
    """What a stage is told of a model: the teacher's may be an endpoint of the user's."""
    endpoint = owner.run.spec.teacher.endpoint
    if role == "teacher" and endpoint is not None:
        key_file = f"{ENDPOINT_KEY}/key" if endpoint.api_key_secret else None
        headers = (
            SentHeader(name=one.name, value=one.value or "", file=f"{header_folder(i)}/value" if one.secret else None)
            for i, one in enumerate(endpoint.headers)
        )
        return Served(
            url=endpoint.url.rstrip("/"),
            model=endpoint.model,
            key_file=key_file,
            headers=tuple(headers),
            body=endpoint.body,
            omit=endpoint.omit,
        )
    root = f"http://{owner.model(role)}:{PORT}"
    return Served(
        url=f"{root}/v1",
        model=role,
        key_file=f"{KEYS}/{role}",
        weights_url=root if role == "student" else None,
        ready_url=f"{root}/ready",
    )


def header_folder(i: int) -> str:
    """Where a pod has the secret value of the endpoint's header of that number."""
    return f"{ENDPOINT_KEY}-header-{i}"


def objects(owner: Owner, role: Role, settings: Settings, step: Step) -> list[Body]:
    """The Service and the Deployment of a model that the run serves itself, while ``step`` is the current one."""
    labels, group = owner.labels(role), owner.group(step) if role in step.needs else {}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(owner.model(role), labels),
        "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(owner.model(role), labels | ({} if group else owner.queued))
        | {"annotations": {MADE_OF: made_of(owner, role, group)}},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": grouped(_template(owner, role, settings, labels), group),
        },
    }
    return [service, deployment]


def made_of(owner: Owner, role: Role, group: Body) -> str:
    """What a change of the manifest may change in a model's pods; a newer operator alone does not start them anew.

    Without defaults, so that a field which a newer operator knows, and the manifest does not give, changes nothing.
    """
    spec = owner.run.spec
    model = spec.student if role == "student" else spec.teacher
    size = spec.resources.student if role == "student" else spec.resources.teacher
    where = spec.scheduling.model_copy(update={"ahead": False})
    parts = (model, size, where, spec.images)
    told = "\n".join(part.model_dump_json(by_alias=True, exclude_defaults=True) for part in parts)
    told += json.dumps(group, sort_keys=True) if group else ""
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _template(owner: Owner, role: Role, settings: Settings, labels: dict[str, str]) -> Body:
    spec = owner.run.spec
    student = role == "student"
    uri, serving, size = (
        (spec.student.model, spec.student.serving, spec.resources.student)
        if student
        else (str(spec.teacher.model), spec.teacher.serving, spec.resources.teacher)
    )
    worker, policy = spec.images.worker or settings.worker, settings.pull_policy
    fetch = ["python3", "-m", "score_distill.cli", "fetch", uri, MODEL, *(["--untied"] if student else [])]
    gateway = ["python3", "-m", "score_distill.serving.gateway", "--port", str(PORT)]
    gateway += ["--upstream", f"http://127.0.0.1:{INSIDE}", "--model", role, "--key-file", f"{KEYS}/{role}"]
    gateway += ["--dtype", serving.dtype]
    if student:
        gateway += ["--managed", "--weights", WEIGHTS, "--base", MODEL]
    home = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1"}
    probe = {"port": "http", "scheme": "HTTP"}
    return pod(
        spec,
        labels,
        volumes={
            "models": empty(),
            "weights": empty(),
            "tmp": empty(),
            "home": empty(),
            "shm": empty("8Gi" if size.gpus else "1Gi", memory=True),
            "keys": secret(owner.keys, {role: role}),
            **claim_volumes(spec),
        },
        initContainers=[
            container(
                "fetch",
                worker,
                policy,
                fetch,
                home,
                {"models": "/models", "tmp": "/tmp", **claim_mounts(spec)},
                resources=resources(size.model_copy(update={"gpus": 0})),
                **store_access(spec),
            )
        ],
        containers=[
            _vllm(owner, role, settings, serving, size),
            container(
                "gateway",
                worker,
                policy,
                gateway,
                home,
                {"models": "/models:ro", "weights": WEIGHTS, "tmp": "/tmp", "keys": f"{KEYS}:ro"},
                ports=[{"name": "http", "containerPort": PORT}],
                readinessProbe={"httpGet": {**probe, "path": "/ready"}, "periodSeconds": 2, "timeoutSeconds": 5},
                livenessProbe={"httpGet": {**probe, "path": "/healthz"}, "periodSeconds": 10, "failureThreshold": 6},
                resources=dict(settings.gateway),
            ),
        ],
    )


def _vllm(owner: Owner, role: Role, settings: Settings, serving: Serving, size: Pod) -> Body:
    machine = machine_of(size)
    command = vllm.command(Path(MODEL), role, serving, INSIDE, machine, python="python3", gpus=size.gpus)
    environ: dict[str, str | Body] = dict(vllm.environ({}, machine, Path("/home/score"), managed=role == "student"))
    environ["VLLM_API_KEY"] = {"secretKeyRef": {"name": owner.keys, "key": role}}
    return container(
        SERVER,
        owner.run.spec.images.serving or settings.serving,
        settings.pull_policy,
        command,
        environ | {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"},
        {
            "models": "/models:ro",
            "weights": f"{WEIGHTS}:ro",
            "tmp": "/tmp",
            "home": "/home/score",
            "shm": "/dev/shm",
        },
        resources=resources(size),
    )


def machine_of(size: Pod) -> Machine:
    """The part of a machine that a pod may count on."""
    cpu = size.limits.cpu or size.requests.cpu or "1"
    memory = size.limits.memory or size.requests.memory or "8Gi"
    return Machine(max(1, ceil(amount(str(cpu)))), float(amount(str(memory))) / 2**30, size.gpus)
