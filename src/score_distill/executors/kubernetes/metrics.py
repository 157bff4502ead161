"""What the operator tells Prometheus, of itself and of each run's progress. No run's name is on a counter."""

import gzip
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from score_distill.api import Status
from score_distill.api.base import count_of
from score_distill.executors.kubernetes.known import Key
from score_distill.executors.kubernetes.names import Body

RECONCILE = Histogram("score_operator_reconcile_seconds", "Seconds of one pass over a run")
WRITES = Counter("score_operator_api_writes_total", "Writes to the API server", ["verb", "kind"])
ERRORS = Counter("score_operator_reconcile_errors_total", "Passes that failed", ["error"])
QUEUE = Gauge("score_operator_queue_depth", "Runs that wait for a pass")
LATE = Gauge("score_operator_objects_late", "Objects of which the watch brought no news for a minute", ["kind"])
NEWS_AGE = Gauge(
    "score_operator_news_age_seconds",
    "Seconds since a watch brought an event, or the API server had none to bring",
    ["kind"],
)
LEADS = Gauge("score_operator_leads", "1 while this operator holds the Lease and acts")

RUN = ("namespace", "run")
RUNS = {
    "score_run_info": ("1; what it is at", (*RUN, "state", "step", "reason")),
    "score_run_stalled": ("1 while it gets no further", RUN),
    "score_run_step_done": ("Units of a step that are done", (*RUN, "step")),
    "score_run_step_total": ("Units of a step", (*RUN, "step")),
    "score_run_tokens": ("Tokens that a run has spent", (*RUN, "role")),
    "score_run_gpu_seconds": ("GPUs times seconds of a run's pods", RUN),
    "score_run_budget_spent_ratio": ("Share of a budget that is spent", (*RUN, "budget")),
    "score_run_score_ratio": ("Share of right answers", (*RUN, "model", "eval")),
}
Sample = tuple[str, tuple[str, ...], float]


class Runs:
    """The series of each run as text, made when its body changes: a scrape of many runs only joins them.

    What is gone has no series, whatever the operator did before.
    """

    def __init__(self) -> None:
        self._series: dict[Key, tuple[str, dict[str, bytes]]] = {}

    def put(self, run: Key, body: Body) -> None:
        version = body["metadata"].get("resourceVersion", "")
        if run not in self._series or self._series[run][0] != version:
            self._series[run] = version, _series(body)

    def drop(self, run: Key) -> None:
        self._series.pop(run, None)

    def text(self) -> bytes:
        """In Prometheus' text format; from any thread."""
        runs = [series for _, series in list(self._series.values())]
        parts = list[bytes]()
        for name, (help_text, _) in RUNS.items():
            parts.append(f"# HELP {name} {help_text}\n# TYPE {name} gauge\n".encode())
            parts += [one[name] for one in runs if name in one]
        return b"".join(parts)


def _series(body: Body) -> dict[str, bytes]:
    """The lines of one run by the name of their family."""
    families = {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in RUNS.items()}
    where = (body["metadata"]["namespace"], body["metadata"]["name"])
    for name, labels, value in _samples(body):
        families[name].add_metric((*where, *labels), value)
    text = generate_latest(_Only(families.values()))
    blocks = (block.split(b"\n", 2) for block in text.split(b"# HELP ")[1:])
    return {help_line.split(b" ", 1)[0].decode(): lines for help_line, _, lines in blocks if lines}


class _Only(CollectorRegistry):
    def __init__(self, families: Iterable[Metric]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _samples(body: Body) -> Iterable[Sample]:
    status = Status.model_validate(body.get("status") or {})
    conditions = {one.type: one for one in status.conditions}
    reason = conditions["Succeeded"].reason if "Succeeded" in conditions else ""
    yield "score_run_info", (state(status), status.step or "", reason), 1
    yield "score_run_stalled", (), float("Stalled" in conditions and conditions["Stalled"].status == "True")
    for step in status.steps:
        yield "score_run_step_done", (step.name,), step.done
        if step.total is not None:
            yield "score_run_step_total", (step.name,), step.total
    if status.usage is not None:
        used, budget = status.usage, body["spec"].get("budget") or {}
        yield "score_run_tokens", ("teacher",), used.teacher_tokens
        yield "score_run_tokens", ("student",), used.student_tokens
        yield "score_run_gpu_seconds", (), used.gpu_seconds
        if hours := budget.get("gpuHours"):
            yield "score_run_budget_spent_ratio", ("gpuHours",), used.gpu_seconds / 3600 / hours
        if tokens := count_of(budget.get("teacherTokens")):
            yield "score_run_budget_spent_ratio", ("teacherTokens",), used.teacher_tokens / tokens
    for score in status.scores:
        yield "score_run_score_ratio", (score.model, score.eval), score.score


def state(status: Status) -> str:
    """A run in one word: Waiting until pods of its step run, and whenever they do not."""
    held = {one.type: one.status for one in status.conditions}
    ended = {"True": "Succeeded", "False": "Failed"}.get(held.get("Succeeded", ""))
    paused = "Suspended" if held.get("Suspended") == "True" else None
    return ended or paused or ("Running" if held.get("Progressing") == "True" else "Waiting")


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: it is asked twice a minute."""


def serve(runs: Runs, port: int) -> int:
    """Answer scrapes from threads of their own; gives the port, which the system chooses for 0."""

    def answer(environ: dict[str, Any], start: Callable[..., object]) -> list[bytes]:
        body, headers = generate_latest(REGISTRY) + runs.text(), [("Content-Type", CONTENT_TYPE_LATEST)]
        if "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
            body = gzip.compress(body, compresslevel=1)
            headers.append(("Content-Encoding", "gzip"))
        start("200 OK", [*headers, ("Content-Length", str(len(body)))])
        return [body]

    server = make_server("", port, answer, _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_port)
