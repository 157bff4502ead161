"""Pods of nine runs answer a byte at a time and never end; the run of another namespace begins as if they did not."""

import asyncio
import logging
from contextlib import suppress

from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import STEP
from score_distill.executors.kubernetes.passes import Operator
from score_distill.executors.kubernetes.steps import PORT

SLOW, WORKERS = 9, 4
HOST = "127.9.0.1"
"""An address of this machine at which nobody else listens."""
SECONDS = 4.0
"""Within which the other run begins; it takes a fifth of one."""


def pod_runs(namespace: Namespace) -> None:
    def pod_is_made() -> client.V1Pod:
        [pod] = namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{STEP}=prepare").items
        return pod

    namespace.say(eventually(pod_is_made), "Running", True, {"running": {}}, podIP=HOST, podIPs=[{"ip": HOST}])


def has_begun(namespace: Namespace) -> None:
    assert namespace.batch.list_namespaced_job(namespace.name).items


async def test_a_run_begins_while_slow_pods_of_nine_others_are_asked(control_plane: ControlPlane) -> None:
    asked = asyncio.Semaphore(0)

    async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.release()
        with suppress(OSError):
            while True:
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.5)

    namespaces = [Namespace(control_plane) for _ in range(SLOW + 1)]
    operator = Operator(Cluster(namespaces[0].api), SETTINGS, logging.getLogger("test"))

    async def is_heard_of(namespace: Namespace) -> None:
        operator.queue.add(await asyncio.to_thread(namespace.tell, operator))

    server = await asyncio.start_server(drips, HOST, PORT)
    works = asyncio.create_task(operator.queue.run(WORKERS))
    try:
        *slow, other = namespaces
        for one in slow:
            await asyncio.to_thread(one.begin)
            await is_heard_of(one)
        for one in slow:
            await asyncio.to_thread(pod_runs, one)
            await is_heard_of(one)
        for _ in slow:
            await asyncio.wait_for(asked.acquire(), 60)

        await asyncio.to_thread(other.begin)
        await is_heard_of(other)
        await asyncio.to_thread(eventually, lambda: has_begun(other), SECONDS, 0.05)
    finally:
        works.cancel()
        for one in slow:
            operator.asking.forget((one.name, one.run()["metadata"]["uid"]))
        server.close()
