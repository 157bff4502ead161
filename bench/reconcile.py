"""The operator's first pass over many runs at once, against a bare client that makes the same objects.

On a real API server without a node, in one run: `python bench/reconcile.py`. Prints JSON rows, as the others do.
"""

import json
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
import yaml  # noqa: E402
from kubernetes import client  # noqa: E402
from tests.cluster.control_plane import ControlPlane, control_plane  # noqa: E402
from tests.cluster.processes import Daemon, free_ports, start  # noqa: E402
from tests.cluster.waiting import eventually  # noqa: E402

from score_distill.executors.kubernetes.cluster import Cluster  # noqa: E402
from score_distill.executors.kubernetes.observe import Children  # noqa: E402
from score_distill.executors.kubernetes.reconcile import Measured, reconcile  # noqa: E402
from score_distill.executors.kubernetes.settings import Settings  # noqa: E402

RUNS, WORKERS, IDLE_SECONDS = 300, 4, 60.0
WHERE = ("distill.score.dev", "v1alpha1")
SETTINGS = Settings(worker="worker:1", trainer="trainer:1", serving="serving:1")


class Bench:
    def __init__(self, plane: ControlPlane) -> None:
        self.plane, self.api = plane, plane.client()
        self.runs, self.core = client.CustomObjectsApi(self.api), client.CoreV1Api(self.api)
        crd = yaml.safe_load((ROOT / "crds/distill.score.dev_distillationruns.yaml").read_text())
        client.ApiextensionsV1Api(self.api).create_custom_resource_definition(crd)

    def create(self, namespace: str, count: int) -> list[dict[str, Any]]:
        self.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace)))
        manifest = yaml.safe_load((ROOT / "examples/kubernetes/quickstart.yaml").read_text())
        manifest["spec"]["method"]["rounds"] = 1

        def one(number: int) -> dict[str, Any]:
            body = {**manifest, "metadata": {"name": f"run-{number}"}}
            made: Any = self.runs.create_namespaced_custom_object(*WHERE, namespace, "distillationruns", body)
            return dict(made)

        eventually(lambda: self.listed(namespace))
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(one, range(count)))

    def bare(self, bodies: list[dict[str, Any]]) -> float:
        """Seconds in which a client makes what the first pass makes, and writes the same status."""
        cluster = Cluster(self.api)
        passes = [(body, reconcile(body, Children(), Measured(), SETTINGS, time.time())) for body in bodies]

        def make(one: tuple[dict[str, Any], Any]) -> None:
            body, changes = one
            cluster.create_keys(changes.keys, ("teacher", "student"))
            for wanted in changes.apply:
                cluster.apply(wanted, body["metadata"]["uid"])
            cluster.write_status(body["metadata"], changes.status)

        began = time.monotonic()
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(make, passes))
        return time.monotonic() - began

    def operator(self, namespace: str, log: Path) -> tuple[Daemon, int]:
        [metrics] = free_ports(1)
        environ = {f"SCORE_IMAGE_{name}": f"{name.lower()}:1" for name in ("WORKER", "TRAINER", "SERVING")}
        environ |= {"KUBECONFIG": str(self.plane.admin), "SCORE_METRICS_PORT": str(metrics)}
        command = [sys.executable, "-m", "kopf", "run", "--standalone", f"--namespace={namespace}"]
        words = ["env", *(f"{name}={value}" for name, value in environ.items())]
        return start([*command, str(ROOT / "operator/main.py")], log, "operator", words), metrics

    def all_have_begun(self, namespace: str) -> None:
        assert all(one.get("status", {}).get("steps") for one in self.listed(namespace))

    def listed(self, namespace: str) -> list[dict[str, Any]]:
        found: Any = self.runs.list_namespaced_custom_object(*WHERE, namespace, "distillationruns")
        return list(found["items"])


def writes(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("score_operator_api_writes_total{"))


def settled(port: int) -> None:
    before = writes(port)
    time.sleep(10)
    assert writes(port) == before, "the operator still writes"


def memory() -> float:
    """MiB of the operator's process."""
    found = [one for one in psutil.process_iter(["cmdline"]) if "kopf" in (one.info["cmdline"] or ())]
    return max(float(one.memory_info().rss) for one in found) / 2**20


def main() -> None:
    with control_plane() as plane, TemporaryDirectory() as name:
        bench = Bench(plane)
        peer = bench.bare(bench.create("bare", RUNS))
        bench.create("ours", RUNS)
        began = time.monotonic()
        daemon, port = bench.operator("ours", Path(name, "log"))
        try:
            eventually(lambda: bench.all_have_begun("ours"), within=600)
            ours = time.monotonic() - began
            eventually(lambda: settled(port), within=300)
            before = writes(port)
            time.sleep(IDLE_SECONDS)
            idle, held = writes(port) - before, memory()
        finally:
            daemon.kill()
    row = {"what": f"operator: {RUNS} new runs begun", "against": "a bare client that makes the same objects"}
    figures = {"ratio": round(ours / peer, 2), "ours": f"{ours:.1f} s from its start", "peer": f"{peer:.1f} s"}
    print(json.dumps(row | {"target": "<= 2 x"} | figures))
    row = {"what": f"operator: writes in {IDLE_SECONDS:.0f} s when nothing changes", "against": "none", "target": "0"}
    print(json.dumps(row | {"measured": idle, "detail": f"{RUNS} runs under way, {held:.0f} MiB"}))


if __name__ == "__main__":
    main()
