"""What the operator keeps between events: the indexes, the queue, and one pass over one run."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from score_distill.contract import Progress
from score_distill.executors.kubernetes import metrics
from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import Body
from score_distill.executors.kubernetes.observe import Children
from score_distill.executors.kubernetes.reconcile import Changes, reconcile, running
from score_distill.executors.kubernetes.settings import Settings
from score_distill.executors.kubernetes.workqueue import WorkQueue

Index = Mapping[str, Iterable[Any]]


class Operator:
    def __init__(self, cluster: Cluster, settings: Settings, logger: logging.Logger) -> None:
        self._cluster, self._settings, self._logger = cluster, settings, logger
        self.queue: WorkQueue[str] = WorkQueue(self.reconcile, self._failed)
        self._runs: Index = {}
        self._jobs: Index = {}
        self._pods: Index = {}
        self._deployments: Index = {}
        self.last_event = time.time()

    def sees(self, runs: Index, jobs: Index, pods: Index, deployments: Index) -> None:
        """The live indexes, by the uid of the run."""
        self._runs, self._jobs, self._pods, self._deployments = runs, jobs, pods, deployments
        self.last_event = time.time()
        metrics.LAST_EVENT.set(self.last_event)

    def known(self) -> list[str]:
        return list(self._runs)

    async def reconcile(self, uid: str) -> float | None:
        """One pass: observe, decide, apply, say; returns in how many seconds the next is due by itself."""
        metrics.QUEUE.set(len(self.queue))
        bodies = list(self._runs.get(uid, ()))
        if not bodies:
            return None
        children = Children(*(list(index.get(uid, ())) for index in (self._jobs, self._pods, self._deployments)))
        with metrics.RECONCILE.time():
            return await asyncio.to_thread(self._pass, bodies[0], children)

    def _pass(self, body: Body, children: Children) -> float | None:
        told = ((step, self._cluster.progress(pod)) for step, pod in running(children))
        progress: dict[str, Progress] = {step: one for step, one in told if one is not None}
        changes = reconcile(body, children, progress, self._settings, time.time())
        self._carry_out(body, changes)
        return changes.again

    def _carry_out(self, body: Body, changes: Changes) -> None:
        metadata = body["metadata"]
        if changes.keys is not None:
            self._cluster.create_keys(changes.keys, ("teacher", "student"))
        for wanted in changes.apply:
            self._cluster.apply(wanted, metadata["uid"])
        for unwanted in changes.delete:
            self._cluster.delete(unwanted["kind"], unwanted["metadata"])
        if changes.status is not None and changes.status != body.get("status"):
            self._cluster.write_status(metadata, changes.status)
            _tell(metadata, changes.status)

    def _failed(self, uid: str, error: Exception) -> None:
        metrics.ERRORS.labels(type(error).__name__).inc()
        self._logger.warning("run %s: %s: %s", uid, type(error).__name__, error, exc_info=True)


def _tell(metadata: Body, status: Body) -> None:
    where = (metadata["namespace"], metadata["name"])
    for step in status.get("steps", ()):
        metrics.STEP_DONE.labels(*where, step["name"]).set(step.get("done", 0))
        metrics.STEP_TOTAL.labels(*where, step["name"]).set(step.get("total") or 0)
    for role, name in (("teacher", "teacherTokens"), ("student", "studentTokens")):
        metrics.TOKENS.labels(*where, role).set(status.get("usage", {}).get(name, 0))
    for one in status.get("scores", ()):
        metrics.SCORE.labels(*where, one["model"], one["eval"]).set(one["score"])
