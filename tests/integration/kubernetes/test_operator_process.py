"""The operator as a process: one of two acts, and one that has gone deaf says so."""

import signal
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from kubernetes import client
from prometheus_client.parser import text_string_to_metric_families
from tests.cluster.control_plane import AUDITED, ControlPlane
from tests.cluster.processes import Daemon, free_ports, start
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.frozen import way

from score_distill.executors.kubernetes.known import KINDS

ROOT = Path(__file__).parents[3]
WHERE = ("distill.score.dev", "v1alpha1")


class Team:
    """A namespace on a control plane that has the CRD."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane, self.namespace = plane, f"team-{uuid.uuid4().hex[:8]}"
        self.runs = client.CustomObjectsApi(plane.client())
        definitions = client.ApiextensionsV1Api(plane.client())
        crd = yaml.safe_load((ROOT / "crds/distill.score.dev_distillationruns.yaml").read_text())
        if crd["metadata"]["name"] not in [
            one.metadata.name for one in definitions.list_custom_resource_definition().items
        ]:
            definitions.create_custom_resource_definition(crd)
        client.CoreV1Api(plane.client()).create_namespace({"metadata": {"name": self.namespace}})

    def run(self, name: str, **spec: object) -> None:
        manifest = yaml.safe_load((ROOT / "examples/kubernetes/quickstart.yaml").read_text())
        manifest["metadata"]["name"] = name
        manifest["spec"] |= spec
        eventually(
            lambda: self.runs.create_namespaced_custom_object(*WHERE, self.namespace, "distillationruns", manifest)
        )

    def started(self, name: str) -> None:
        found = self.runs.get_namespaced_custom_object(*WHERE, self.namespace, "distillationruns", name)
        assert found.get("status", {}).get("steps"), found.get("status")

    def operator(self, log: Path, **told: object) -> tuple[Daemon, int]:
        """It watches this namespace alone; the port is of its health."""
        health, metrics = free_ports(2)
        images = {f"SCORE_IMAGE_{name}": "worker:1" for name in ("WORKER", "TRAINER", "SERVING")}
        environ = images | {"KUBECONFIG": self.plane.admin, "SCORE_METRICS_PORT": metrics} | told
        command = [sys.executable, "-m", "kopf", "run", "--standalone", f"--namespace={self.namespace}"]
        command += [f"--liveness=http://127.0.0.1:{health}/healthz", str(ROOT / "operator/main.py")]
        environ["SCORE_NAMESPACES"] = self.namespace
        words = ["env", *(f"{name}={value}" for name, value in environ.items())]
        return start(command, log, "operator", words), health


@pytest.fixture
def team(control_plane: ControlPlane) -> Team:
    return Team(control_plane)


def health(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def news_ages(port: int) -> dict[str, float]:
    """Seconds by kind."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        families = text_string_to_metric_families(reply.read().decode())
    [found] = [one for one in families if one.name == "score_operator_news_age_seconds"]
    return {sample.labels["kind"]: sample.value for sample in found.samples}


def hears_of_all(port: int) -> None:
    ages = news_ages(port)
    assert ages.keys() == {*KINDS}
    assert max(ages.values()) < 10, ages


def has_heard_nothing(port: int) -> None:
    assert news_ages(port)["DistillationRun"] > 20


def is_healthy(port: int) -> None:
    assert health(port) == 200


class Pair:
    """Two operators of one namespace; the first acts, and each is a user of its own whose writes are audited."""

    def __init__(self, team: Team, folder: Path, ending: ExitStack) -> None:
        self._team, self._leases = team, client.CoordinationV1Api(team.plane.client())
        self.names = [f"{name}-{team.namespace}" for name in ("pod-a", "pod-b")]
        self.first, self.second = (self._start(name, folder, ending) for name in self.names)

    def _start(self, name: str, folder: Path, ending: ExitStack) -> Daemon:
        kubeconfig = self._team.plane.kubeconfig(name, ["system:masters", AUDITED])
        told = {"SCORE_NAMESPACE": self._team.namespace, "SCORE_POD": name, "KUBECONFIG": kubeconfig}
        daemon, port = self._team.operator(folder / f"{name}.log", **told)
        ending.callback(daemon.kill)
        eventually(lambda: is_healthy(port))
        eventually(lambda: self.is_held_by(self.names[0]))
        return daemon

    def is_held_by(self, name: str) -> None:
        lease = self._leases.read_namespaced_lease("score-operator", self._team.namespace)
        assert lease.spec.holder_identity == name


@pytest.fixture
def pair(team: Team, tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as ending:
        yield Pair(team, tmp_path, ending)


def test_of_two_operators_one_acts_and_the_other_takes_over_at_once_when_it_is_asked_to_end(
    team: Team, pair: Pair
) -> None:
    a, b = pair.names
    team.run("one")
    eventually(lambda: team.started("one"))
    assert not team.plane.writes_by(b)
    pair.first.stop()
    eventually(lambda: pair.is_held_by(b), within=10)
    team.run("two")
    eventually(lambda: team.started("two"))
    assert [kind for _, kind in team.plane.writes_by(a)][-1] == "leases", "it gives the Lease up when all else is done"


def test_an_operator_that_was_stopped_until_another_took_over_writes_nothing_more(team: Team, pair: Pair) -> None:
    a, b = pair.names
    for number in range(20):
        team.run(f"before-{number}")
    eventually(lambda: team.started("before-0"))
    pair.first.signal(signal.SIGSTOP)
    eventually(lambda: pair.is_held_by(b), within=60)
    for number in range(5):
        team.run(f"after-{number}")
    went_on = datetime.now(UTC)
    pair.first.signal(signal.SIGCONT)
    for number in range(5, 10):
        team.run(f"after-{number}")

    def has_ended() -> None:
        assert pair.first.has_ended()

    eventually(has_ended)
    for number in range(10):
        eventually(lambda name=f"after-{number}": team.started(name))  # type: ignore[misc]
    assert len([kind for _, kind in team.plane.writes_by(a) if kind != "leases"]) > 3
    assert [kind for when, kind in team.plane.writes_by(a) if when > went_on] == []


def test_an_operator_whose_watch_has_fallen_silent_is_not_healthy(team: Team, tmp_path: Path) -> None:
    plane = team.plane
    [metrics] = free_ports(1)
    with way(plane.where.apiserver) as through:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(plane.admin.read_text().replace(f":{plane.where.apiserver}", f":{through.port}"))
        daemon, port = team.operator(
            tmp_path / "log", KUBECONFIG=kubeconfig, SCORE_CHECK_SECONDS=1, SCORE_METRICS_PORT=metrics
        )
        try:
            eventually(lambda: is_healthy(port))
            team.run("heard")
            eventually(lambda: team.started("heard"))
            is_healthy(port)
            eventually(lambda: hears_of_all(metrics))
            through.freeze()
            team.run("unheard")

            def is_ill() -> None:
                daemon.check()
                assert health(port) == 500

            eventually(is_ill, within=90)
            eventually(lambda: has_heard_nothing(metrics), within=90)
        finally:
            daemon.kill()
