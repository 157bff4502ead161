"""What kopf costs by itself: an operator that makes one Job a run and does nothing else. The peer of bench.operator."""

import asyncio
from typing import Any

import kopf
from kubernetes import client, config

config.load_kube_config()
CONTAINER = {"name": "any", "image": "worker:1"}


@kopf.on.create("distill.score.dev", "v1alpha1", "distillationruns")
async def begin(body: kopf.Body, namespace: Any, name: Any, **_: Any) -> None:
    job: Any = {
        "metadata": {"name": f"{name}-plain"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [CONTAINER]}}},
    }
    kopf.adopt(job, owner=body)
    await asyncio.to_thread(client.BatchV1Api().create_namespaced_job, namespace, job)
