"""An operator that comes back after ten minutes, to a run that went on without it."""

import logging
from datetime import UTC, datetime, timedelta

from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Body, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.passes import Operator


def test_gpus_are_counted_and_a_run_stalls_while_the_operator_is_down(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    gpus = {"limits": {"memory": "8Gi"}, "gpus": 2}
    resources = {"teacher": gpus, "trainer": {"dtype": "float32"}}
    namespace.begin(stallSeconds=300, resources=resources, scheduling={"ahead": True})

    def comes() -> Operator:
        return Operator(Cluster(namespace.api), SETTINGS, logging.getLogger("test"))

    def one_pass(operator: Operator) -> Body:
        return namespace.one_pass(operator)

    one_pass(comes())
    ago = datetime.now(UTC) - timedelta(minutes=10)

    def pods_are_there() -> None:
        pods = namespace.core.list_namespaced_pod(namespace.name).items
        assert len(pods) == 2
        for pod in pods:
            namespace.say(
                pod, "Running", False, {"running": {}}, startTime=f"{ago:%Y-%m-%dT%H:%M:%SZ}", podIP="127.0.0.1"
            )

    eventually(pods_are_there)
    before = namespace.run()
    told = before["status"] | {"lastProgressTime": f"{ago:%Y-%m-%dT%H:%M:%SZ}"}
    assert Cluster(namespace.api).write_status(before["metadata"], told)

    operator = comes()
    for known in ("False", "True"):
        status = one_pass(operator)
        [stalled] = [one for one in status["conditions"] if one["type"] == "Stalled"]
        assert stalled["status"] == known, "a pod that does not answer is asked twice"
    gone = (datetime.now(UTC) - ago).total_seconds()
    assert 2 * 600 <= status["usage"]["gpuSeconds"] <= 2 * (gone + 1)
