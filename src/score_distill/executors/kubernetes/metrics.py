"""What the operator tells Prometheus, of itself and of each run's progress. No run's name is on a counter."""

from collections.abc import Callable, Iterable

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from score_distill.api import Status
from score_distill.api.base import count_of
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


class Runs(Collector):
    """The runs as they are at the time of the scrape: what is gone has no series, whatever the operator did before."""

    def __init__(self, bodies: Callable[[], Iterable[Body]]) -> None:
        self._bodies = bodies

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in RUNS.items()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families = {one.name: one for one in self.describe()}
        for body in self._bodies():
            where = (body["metadata"]["namespace"], body["metadata"]["name"])
            for name, labels, value in _samples(body):
                families[name].add_metric((*where, *labels), value)
        return families.values()


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
