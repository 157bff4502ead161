"""The policies of a run let through what it needs, and nothing else, in a network that enforces them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import yaml
from kubernetes import client
from tests.cluster import images
from tests.cluster.enforcer import enforce, relax
from tests.cluster.node import Cluster
from tests.cluster.processes import run
from tests.cluster.product import ROOT
from tests.cluster.waiting import eventually

from score_distill.executors.kubernetes import network
from score_distill.executors.kubernetes.names import Owner
from score_distill.executors.kubernetes.settings import Settings
from score_distill.manifest import parse

NAMESPACE, MINE, OTHER = "policies", "11111111-0000", "22222222-0000"
PORTS = (8000, 8080, 9000)
SERVE = f"""
import http.server, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
for port in {PORTS}:
    threading.Thread(target=http.server.ThreadingHTTPServer(("", port), Answer).serve_forever).start()
"""
ASK = """
import json, sys, urllib.request
def reached(url):
    try:
        urllib.request.urlopen(url, timeout=3).close()
        return True
    except OSError:
        return False
print(json.dumps({name: reached(url) for name, url in json.loads(sys.argv[1]).items()}))
"""


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


@pytest.fixture(scope="module")
def outside(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Two servers of this machine, which pods reach by an address that is not the cluster's: a store and another."""
    with ExitStack() as ends:
        servers = [ends.enter_context(ThreadingHTTPServer((cluster.host, 0), Answer)) for _ in range(2)]
        for server in servers:
            Thread(target=server.serve_forever, daemon=True).start()
            ends.callback(server.shutdown)
        first, second = (f"http://{cluster.host}:{server.server_port}" for server in servers)
        yield first, second


class Pods:
    """Each serves on all PORTS, and can be asked what it reaches itself."""

    def __init__(self, cluster: Cluster) -> None:
        self.plane, self.core = cluster.plane, client.CoreV1Api(cluster.client())
        self.core.create_namespace({"metadata": {"name": NAMESPACE}})

    def start(self, name: str, uid: str, role: str) -> None:
        labels = {"distill.score.dev/run-uid": uid, "distill.score.dev/role": role}
        container = {"name": "main", "image": images.WORKER, "imagePullPolicy": "Never"}
        container |= {"command": ["python3", "-c", SERVE]}
        spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
        self.core.create_namespaced_pod(NAMESPACE, {"metadata": {"name": name, "labels": labels}, "spec": spec})

    def address(self, name: str) -> str:
        def given() -> str:
            status = self.core.read_namespaced_pod(name, NAMESPACE).status
            assert status.phase == "Running", f"{name} is {status.phase}"
            return str(status.pod_ip)

        return eventually(given, within=120)

    def reaches(self, name: str, urls: dict[str, str]) -> set[str]:
        ask = [self.plane.kubectl, f"--kubeconfig={self.plane.admin}", f"--namespace={NAMESPACE}", "exec", name, "--"]
        told = run(*ask, "python3", "-c", ASK, json.dumps(urls))
        return {url for url, reached in json.loads(told).items() if reached}


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Pods:
    found = Pods(cluster)
    for name, (uid, role) in WHO.items():
        found.start(name, uid, role)
    return found


WHO = {
    "teacher": (MINE, "teacher"),
    "stage": (MINE, "stage"),
    "peer": (MINE, "stage"),
    "their-stage": (OTHER, "stage"),
    "stranger": ("", "other"),
}
ALLOWED = {
    "stage": {"teacher:8000", "peer:8000", "peer:8080", "peer:9000", "store"},
    "their-stage": {"store"},
    "teacher": {"store"},
    "stranger": {"stage:8080", "peer:8080", "store", "outside"},
}


def test_a_network_that_enforces_them_lets_through_what_a_run_needs_and_nothing_else(
    cluster: Cluster, pods: Pods, outside: tuple[str, str]
) -> None:
    addresses = {name: pods.address(name) for name in WHO}
    urls = {f"{name}:{port}": f"http://{address}:{port}" for name, address in addresses.items() for port in PORTS}
    urls |= dict(zip(("store", "outside"), outside, strict=True))

    def asked_by(name: str) -> dict[str, str]:
        return {
            what: url for what, url in urls.items() if not what.startswith((f"{name}:", "their-stage:", "stranger:"))
        }

    def all_serve() -> None:
        assert pods.reaches("stranger", asked_by("stranger")) == set(asked_by("stranger"))

    eventually(all_serve, within=60)
    port = int(outside[0].rpartition(":")[2])
    store = {"to": [{"ipBlock": {"cidr": f"{cluster.host}/32"}}], "ports": [{"port": port, "protocol": "TCP"}]}
    settings = Settings(worker="w:1", trainer="t:1", serving="s:1", egress=(store,))
    manifest = yaml.safe_load((ROOT / "examples/kubernetes/quickstart.yaml").read_text())
    for uid in (MINE, OTHER):
        drun = parse({**manifest, "metadata": {"name": f"run-{uid[:4]}", "namespace": NAMESPACE}})
        for body in network.objects(Owner(drun, uid), settings):
            del body["metadata"]["ownerReferences"]
            client.NetworkingV1Api(cluster.client()).create_namespaced_network_policy(NAMESPACE, body)
    try:
        enforce(cluster.client())
        assert {name: pods.reaches(name, asked_by(name)) for name in ALLOWED} == ALLOWED
    finally:
        relax()
