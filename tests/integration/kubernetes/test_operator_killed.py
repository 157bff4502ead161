"""The operator dies after every few writes to a real API server, and the run ends as an unbroken one does."""

import logging
from contextlib import suppress

import pytest
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.passes import Operator

STEPS = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]


class Killed(Exception):
    """What SIGKILL does: nothing after it happens."""


@pytest.mark.parametrize("dies", [False, True])
def test_a_run_ends_the_same_though_the_operator_dies_again_and_again(control_plane: ControlPlane, dies: bool) -> None:
    namespace = Namespace(control_plane)
    uid = namespace.begin()["metadata"]["uid"]
    deaths = list[tuple[str, str]]()
    jobs = set[tuple[str, str]]()
    left = 1

    def wrote(verb: str, kind: str) -> None:
        """Each life is of some writes more than the one before, up to six; then of one again."""
        nonlocal left
        left -= 1
        if dies and left == 0:
            deaths.append((verb, kind))
            left = len(deaths) % 6 + 1
            raise Killed

    def lives() -> Operator:
        return Operator(Cluster(namespace.api, wrote), SETTINGS, logging.getLogger("test"))

    operator = lives()

    def one_pass() -> None:
        nonlocal operator
        namespace.play()
        found = [one["metadata"] for one in namespace.children() if one["kind"] == "Job"]
        jobs.update((one["name"], one["uid"]) for one in found)
        try:
            namespace.one_pass(operator)
        except Killed:
            operator = lives()
        status = namespace.run().get("status", {})
        ended = [one for one in status.get("conditions", ()) if one["type"] == "Succeeded"]
        assert ended, "nothing is said yet"
        assert ended[0]["status"] == "True", status.get("steps")

    eventually(one_pass, within=180, every=0.05)

    status = namespace.run()["status"]
    assert [(one["name"], one["state"], one["attempt"]) for one in status["steps"]] == [
        (name, "Succeeded", 1) for name in STEPS
    ]
    assert status["usage"]["teacherTokens"] == 7 * len(STEPS)
    assert sorted(name for name, _ in jobs) == sorted(f"quickstart-{name}-1" for name in STEPS)
    secrets = [one.metadata.name for one in namespace.core.list_namespaced_secret(namespace.name).items]
    assert secrets == [f"quickstart-keys-{uid[:8]}"]
    if dies:
        assert len(deaths) >= 12
        assert len({*deaths}) >= 5, deaths

    def servers_are_gone() -> None:
        with suppress(Killed):
            namespace.one_pass(operator)
        assert not namespace.apps.list_namespaced_deployment(namespace.name).items

    eventually(servers_are_gone)
