"""A node vanishes with all pods of a run on it, and nobody deletes it: the run ends on another, every task once."""

import pytest
from tests.cluster import images
from tests.cluster.node import Node
from tests.cluster.product import Body, Installed, Run, condition, step
from tests.cluster.waiting import eventually
from tests.e2e.test_quickstart import shrunken

from score_distill.artifacts.steps import StepReader, StepWriter
from score_distill.artifacts.store import Store, open_store

TASKS = 40


def small() -> Body:
    """The shortest run that mentors, whose pods are evicted two seconds after their node is known to be gone."""
    manifest = shrunken()
    spec = manifest["spec"]
    spec["tasks"]["train"]["limit"] = TASKS
    spec["tasks"]["eval"][0]["limit"] = 10
    spec["method"]["rl"] = {"enabled": False}
    spec["method"]["evaluation"] = {"models": ["sft"]}
    spec["resources"]["rollout"]["concurrency"] = 2  # mentoring takes a while, and is amid its tasks when it is hit
    gone = [f"node.kubernetes.io/{kind}" for kind in ("not-ready", "unreachable")]
    spec["scheduling"] = {
        "tolerations": [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2} for key in gone
        ]
    }
    return manifest


def admit_pods(product: Installed, node: Node, admits: bool) -> None:
    product.core.patch_node(node.name, {"spec": {"unschedulable": not admits}})


def outcomes(run: Run) -> list[str]:
    """The tasks that mentoring has journaled, by any attempt."""
    store, key = artifacts(run)
    return [one["task"]["id"] for one in StepWriter(store, key, "mentor").read_journal("outcomes")]


def artifacts(run: Run) -> tuple[Store, str]:
    root, _, key = run.status()["artifacts"]["run"].rpartition("/")
    return open_store(root, run.product.store.environ), key


@pytest.mark.timeout(1200)
def test_a_run_goes_on_when_the_node_of_all_its_pods_has_vanished(product: Installed) -> None:
    first, run = product.cluster.nodes[0], Run(product, "vanish", "quickstart")
    product.prepare(run.namespace)
    second = product.cluster.add_node()
    second.import_image(images.worker())
    admit_pods(product, first, False)
    try:
        run.apply(small())
        run.until(lambda status: step(status, "mentor").get("state") == "Running", within=600)

        def is_amid_its_tasks() -> None:
            assert outcomes(run)

        eventually(is_amid_its_tasks, within=180)
    finally:
        admit_pods(product, first, True)
    unfinished = [pod.metadata.name for pod in run.pods() if pod.status.phase == "Running"]
    assert len(unfinished) == 3
    second.vanish()
    status = run.until(lambda status: condition(status, "Succeeded").get("status") != "Unknown", within=600)

    assert condition(status, "Succeeded")["status"] == "True", status
    assert {one["name"]: one["attempt"] for one in status["steps"] if one["attempt"] != 1} == {"mentor": 2}
    told = [str(one.message) for one in product.core.list_namespaced_event(run.namespace).items]
    assert f"step mentor: its pod was lost (node {second.name} does not answer)" in told
    store, key = artifacts(run)
    wanted = sorted(row["id"] for row in StepReader(store, key, "prepare").open_rows("mentor.jsonl"))
    assert sorted(row["task"]["id"] for row in StepReader(store, key, "mentor").open_rows("mentored.jsonl")) == wanted
    assert sorted(outcomes(run)) == wanted, "what the vanished pod had done was done again"
    left = [pod for pod in run.pods() if pod.metadata.name in unfinished]
    assert {pod.spec.node_name for pod in left} == {second.name}, "the node was deleted, and with it the pods"
    run.delete()
