"""How far a stage is, by HTTP from its pod: GET /progress as JSON, GET /metrics for Prometheus.

The operator asks for the first; whoever scrapes pods, for the second. Nothing else is told, and nothing is taken.
"""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import REGISTRY, Gauge, generate_latest

from score_distill.contract import Progress, StageConfig
from score_distill.work_folder import PROGRESS_PORT, WorkFolder

DONE = Gauge("score_stage_done", "Units of the step that are done", ["step", "unit"])
TOTAL = Gauge("score_stage_total", "Units of the step", ["step", "unit"])
FIGURE = Gauge(
    "score_stage_figure", "What the step measured last: loss, reward, kl, corrections ...", ["step", "figure"]
)


def serve(folder: WorkFolder, step: str, port: int) -> ThreadingHTTPServer:
    """Answer from a thread of its own until the process ends; port 0 takes any."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            progress = folder.read_progress()
            if self.path == "/progress":
                self._answer(_json(progress), "application/json")
            elif self.path == "/metrics":
                self._answer(_metrics(step, progress), "text/plain; version=0.0.4")
            else:
                self.send_error(404)

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="progress", daemon=True).start()
    return server


def serve_where_asked(config: StageConfig, folder: WorkFolder, environ: Mapping[str, str]) -> None:
    if port := environ.get(PROGRESS_PORT):
        serve(folder, config.step, int(port))


def _json(progress: Progress | None) -> bytes:
    return (progress.model_dump_json() if progress else json.dumps(None)).encode()


def _metrics(step: str, progress: Progress | None) -> bytes:
    if progress is not None:
        DONE.labels(step, progress.unit).set(progress.done)
        TOTAL.labels(step, progress.unit).set(progress.total or 0)
        for name, value in progress.figures.items():
            FIGURE.labels(step, name).set(value)
    return generate_latest(REGISTRY)
