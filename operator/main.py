"""The operator: every kopf handler. What it sees becomes known and due; one pass at a time a run.

    kopf run --standalone operator/main.py

Level-based: a pass looks at all there is, decides (pure), applies, and writes the status if it changed. There is no
timer, daemon or finalizer for a run. Of several operators one acts, which has the Lease; all watch.
"""

import asyncio
import logging
import os
import time
from typing import Any

import kopf
from kubernetes import client, config

from score_distill.api import GROUP, VERSION
from score_distill.executors.kubernetes import metrics
from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.fencing import fenced
from score_distill.executors.kubernetes.lease import Candidate
from score_distill.executors.kubernetes.names import UID
from score_distill.executors.kubernetes.passes import Operator
from score_distill.executors.kubernetes.settings import Settings, from_environ

RUNS = (GROUP, VERSION, "distillationruns")
JOBS = ("batch", "v1", "jobs")
DEPLOYMENTS = ("apps", "v1", "deployments")
REPLICA_SETS = ("apps", "v1", "replicasets")
PODS = ("", "v1", "pods")
SERVICES = ("", "v1", "services")
NETWORK_POLICIES = ("networking.k8s.io", "v1", "networkpolicies")
OURS = {UID: kopf.PRESENT}
WORKERS = 4
RESYNC_SECONDS = 600.0
STANDBY_CHECKS = 4
"""Of whoever only watches, one in so many: within the 300 s of the alert ScoreOperatorUninformed."""


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    for talker in ("kopf.objects", "kopf.activities.probe", "aiohttp.access"):
        logging.getLogger(talker).setLevel(logging.WARNING)
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.chunk_size = 500
    for kind in (JOBS, DEPLOYMENTS, REPLICA_SETS, PODS, SERVICES, NETWORK_POLICIES):
        settings.watching.label_selectors[kind] = UID
    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config()
    told = from_environ(os.environ)
    api, memo.candidate = client.ApiClient(), None
    if told.lease is not None:
        memo.candidate = Candidate(client.ApiClient(), *told.lease)
        fenced(api, memo.candidate.term.demand)
    cluster = Cluster(api, lambda verb, kind: metrics.WRITES.labels(verb, kind).inc())
    await asyncio.to_thread(cluster.serves_runs)
    memo.operator = Operator(cluster, told, logging.getLogger("score.operator"))
    memo.tasks = [
        asyncio.create_task(task)
        for task in (
            act(memo.operator, memo.candidate),
            resync(memo.operator),
            check(memo.operator, memo.candidate, told),
        )
    ]
    metrics.serve(memo.operator.series, int(os.environ.get("SCORE_METRICS_PORT", "9090")))


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """Begin no write, let those under way end, and give up the Lease."""
    if memo.candidate is not None:
        memo.candidate.term.end()
    for task in memo.tasks:
        task.cancel()
    await asyncio.get_running_loop().shutdown_default_executor()
    if memo.candidate is not None:
        memo.candidate.give_up()


@kopf.index(*RUNS)
@kopf.index(*JOBS, labels=OURS)
@kopf.index(*DEPLOYMENTS, labels=OURS)
@kopf.index(*REPLICA_SETS, labels=OURS)
@kopf.index(*PODS, labels=OURS)
@kopf.index(*SERVICES, labels=OURS)
@kopf.index(*NETWORK_POLICIES, labels=OURS)
async def known(body: kopf.Body, resource: kopf.Resource, memo: kopf.Memo, **_: Any) -> dict[str, Any]:
    """kopf calls no handler before all that is there has gone through its indexes; it keeps nothing in this one.

    Until then it holds every object. What is known of one is packed, and its handler reads its metadata alone.
    """
    whole = dict(body)
    memo.operator.known.put(resource.kind, whole)
    for part in (whole.get("spec"), whole.get("status")):
        if isinstance(part, dict):
            part.clear()
    whole["metadata"].pop("managedFields", None)
    return {}


@kopf.on.event(*RUNS)
@kopf.on.event(*JOBS, labels=OURS)
@kopf.on.event(*DEPLOYMENTS, labels=OURS)
@kopf.on.event(*REPLICA_SETS, labels=OURS)
@kopf.on.event(*PODS, labels=OURS)
@kopf.on.event(*SERVICES, labels=OURS)
@kopf.on.event(*NETWORK_POLICIES, labels=OURS)
async def changed(event: kopf.RawEvent, body: kopf.Body, resource: kopf.Resource, memo: kopf.Memo, **_: Any) -> None:
    memo.operator.changed(resource.kind, dict(body), gone=event["type"] == "DELETED")


@kopf.on.probe(id="operator")
async def health(memo: kopf.Memo, **_: Any) -> str:
    ended = [repr(task.exception()) for task in memo.tasks if task.done() and not task.cancelled()]
    if why := memo.operator.ailing(time.time()) or "; ".join(ended):
        raise kopf.PermanentError(why)
    return "ok"


async def act(operator: Operator, candidate: Candidate | None) -> None:
    """Work on the queue, once the Lease is held where there is one; whoever loses it ends at once."""
    if candidate is not None:
        loop, leads = asyncio.get_running_loop(), asyncio.Event()
        candidate.campaign(lambda: loop.call_soon_threadsafe(leads.set), lambda: os._exit(1))
        await leads.wait()
    metrics.LEADS.set(1)
    logging.getLogger("score.operator").info("this operator acts")
    await asyncio.gather(operator.check_watches(), operator.queue.run(WORKERS))


async def check(operator: Operator, candidate: Candidate | None, told: Settings) -> None:
    """Of the operators that only watch, each lists what there is more rarely."""
    while True:
        for _ in range(STANDBY_CHECKS):
            await asyncio.sleep(told.check_seconds)
            if candidate is None or candidate.term.holds():
                break
        await operator.check_watches()


async def resync(operator: Operator) -> None:
    while True:
        await asyncio.sleep(RESYNC_SECONDS)
        for run in operator.known.runs:
            operator.queue.add(run)
