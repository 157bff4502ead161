import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from kubernetes import client
from tests.cluster import environment, images
from tests.cluster.node import Cluster
from tests.cluster.waiting import eventually

NAMESPACE = "team"
SERVER = """
import os, http.server
import torch, score_distill
text = f"{os.getuid()} {torch.ones(2).sum().item()} {score_distill.__name__}".encode()
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(text)
http.server.ThreadingHTTPServer(("", 8080), Answer).serve_forever()
"""
READ = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"


def pod(name: str, command: list[str], *, role: str = "stage", **spec: object) -> dict[str, object]:
    """One that the restricted level admits."""
    container = {
        "name": "main",
        "image": images.WORKER,
        "imagePullPolicy": "Never",
        "command": command,
        "env": [{"name": "HOME", "value": "/tmp"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {environment.LABEL: role, "app": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "securityContext": user,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            **spec,
        },
    }


@pytest.fixture(scope="module")
def core(cluster: Cluster) -> client.CoreV1Api:
    core = client.CoreV1Api(cluster.client())
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": NAMESPACE, "labels": labels}})
    environment.mount(cluster.client(), NAMESPACE, ["stage"])
    return core


def run_pod(core: client.CoreV1Api, one: dict[str, object]) -> str:
    """Create it, wait until it has succeeded, and give what it printed."""
    name = core.create_namespaced_pod(NAMESPACE, one).metadata.name

    def ended() -> str:
        phase = core.read_namespaced_pod(name, NAMESPACE).status.phase
        assert phase in ("Succeeded", "Failed"), f"{name} is {phase}"
        return str(phase)

    phase = eventually(ended, within=120)
    output = str(core.read_namespaced_pod_log(name, NAMESPACE)).strip()
    assert phase == "Succeeded", output
    return output


def test_a_restricted_pod_with_the_mounted_environment_is_reached_by_its_service(core: client.CoreV1Api) -> None:
    server = pod("server", ["python3", "-c", SERVER])
    container = server["spec"]["containers"][0]
    container["readinessProbe"] = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    core.create_namespaced_pod(NAMESPACE, server)
    spec = {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}
    core.create_namespaced_service(NAMESPACE, {"metadata": {"name": "server"}, "spec": spec})

    def ready() -> None:
        statuses = core.read_namespaced_pod("server", NAMESPACE).status.container_statuses or []
        assert any(one.ready for one in statuses), core.read_namespaced_pod_log("server", NAMESPACE)

    eventually(ready, within=180)

    answer = run_pod(core, pod("client", ["python3", "-c", READ, "http://server.team.svc.cluster.local"]))
    assert answer == "65532 2.0 score_distill"


def test_first_containers_have_the_environment_too(core: client.CoreV1Api) -> None:
    one = pod("first", ["python3", "-c", "print('done')"])
    container = one["spec"]["containers"][0]
    first = {**container, "name": "first", "command": ["python3", "-c", "import pydantic, score_distill.api"]}
    one["spec"]["initContainers"] = [first]
    assert run_pod(core, one) == "done"


def test_pods_of_other_roles_are_left_alone(core: client.CoreV1Api) -> None:
    absent = "import importlib.util; print(importlib.util.find_spec('score_distill'))"
    assert run_pod(core, pod("other", ["python3", "-c", absent], role="other")) == "None"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from the host")


@pytest.fixture
def served_by_this_machine(cluster: Cluster) -> Iterator[str]:
    server: socketserver.BaseServer = HTTPServer((cluster.host, 0), Answer)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{cluster.host}:{server.server_address[1]}"
        server.shutdown()


def test_pods_reach_what_this_machine_serves(core: client.CoreV1Api, served_by_this_machine: str) -> None:
    assert run_pod(core, pod("reader", ["python3", "-c", READ, served_by_this_machine])) == "from the host"
