"""What the operator keeps between events: the indexes, the queue, and one pass over one run."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from score_distill.api import KIND, Status
from score_distill.contract import Progress, together
from score_distill.control.status import blocked, news
from score_distill.executors.kubernetes import metrics
from score_distill.executors.kubernetes.asking import Asking
from score_distill.executors.kubernetes.cluster import Cluster, ForeignObject, Refused
from score_distill.executors.kubernetes.freshness import Freshness
from score_distill.executors.kubernetes.known import KINDS, Key, Known, key_of
from score_distill.executors.kubernetes.looking import SILENT_SECONDS, Looking, refusal
from score_distill.executors.kubernetes.names import UID, Body
from score_distill.executors.kubernetes.observe import Children, Trouble, ended_shards
from score_distill.executors.kubernetes.reconcile import Changes, Measured, dumped, reconcile, running, succeeded
from score_distill.executors.kubernetes.settings import Settings
from score_distill.executors.kubernetes.workqueue import WorkQueue
from score_distill.manifest import ManifestError

WHOLE_CHECKS = 10
"""Of so many checks of the watches one is of all kinds."""


class Operator:
    def __init__(
        self, cluster: Cluster, settings: Settings, logger: logging.Logger, clock: Callable[[], float] = time.time
    ) -> None:
        self._cluster, self._settings, self._logger, self._clock = cluster, settings, logger, clock
        self.queue: WorkQueue[Key] = WorkQueue(self.reconcile, self._failed)
        self.known = Known()
        self.asking = Asking(self.queue.add)
        self._looking = Looking(cluster)
        self.series = metrics.Runs()
        metrics.QUEUE.set_function(lambda: len(self.queue))
        self._freshness: defaultdict[str, Freshness] = defaultdict(Freshness)
        self._checked, self._checks = clock(), 0
        self._late: dict[str, int] = {}
        self._heard: dict[str, float] = {}
        self._brought: dict[str, float] = {}
        for kind in KINDS:
            self._hears(kind)
            metrics.NEWS_AGE.labels(kind).set_function(partial(self._news_age, kind))

    def changed(self, kind: str, body: Body, *, gone: bool = False) -> None:
        """News of a watch of what is known by now: whose it is gets a pass. Reads the body's metadata alone."""
        self._hears(kind)
        self._brought[kind] = self._heard[kind]
        if gone:
            self.known.drop(kind, body)
        if (run := self.known.run_of(kind, body)) is not None:
            self.queue.add(run)

    def _hears(self, kind: str) -> None:
        """The watch of that kind brought an event, or had none to bring."""
        self._heard[kind] = time.monotonic()

    def _news_age(self, kind: str) -> float:
        return time.monotonic() - self._heard[kind]

    async def check_watches(self) -> None:
        """Compare what the watches brought with the API server; what it cannot say just now is no sign of deafness.

        One that has just brought something is not deaf, where it is the only one of its kind and not one a namespace;
        but it may have missed an end while it began again, so that now and then all are compared.
        """
        self._checked, self._checks = self._clock(), self._checks + 1
        for kind in KINDS:
            if self._checks % WHOLE_CHECKS and self._has_just_brought(kind) and not self._late.get(kind):
                continue
            label = "" if kind == KIND else UID
            try:
                listed = await asyncio.to_thread(self._cluster.versions, kind, self._settings.namespaces, label)
            except (ApiException, HTTPError) as error:
                self._logger.warning("the API server did not list %ss: %s", kind, error)
                continue
            self._late[kind] = len(self._freshness[kind].late(listed, dict(self.known.versions[kind])))
            metrics.LATE.labels(kind).set(self._late[kind])
            if not self._late[kind]:
                self._hears(kind)

    def _has_just_brought(self, kind: str) -> bool:
        since = time.monotonic() - self._brought.get(kind, -float("inf"))
        return not self._settings.namespaces and since < self._settings.check_seconds

    def ailing(self, now: float) -> str | None:
        """Why the operator should be started anew, if it should."""
        deaf = [kind for kind, count in self._late.items() if count]
        if deaf:
            return f"the watch of {', '.join(deaf)} brings no events"
        if now - self._checked > 300 + self._settings.check_seconds:
            return f"its watches were last checked {now - self._checked:.0f} s ago"
        return None

    async def reconcile(self, run: Key) -> float | None:
        """One pass: observe, decide, apply, say; returns in how many seconds the next is due by itself."""
        body = self.known.run(run)
        if body is None:
            self.series.drop(run)
            self.known.forget(run)
            self.asking.forget(run)
            self._looking.forget(run)
            return None
        self.series.put(run, body)
        if succeeded(body):
            self.known.settle(run)
        children = self.known.children(run)
        answers, asked = self.asking.look(run, running(children, self._clock()))
        measured = _measured([*answers, *ended_shards(children)], asked)
        with metrics.RECONCILE.time():
            return await asyncio.to_thread(self._pass, body, children, measured)

    def _pass(self, body: Body, children: Children, measured: Measured) -> float | None:
        now = self._clock()
        told, missing, due = self._waits(body, children, now)
        changes = reconcile(body, children, measured, self._settings, now, told, missing)
        try:
            self._carry_out(body, changes)
        except ForeignObject as error:
            self._say(body, changes, "ForeignObject", str(error), now)
            raise
        except Refused as error:
            self._say(body, changes, refusal(self._cluster, error), str(error.reason), now)
            raise
        except ApiException as error:
            if error.status == 403:
                self._say(body, changes, "Forbidden", str(error.reason), now)
            raise
        pauses = [changes.again, None if due is None else max(0.0, due - now)]
        return min((one for one in pauses if one is not None), default=None)

    def _waits(
        self, body: Body, children: Children, now: float
    ) -> tuple[Mapping[str, Trouble], Collection[str], float | None]:
        """Why children wait, what they lack, and when to ask again; that nobody can say now holds nothing up."""
        run = key_of(body)
        try:
            told = self._looking.look(run, children, now)
            return told, self._looking.missing(body, children, told), self._looking.due(run, children, told, now)
        except (ApiException, HTTPError, ManifestError) as error:
            self._logger.warning("run %s: not known why it waits: %s", "/".join(run), error)
            return {}, (), now + SILENT_SECONDS

    def _carry_out(self, body: Body, changes: Changes) -> None:
        metadata = body["metadata"]
        if changes.remove:
            self._cluster.delete("DistillationRun", metadata)
            return
        if changes.keys is not None:
            self._cluster.create_keys(changes.keys, ("teacher", "student"))
        for wanted in changes.apply:
            self._cluster.apply(wanted, metadata["uid"])
        for unwanted in changes.delete:
            whose = None if "uid" in unwanted["metadata"] else metadata["uid"]
            self._cluster.delete(unwanted["kind"], unwanted["metadata"], whose)
        self._write(body, changes.status)

    def _say(self, body: Body, changes: Changes, reason: str, message: str, now: float) -> None:
        """Write why an object that the run needs could not be made."""
        before, wanted = (Status.model_validate(one or {}) for one in (body.get("status"), changes.status))
        self._write(body, dumped(blocked(before, wanted, reason, message, now)))

    def _write(self, body: Body, status: Body | None) -> None:
        before, after = Status.model_validate(body.get("status") or {}), Status.model_validate(status or {})
        if status is None or before == after or not self._cluster.write_status(body["metadata"], status):
            return
        for kind, reason, message in news(before, after):
            self._cluster.event(body, kind, reason, message)

    def _failed(self, run: Key, error: Exception) -> None:
        metrics.ERRORS.labels(type(error).__name__).inc()
        self._logger.warning("run %s: %s: %s", "/".join(run), type(error).__name__, error)


def _measured(said: Iterable[tuple[str, Progress]], asked: bool) -> Measured:
    """The progress of each step from that of its workers."""
    told: defaultdict[str, list[Progress]] = defaultdict(list)
    for step, one in said:
        told[step].append(one)
    return Measured({step: whole for step, parts in told.items() if (whole := together(parts)) is not None}, asked)
