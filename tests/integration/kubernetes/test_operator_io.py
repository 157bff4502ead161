"""What the operator does to a real API server: apply, refuse what is another's, write a status once, make keys."""

import asyncio
import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually

from score_distill.executors.kubernetes.cluster import Cluster, ForeignObject
from score_distill.executors.kubernetes.names import Owner
from score_distill.executors.kubernetes.observe import Children
from score_distill.executors.kubernetes.passes import Operator
from score_distill.executors.kubernetes.reconcile import Measured, reconcile
from score_distill.executors.kubernetes.settings import Settings
from score_distill.manifest import parse

ROOT = Path(__file__).parents[3]
SETTINGS = Settings(worker="worker:1", trainer="trainer:1", serving="serving:1")
NOW = 1_000_000.0
WHERE = ("distill.score.dev", "v1alpha1")
Body = dict[str, Any]


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> client.ApiClient:
    api = control_plane.client()
    definitions = client.ApiextensionsV1Api(api)
    crd = yaml.safe_load((ROOT / "crds/distill.score.dev_distillationruns.yaml").read_text())
    if crd["metadata"]["name"] not in [
        one.metadata.name for one in definitions.list_custom_resource_definition().items
    ]:
        definitions.create_custom_resource_definition(crd)
    return api


@pytest.fixture
def run(api: client.ApiClient) -> Iterator[Body]:
    """The quickstart in a namespace of its own."""
    namespace = f"io-{uuid.uuid4().hex[:8]}"
    client.CoreV1Api(api).create_namespace({"metadata": {"name": namespace}})
    manifest = yaml.safe_load((ROOT / "examples/kubernetes/quickstart.yaml").read_text())
    runs = client.CustomObjectsApi(api)
    yield eventually(
        lambda: dict(runs.create_namespaced_custom_object(*WHERE, namespace, "distillationruns", manifest))
    )


def read(api: client.ApiClient, run: Body) -> Body:
    metadata = run["metadata"]
    found = client.CustomObjectsApi(api).get_namespaced_custom_object(
        *WHERE, metadata["namespace"], "distillationruns", metadata["name"]
    )
    return dict(found)


def test_all_that_a_first_pass_wants_is_taken_by_the_api_server_and_belongs_to_the_run(
    api: client.ApiClient, run: Body
) -> None:
    writes: list[tuple[str, str]] = []
    cluster = Cluster(api, lambda verb, kind: writes.append((verb, kind)))
    changes = reconcile(run, Children(), Measured(), SETTINGS, NOW)
    uid, namespace = run["metadata"]["uid"], run["metadata"]["namespace"]
    assert changes.keys is not None
    assert changes.status is not None
    cluster.create_keys(changes.keys, ("teacher", "student"))
    for _ in range(2):
        for body in changes.apply:
            cluster.apply(body, uid)
    cluster.create_keys(changes.keys, ("teacher", "student"))
    assert cluster.write_status(run["metadata"], changes.status)
    assert writes.count(("create", "Secret")) == 1
    [job] = client.BatchV1Api(api).list_namespaced_job(namespace).items
    assert job.metadata.owner_references[0].uid == uid
    assert {entry.manager for entry in job.metadata.managed_fields if entry.operation == "Apply"} == {"score-operator"}
    [secret] = [
        one for one in client.CoreV1Api(api).list_namespaced_secret(namespace).items if "keys" in one.metadata.name
    ]
    assert set(secret.data) == {"teacher", "student"}
    status = read(api, run)["status"]
    assert status["step"] == "prepare"


def test_an_object_of_another_is_never_touched(api: client.ApiClient, run: Body) -> None:
    namespace = run["metadata"]["namespace"]
    mine = {"metadata": {"name": "quickstart-prepare-1"}, "data": {"mine": "yes"}}
    client.CoreV1Api(api).create_namespaced_config_map(namespace, mine)
    [config_map] = [
        body for body in reconcile(run, Children(), Measured(), SETTINGS, NOW).apply if body["kind"] == "ConfigMap"
    ]
    with pytest.raises(ForeignObject, match="ConfigMap quickstart-prepare-1 is there and does not belong to this run"):
        Cluster(api).apply(config_map, run["metadata"]["uid"])
    assert client.CoreV1Api(api).read_namespaced_config_map("quickstart-prepare-1", namespace).data == {"mine": "yes"}


async def test_a_job_that_a_run_has_left_behind_does_not_make_an_operator_ill(api: client.ApiClient, run: Body) -> None:
    namespace = run["metadata"]["namespace"]
    await asyncio.to_thread(
        client.CustomObjectsApi(api).delete_namespaced_custom_object,
        *WHERE,
        namespace,
        "distillationruns",
        "quickstart",
    )
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    labels = {"distill.score.dev/run-uid": run["metadata"]["uid"]}
    job = {"metadata": {"name": "left", "labels": labels}, "spec": {"template": template}}
    client.BatchV1Api(api).create_namespaced_job(namespace, job)
    operator = Operator(Cluster(api), replace(SETTINGS, namespaces=(namespace,)), logging.getLogger("test"))
    for _ in range(3):
        await operator.check_watches()
    assert operator.ailing(time.time()) == "the watch of Job brings no events"

    async def is_well() -> None:
        [left] = (await asyncio.to_thread(client.BatchV1Api(api).list_namespaced_job, namespace)).items
        operator.known.put("Job", api.sanitize_for_serialization(left))
        await operator.check_watches()
        assert operator.ailing(time.time()) is None

    await is_well()


async def test_a_foreign_object_is_said_once_and_the_run_goes_on_when_it_is_gone(
    api: client.ApiClient, run: Body
) -> None:
    uid, namespace, core = run["metadata"]["uid"], run["metadata"]["namespace"], client.CoreV1Api(api)
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "quickstart-prepare-1"}})
    operator = Operator(Cluster(api), SETTINGS, logging.getLogger("test"))
    versions = []
    for _ in range(3):
        operator.known.put("DistillationRun", read(api, run))
        with pytest.raises(ForeignObject):
            await operator.reconcile((namespace, uid))
        seen = read(api, run)
        versions.append(seen["metadata"]["resourceVersion"])
        [succeeded] = [one for one in seen["status"]["conditions"] if one["type"] == "Succeeded"]
        assert succeeded["reason"] == "ForeignObject"
        await asyncio.sleep(1.1)  # times in a status are whole seconds: a new one would be seen
    assert versions[0] == versions[1] == versions[2]
    core.delete_namespaced_config_map("quickstart-prepare-1", namespace)
    operator.known.put("DistillationRun", read(api, run))
    await operator.reconcile((namespace, uid))
    assert read(api, run)["status"]["steps"][0]["state"] == "Running"


def test_a_status_made_from_an_old_look_is_not_written(api: client.ApiClient, run: Body) -> None:
    cluster = Cluster(api)
    first = reconcile(run, Children(), Measured(), SETTINGS, NOW).status
    assert first is not None
    assert cluster.write_status(run["metadata"], first)
    late = first | {"progress": "1/9 tasks"}
    assert not cluster.write_status(run["metadata"], late)
    assert "progress" not in read(api, run)["status"]
    now = read(api, run)
    assert cluster.write_status(now["metadata"], late)
    assert read(api, run)["status"]["progress"] == "1/9 tasks"


def test_a_pass_over_what_the_api_server_gives_back_says_the_same(api: client.ApiClient, run: Body) -> None:
    from score_distill.api import Status

    cluster = Cluster(api)
    first = reconcile(run, Children(), Measured(), SETTINGS, NOW)
    assert first.status is not None
    for body in first.apply:
        cluster.apply(body, run["metadata"]["uid"])
    cluster.write_status(run["metadata"], first.status)
    namespace = run["metadata"]["namespace"]
    network = client.NetworkingV1Api(api)
    lists = {
        "Job": client.BatchV1Api(api).list_namespaced_job,
        "Deployment": client.AppsV1Api(api).list_namespaced_deployment,
        "Service": client.CoreV1Api(api).list_namespaced_service,
        "NetworkPolicy": network.list_namespaced_network_policy,
    }
    there = {
        kind: [api.sanitize_for_serialization(one) | {"kind": kind} for one in listed(namespace).items]
        for kind, listed in lists.items()
    }
    children = Children(there["Job"], (), there["Deployment"], [*there["Service"], *there["NetworkPolicy"]])
    again = reconcile(read(api, run), children, Measured(), SETTINGS, NOW + 1)
    assert (again.apply, again.delete, again.keys) == ((), (), None)
    settled = reconcile({**read(api, run), "status": again.status}, children, Measured(), SETTINGS, NOW + 2)
    assert Status.model_validate(settled.status) == Status.model_validate(again.status)


def test_deleting_what_is_gone_is_fine_and_another_of_the_name_stays(api: client.ApiClient, run: Body) -> None:
    cluster, namespace = Cluster(api), run["metadata"]["namespace"]
    gone = {"name": "none", "namespace": namespace, "uid": run["metadata"]["uid"]}
    cluster.delete("Job", gone)
    job = {
        "metadata": {"name": "mine"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}},
    }
    client.BatchV1Api(api).create_namespaced_job(namespace, job)
    cluster.delete("Job", {**gone, "name": "mine"})
    assert client.BatchV1Api(api).read_namespaced_job("mine", namespace).metadata.deletion_timestamp is None


def test_an_event_is_where_describe_looks_for_it(api: client.ApiClient, run: Body) -> None:
    Cluster(api).event(run, "Warning", "StepRetrying", "step sft: gone")
    [event] = client.CoreV1Api(api).list_namespaced_event(run["metadata"]["namespace"]).items
    assert (event.involved_object.uid, event.reason) == (run["metadata"]["uid"], "StepRetrying")


def test_two_runs_of_one_name_in_turn_share_no_key(run: Body) -> None:
    owner = Owner(parse(run), run["metadata"]["uid"])
    later = Owner(parse(run), str(uuid.uuid4()))
    assert owner.keys != later.keys
    assert owner.key != later.key
