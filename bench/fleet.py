"""Many runs from their manifests to their ends, with pods that KWOK plays: how fast the operator goes on, at what cost.

On a real control plane with a node of KWOK's: `python bench/fleet.py`. Prints JSON rows, as the others do. Unlike
`reconcile.py` it has pods that run, are asked how far they are, and end.
"""

import json
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from bench.operator import OURS, Bench  # noqa: E402
from kubernetes import client, watch  # noqa: E402
from tests.cluster.binaries import built  # noqa: E402
from tests.cluster.control_plane import control_plane  # noqa: E402
from tests.cluster.waiting import eventually  # noqa: E402

from score_distill.executors.kubernetes.names import ROLE, RUN, STEP  # noqa: E402
from score_distill.executors.kubernetes.steps import PORT  # noqa: E402

RUNS, NAMESPACE, PODS = 100, "fleet", "127.77.0.1"
STEPS = ("prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate")


class Progress(BaseHTTPRequestHandler):
    """What every pod says of itself."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"done": 1, "total": 3, "unit": "tasks"}')

    def log_message(self, *_: object) -> None:
        """Say nothing of it."""


class Times:
    """When watches said that a step's Job was made or complete, and that a model had become available."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], float] = {}
        self.done: dict[tuple[str, str], float] = {}
        self.available: defaultdict[str, list[float]] = defaultdict(list)

    def job(self, job: Any) -> None:
        now, labels = time.monotonic(), job.metadata.labels
        key = (labels[RUN], labels[STEP])
        self.made.setdefault(key, now)
        if _holds(job, "Complete"):
            self.done.setdefault(key, now)

    def deployment(self, one: Any) -> None:
        if _holds(one, "Available"):
            self.available[f"{one.metadata.labels[RUN]} {one.metadata.labels[ROLE]}"].append(time.monotonic())

    def waits(self) -> list[float]:
        """Seconds from when all that a step needs was there, the step before it included, to its Job."""
        found = []
        for (run, step), made in self.made.items():
            if step == STEPS[0]:
                continue
            before = self.done[run, STEPS[STEPS.index(step) - 1]]
            models = [at for role in ("teacher", "student") for at in self.available[f"{run} {role}"]]
            late = [at for at in models if before < at < made]
            found.append(made - max([before, *late]))
        return found


def _holds(body: Any, kind: str) -> bool:
    return any(one.type == kind and one.status == "True" for one in body.status.conditions or ())


@contextmanager
def watched(api: client.ApiClient) -> Iterator[Times]:
    times, over = Times(), threading.Event()

    def follow(listing: Any, told: Any) -> None:
        while not over.is_set():
            for event in watch.Watch().stream(listing, NAMESPACE, timeout_seconds=5):
                told(event["object"])

    batch, apps = client.BatchV1Api(api), client.AppsV1Api(api)
    watches = ((batch.list_namespaced_job, times.job), (apps.list_namespaced_deployment, times.deployment))
    threads = [threading.Thread(target=follow, args=one, daemon=True) for one in watches]
    for thread in threads:
        thread.start()
    try:
        yield times
    finally:
        over.set()
        for thread in threads:
            thread.join()


def add_node(core: client.CoreV1Api) -> None:
    meta = client.V1ObjectMeta(name="played", annotations={"kwok.x-k8s.io/node": "fake"})
    core.create_node(client.V1Node(metadata=meta))

    def is_ready() -> None:
        assert _holds(core.read_node("played"), "Ready")

    eventually(is_ready)


def main() -> None:
    pods = ThreadingHTTPServer((PODS, PORT), Progress)
    threading.Thread(target=pods.serve_forever, daemon=True).start()
    with control_plane(scheduler=True) as plane, TemporaryDirectory() as name:
        kwok = built("kwok") / "kwok"
        plane.run(
            kwok,
            f"--kubeconfig={plane.admin}",
            f"--config={ROOT / 'bench/stages.yaml'}",
            "--manage-all-nodes",
            "--node-lease-duration-seconds=40",  # without leases the node is soon held to be lost, and its pods unready
        )
        bench = Bench(plane, Path(name))
        add_node(bench.core)
        with watched(plane.client()) as times:
            bench.create(bench.namespace(NAMESPACE), RUNS)
            began = time.monotonic()
            with bench.operator(OURS, f"--namespace={NAMESPACE}") as ours:
                eventually(lambda: all_have_ended(bench), within=1200, every=1)
                took, written, held = time.monotonic() - began, ours.writes(), ours.peak()
        waits = sorted(times.waits())
    p95 = waits[int(0.95 * len(waits))]
    row = {"what": f"operator: next step begun, {RUNS} runs at once", "against": "none", "target": "p95 <= 5 s"}
    detail = f"from all it needs being there to its Job, {len(waits)} steps; all ended after {took:.0f} s"
    print(json.dumps(row | {"measured": f"p50 {statistics.median(waits):.2f} s, p95 {p95:.2f} s", "detail": detail}))
    row = {"what": "operator: API writes of a whole run", "against": "none", "target": "<= 100"}
    print(json.dumps(row | {"measured": round(written / RUNS, 1), "detail": f"operator's memory {held:.0f} MiB"}))


def all_have_ended(bench: Bench) -> None:
    told = [
        one["status"]
        for run in bench.listed(NAMESPACE)
        for one in run.get("status", {}).get("conditions", ())
        if one["type"] == "Succeeded"
    ]
    assert "False" not in told
    assert told.count("True") == RUNS, f"{told.count('True')} of {RUNS} runs have ended"


if __name__ == "__main__":
    main()
