"""The operator over many runs, beside a bare client that makes the same objects and a plain kopf operator, in one run.

On a real API server without a node: `python -m bench.operator --runs 1000`. Prints JSON rows, as the others do.
"""

import argparse
import json
import random
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import yaml
from kubernetes import client
from tests.cluster.control_plane import ControlPlane, control_plane
from tests.cluster.processes import free_ports, start
from tests.cluster.waiting import eventually

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.observe import Children
from score_distill.executors.kubernetes.reconcile import Measured, reconcile
from score_distill.executors.kubernetes.settings import Settings

ROOT = Path(__file__).parent.parent
WORKERS, IDLE_SECONDS, CHANGES = 4, 30.0, 60
WHERE, PLURAL = ("distill.score.dev", "v1alpha1"), "distillationruns"
SETTINGS = Settings(worker="worker:1", trainer="trainer:1", serving="serving:1")
Body = dict[str, Any]
STEPS = ("prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate")
AT = "2026-01-01T00:00:00Z"
FINISHED: Body = {
    "observedGeneration": 1,
    "conditions": [
        {"type": kind, "status": "True", "reason": "Finished", "message": "", "lastTransitionTime": AT}
        for kind in ("Accepted", "Succeeded")
    ],
    "steps": [
        {"name": name, "state": "Succeeded", "attempt": 1, "done": 400, "total": 400, "startedAt": AT, "finishedAt": AT}
        | {"counts": {"solved": 120, "corrected": 80, "unsolved": 100}, "tokens": {"teacher": 10**6, "student": 10**6}}
        for name in STEPS
    ],
    "usage": {"teacherTokens": 10**7, "studentTokens": 10**7, "gpuSeconds": 10**5, "countedUntil": AT},
    "scores": [
        {"model": model, "eval": "heldout", "score": 0.5, "low": 0.4, "high": 0.6, "n": 500}
        for model in ("base", "init", "sft", "rl", "teacher")
    ],
}


class Bench:
    def __init__(self, plane: ControlPlane, logs: Path) -> None:
        self.plane, self.logs, self.api = plane, logs, plane.client()
        self.runs, self.core = client.CustomObjectsApi(self.api), client.CoreV1Api(self.api)
        self.cluster = Cluster(self.api)
        crd = yaml.safe_load((ROOT / "crds/distill.score.dev_distillationruns.yaml").read_text())
        client.ApiextensionsV1Api(self.api).create_custom_resource_definition(crd)
        eventually(lambda: self.runs.list_cluster_custom_object(*WHERE, PLURAL))

    def namespace(self, name: str) -> str:
        self.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
        return name

    def create(self, namespace: str, count: int) -> list[Body]:
        manifest = yaml.safe_load((ROOT / "examples/kubernetes/quickstart.yaml").read_text())
        manifest["spec"]["method"]["rounds"] = 1
        bodies = [{**manifest, "metadata": {"name": f"run-{number}"}} for number in range(count)]
        return at_once(lambda body: self.runs.create_namespaced_custom_object(*WHERE, namespace, PLURAL, body), bodies)

    def foreign_pods(self, namespace: str, numbers: range) -> None:
        """With nothing of ours on them, and as much else as pods have."""
        spec = {"containers": [{"name": "any", "image": "any", "env": [{"name": "A", "value": "x" * 1000}]}]}
        pods = [{"metadata": {"name": f"foreign-{number}"}, "spec": spec} for number in numbers]
        at_once(lambda pod: self.core.create_namespaced_pod(namespace, pod), pods)

    def bare(self, bodies: list[Body]) -> float:
        """Seconds in which a client makes what the first pass makes, and writes the same status."""
        passes = [(body, reconcile(body, Children(), Measured(), SETTINGS, time.time())) for body in bodies]

        def make(one: tuple[Body, Any]) -> None:
            body, changes = one
            if changes.keys is not None:
                self.cluster.create_keys(changes.keys, ("teacher", "student"))
            for wanted in changes.apply:
                self.cluster.apply(wanted, body["metadata"]["uid"])
            self.cluster.write_status(body["metadata"], changes.status)

        began = time.monotonic()
        at_once(make, passes)
        return time.monotonic() - began

    def finish(self, bodies: list[Body]) -> None:
        """Give runs the status of one that succeeded."""
        at_once(lambda body: self.cluster.write_status(body["metadata"], FINISHED), bodies)

    def all_have_begun(self, namespace: str) -> None:
        assert all(one.get("status", {}).get("steps") for one in self.listed(namespace))

    def listed(self, namespace: str) -> list[Body]:
        found: Any = self.runs.list_namespaced_custom_object(*WHERE, namespace, PLURAL)
        return list(found["items"])

    def jobs(self, namespace: str) -> dict[str, str]:
        return {one["metadata"]["name"]: one["metadata"]["uid"] for one in self.all_of("Job", namespace)}

    def all_of(self, kind: str, namespace: str) -> list[Body]:
        """As plain JSON: the client's own classes take longer than the API server."""
        group, plural = {"Job": ("apis/batch/v1", "jobs"), "Pod": ("api/v1", "pods")}[kind]
        path = f"/{group}/namespaces/{namespace}/{plural}"
        reply = self.api.call_api(*self.api.param_serialize("GET", path, auth_settings=["BearerToken"]))
        reply.read()
        return list(json.loads(reply.data or b"{}")["items"])

    @contextmanager
    def operator(self, file: Path, *words: str) -> Iterator["Process"]:
        [port] = free_ports(1)
        environ = {f"SCORE_IMAGE_{name}": f"{name.lower()}:1" for name in ("WORKER", "TRAINER", "SERVING")}
        environ |= {"KUBECONFIG": str(self.plane.admin), "SCORE_METRICS_PORT": str(port), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "kopf", "run", "--standalone", *words, str(file)]
        environment = ["env", *(f"{name}={value}" for name, value in environ.items())]
        daemon = start(command, self.logs / "operator.log", "operator", environment)
        try:
            yield Process(str(file), port)
        finally:
            daemon.kill()


@dataclass(frozen=True)
class Process:
    file: str
    port: int

    @property
    def itself(self) -> psutil.Process:
        named = [one for one in psutil.process_iter(["cmdline"]) if self.file in (one.info["cmdline"] or ())]
        return max(named, key=lambda one: one.memory_info().rss)

    def peak(self) -> float:
        """MiB of memory that it had at most."""
        lines = Path(f"/proc/{self.itself.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def scrape(self) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as reply:
            return bytes(reply.read())

    def total(self, name: str) -> float:
        lines = self.scrape().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def writes(self) -> float:
        return self.total("score_operator_api_writes_total")

    def passes(self) -> float:
        return self.total("score_operator_reconcile_seconds_count")

    def settled(self) -> None:
        before = self.writes()
        time.sleep(5)
        assert self.writes() == before, "the operator still writes"


def at_once(work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(work, items))


def row(what: str, target: str, measured: str, detail: str = "", against: str = "none") -> None:
    print(json.dumps({"what": f"operator: {what}", "against": against, "target": target, "measured": measured}
                     | {"detail": detail}), flush=True)  # fmt: skip


OURS, PLAIN = ROOT / "operator/main.py", Path(__file__).parent / "plain_operator.py"


def foreign(bench: Bench, counts: list[int]) -> None:
    where, made = bench.namespace("foreign"), 0
    for count in counts:
        bench.foreign_pods(where, range(made, count))
        made = count
        with bench.operator(OURS, "--all-namespaces") as ours:
            eventually(ours.writes)
            time.sleep(10)
            target = "<= 110 MiB" if count <= 3000 else "<= 120 MiB"
            row(f"peak memory beside {count:,} pods of others", target, f"{ours.peak():.0f} MiB")


def live(bench: Bench, count: int) -> None:
    peer = bench.bare(bench.create(bench.namespace("bare"), count))
    where = bench.namespace("plain")
    bench.create(where, count)
    began = time.monotonic()
    with bench.operator(PLAIN, f"--namespace={where}"):
        eventually(lambda: _all_there(bench.jobs(where), count), within=3600)
    plain = time.monotonic() - began

    where = bench.namespace("ours")
    bench.create(where, count)
    began = time.monotonic()
    with bench.operator(OURS, f"--namespace={where}") as ours:
        eventually(lambda: _all_there(bench.jobs(where), count), within=3600)
        took = time.monotonic() - began
        row(f"{count:,} runs have their first Job", "<= 1.3 x", f"{took / peer:.2f} x", f"{took:.1f} s from its start "
            f"against {peer:.1f} s; a plain kopf operator that makes one Job a run: {plain:.1f} s",
            "a bare client that makes the same objects")  # fmt: skip
        eventually(lambda: bench.all_have_begun(where), within=600)
        eventually(ours.settled, within=600)
        wrote, passed, cpu = ours.writes(), ours.passes(), ours.itself.cpu_times()
        row("writes a run to its first Job", "none", f"{wrote / count:.1f}")
        time.sleep(IDLE_SECONDS)
        spent = sum(ours.itself.cpu_times()[:2]) - sum(cpu[:2])
        row(f"in {IDLE_SECONDS:.0f} s without a change", "0 writes", f"{ours.writes() - wrote:.0f} writes",
            f"{ours.passes() - passed:.0f} passes, {1000 * spent / count:.1f} ms of CPU a run")  # fmt: skip
        changes(bench, where, ours)
        row(f"peak memory with {count:,} runs under way", "< 200 MiB at 10,000", f"{ours.peak():.0f} MiB")
        began = time.monotonic()
        text = ours.scrape()
        row("a scrape", "< 1 s at 10,000", f"{time.monotonic() - began:.2f} s", f"{len(text) / 1e6:.1f} MB")
        before = bench.jobs(where)
    began = time.monotonic()
    with bench.operator(OURS, f"--namespace={where}") as again:
        eventually(lambda: _at_least(again.passes(), count), within=600)
        level = time.monotonic() - began
        same = bench.jobs(where) == before
        row(f"a restart over {count:,} runs", "< 30 s at 10,000, no duplicate", f"{level:.1f} s until each had a pass",
            f"{'the same Jobs' if same else 'OTHER JOBS'}, {again.writes():.0f} writes")  # fmt: skip


def changes(bench: Bench, where: str, ours: Process) -> None:
    """From a pod that has no place to the run that says so."""
    pods = [pod for pod in bench.all_of("Pod", where) if "prepare" in pod["metadata"]["name"]]
    took, before = list[float](), ours.writes()
    chosen = random.Random(0).sample(pods, min(CHANGES, len(pods)))
    for pod in chosen:
        name = pod["metadata"]["labels"]["distill.score.dev/run"]
        unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU is free"}
        began = time.monotonic()
        bench.core.patch_namespaced_pod_status(pod["metadata"]["name"], where, {"status": {"conditions": [unplaced]}})
        while not _says(bench.runs.get_namespaced_custom_object(*WHERE, where, PLURAL, name)):
            time.sleep(0.002)
        took.append(time.monotonic() - began)
    cuts = quantiles(took, n=100)
    row("from a pod's news to the status", "none", f"p50 {1000 * cuts[49]:.0f} ms, p99 {1000 * cuts[98]:.0f} ms",
        f"{len(took)} changes, {(ours.writes() - before) / len(took):.1f} writes each")  # fmt: skip


def _says(run: Any) -> bool:
    return any(one["reason"] == "InsufficientCapacity" for one in run["status"]["conditions"])


def _all_there(jobs: dict[str, str], count: int) -> None:
    assert len(jobs) >= count


def _at_least(found: float, count: int) -> None:
    assert found >= count


def finished(bench: Bench, count: int) -> None:
    where = bench.namespace("finished")
    bench.finish(bench.create(where, count))
    with bench.operator(OURS, f"--namespace={where}") as ours:
        eventually(lambda: _at_least(ours.passes(), count), within=600)
        row(f"peak memory with {count:,} finished runs", "< 200 MiB at 1,000", f"{ours.peak():.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="under way")
    parser.add_argument("--finished", type=int, default=200)
    parser.add_argument("--foreign", type=int, nargs="*", default=[3000, 5000], help="pods of others")
    told = parser.parse_args()
    with control_plane() as plane, TemporaryDirectory() as name:
        bench = Bench(plane, Path(name))
        foreign(bench, told.foreign)
        finished(bench, told.finished)
        live(bench, told.runs)


if __name__ == "__main__":
    main()
