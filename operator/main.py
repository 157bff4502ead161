"""The operator: every kopf handler. What it sees goes into indexes and a work queue; one pass at a time a run.

    kopf run --standalone operator/main.py

Level-based: a pass looks at all there is, decides (pure), applies, and writes the status if it changed. There is no
timer, daemon or finalizer for a run.
"""

import asyncio
import logging
import os
import time
from typing import Any

import kopf
from kubernetes import client, config
from prometheus_client import start_http_server

from score_distill.api import GROUP, VERSION
from score_distill.executors.kubernetes import metrics
from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import UID
from score_distill.executors.kubernetes.passes import Operator
from score_distill.executors.kubernetes.settings import from_environ

RUNS = (GROUP, VERSION, "distillationruns")
JOBS = ("batch", "v1", "jobs")
DEPLOYMENTS = ("apps", "v1", "deployments")
PODS = ("", "v1", "pods")
OURS = {UID: kopf.PRESENT}
WORKERS = 4
RESYNC_SECONDS = 600.0


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config()
    cluster = Cluster(client.ApiClient(), lambda verb, kind: metrics.WRITES.labels(verb, kind).inc())
    await asyncio.to_thread(cluster.serves_runs)
    memo.operator = Operator(cluster, from_environ(os.environ), logging.getLogger("score.operator"))
    memo.tasks = [asyncio.create_task(memo.operator.queue.run(WORKERS)), asyncio.create_task(resync(memo.operator))]
    start_http_server(int(os.environ.get("SCORE_METRICS_PORT", "9090")))


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    for task in memo.tasks:
        task.cancel()


@kopf.index(*RUNS)
async def runs(body: kopf.Body, uid: str, **_: Any) -> dict[str, Any]:
    return {uid: dict(body)}


@kopf.index(*JOBS, labels=OURS)
async def jobs(body: kopf.Body, labels: kopf.Labels, **_: Any) -> dict[str, Any]:
    return {labels[UID]: {**body, "kind": "Job"}}


@kopf.index(*DEPLOYMENTS, labels=OURS)
async def deployments(body: kopf.Body, labels: kopf.Labels, **_: Any) -> dict[str, Any]:
    return {labels[UID]: {**body, "kind": "Deployment"}}


@kopf.index(*PODS, labels=OURS)
async def pods(body: kopf.Body, labels: kopf.Labels, **_: Any) -> dict[str, Any]:
    return {labels[UID]: dict(body)}


@kopf.on.event(*RUNS)
async def run_changed(
    uid: str,
    memo: kopf.Memo,
    runs: kopf.Index[str, Any],
    jobs: kopf.Index[str, Any],
    pods: kopf.Index[str, Any],
    deployments: kopf.Index[str, Any],
    **_: Any,
) -> None:
    memo.operator.sees(runs, jobs, pods, deployments)
    memo.operator.queue.add(uid)


@kopf.on.event(*JOBS, labels=OURS)
@kopf.on.event(*DEPLOYMENTS, labels=OURS)
@kopf.on.event(*PODS, labels=OURS)
async def child_changed(labels: kopf.Labels, memo: kopf.Memo, **_: Any) -> None:
    memo.operator.queue.add(labels[UID])


@kopf.on.probe(id="seconds_since_last_event")
async def last_event(memo: kopf.Memo, **_: Any) -> float:
    return round(time.time() - memo.operator.last_event, 1)


async def resync(operator: Operator) -> None:
    while True:
        await asyncio.sleep(RESYNC_SECONDS)
        for uid in operator.known():
            operator.queue.add(uid)
