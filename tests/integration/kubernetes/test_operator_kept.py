"""What stays in a real API server of the steps of a run that have ended."""

import logging

from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.keeping import HISTORY
from score_distill.executors.kubernetes.names import UID
from score_distill.executors.kubernetes.passes import Operator


def test_of_a_whole_run_the_last_jobs_stay_with_what_was_made_for_them(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    namespace.begin()
    operator = Operator(Cluster(namespace.api), SETTINGS, logging.getLogger("test"))

    def has_succeeded() -> None:
        namespace.play()
        status = namespace.one_pass(operator)
        assert {"Succeeded": "True"}.items() <= {one["type"]: one["status"] for one in status["conditions"]}.items()

    eventually(has_succeeded, within=120)

    def only_the_last_are_left() -> None:
        jobs = {one.metadata.name for one in namespace.batch.list_namespaced_job(namespace.name).items}
        maps = namespace.core.list_namespaced_config_map(namespace.name, label_selector=UID).items
        assert len(jobs) == HISTORY
        assert {one.metadata.name for one in maps} == jobs

    eventually(only_the_last_are_left)
    assert all(one["state"] == "Succeeded" and one["attempt"] == 1 for one in namespace.run()["status"]["steps"])


def test_what_is_deleted_by_its_name_is_the_runs_own(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    uid = namespace.begin()["metadata"]["uid"]
    cluster, where = Cluster(namespace.api), {"name": "quickstart-prepare-1", "namespace": namespace.name}
    namespace.core.create_namespaced_config_map(namespace.name, {"metadata": {**where, "labels": {UID: uid}}})
    cluster.delete("ConfigMap", where, uid)
    assert cluster.get("ConfigMap", where) is not None
    cluster.delete("ConfigMap", {**where, "name": "gone"}, uid)
