"""`kubectl apply` of the quickstart, made small: a student comes out, whatever is killed on the way."""

import base64
import json
from collections.abc import Iterator

import pytest
import yaml
from kubernetes.client.exceptions import ApiException
from tests.cluster.node import Cluster
from tests.cluster.waiting import eventually
from tests.e2e.installed import ROOT, Body, Installed, condition, installed, step

QUICKSTART = ROOT / "examples/kubernetes/quickstart.yaml"
STEPS = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]
MODELS = ["base", "init", "sft", "rl", "teacher"]


def shrunken(name: str) -> Body:
    manifest: Body = yaml.safe_load(QUICKSTART.read_text())
    manifest["metadata"]["name"] = name
    spec = manifest["spec"]
    spec["tasks"]["train"]["limit"] = 60
    spec["tasks"]["eval"][0]["limit"] = 30
    method = spec["method"]
    method["split"] = {"coldStart": 0.2, "dev": 0.15, "sft": 0.5}
    method["warmup"]["epochs"] = 2
    method["sft"]["epochs"] = 1
    method["rl"] |= {"groupSize": 4, "groupsPerUpdate": 4, "updates": 4, "devEvery": 2, "devTasks": 8}
    method["rl"] |= {"checkpointEvery": 1}
    spec["resources"]["rollout"]["concurrency"] = 32
    return manifest


@pytest.fixture(scope="module")
def product(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with installed(cluster, "distill", tmp_path_factory.mktemp("product")) as found:
        found.start_operator()
        yield found


def running(name: str):  # type: ignore[no-untyped-def]
    return lambda status: step(status, name).get("state") == "Running"


def jobs(product: Installed) -> list[str]:
    return sorted(job.metadata.name for job in product.batch.list_namespaced_job(product.namespace).items)


@pytest.mark.timeout(3000)
def test_a_run_ends_succeeded_though_its_operator_is_killed_and_its_children_are_deleted(product: Installed) -> None:
    product.apply(shrunken("quickstart"))
    product.until("quickstart", running("demonstrate"), within=400)
    product.kill_operator()
    product.start_operator()
    product.until("quickstart", running("mentor"), within=600)
    product.batch.delete_namespaced_job(
        "quickstart-mentor-1", product.namespace, body={"propagationPolicy": "Background"}
    )
    product.until("quickstart", running("sft"), within=600)
    product.kill_operator()
    product.start_operator()
    status = product.until("quickstart", lambda status: condition(status, "Succeeded").get("status") == "True", 1500)

    assert [(one["name"], one["state"]) for one in status["steps"]] == [(name, "Succeeded") for name in STEPS]
    assert [one["attempt"] for one in status["steps"]] == [1] * len(STEPS)
    assert [one["model"] for one in status["scores"]] == MODELS
    assert all(one["n"] == 30 and 0 <= one["low"] <= one["score"] <= one["high"] <= 1 for one in status["scores"])
    assert step(status, "mentor")["done"] == step(status, "mentor")["total"] > 0
    assert status["usage"]["teacherTokens"] > 0
    key = status["artifacts"]["report"].removeprefix("s3://score/")
    assert b"</html>" in product.store.read(key)
    report = json.loads(product.store.read(key.replace(".html", ".json")))
    assert [one["model"] for one in report["scores"]] == MODELS
    assert jobs(product) == sorted(f"quickstart-{name}-1" for name in STEPS)

    def models_are_gone() -> None:
        label = "distill.score.dev/role in (teacher,student)"
        assert not product.core.list_namespaced_pod(product.namespace, label_selector=label).items

    eventually(models_are_gone, within=120)


def test_no_key_is_in_what_people_see(product: Installed) -> None:
    keys = [*product.store.environ.values()][1:]
    for secret in product.core.list_namespaced_secret(product.namespace).items:
        if secret.metadata.name.startswith("quickstart-keys"):
            keys += [base64.b64decode(value).decode() for value in secret.data.values()]
    assert len(keys) == 4
    keys.remove("score")
    seen = [product.log(), json.dumps(product.status("quickstart"))]
    for one in product.core.list_namespaced_config_map(product.namespace).items:
        seen.append(json.dumps(one.data))
    for pod in product.core.list_namespaced_pod(product.namespace).items:
        seen.append(str(pod.spec))
        seen.append(str(product.core.read_namespaced_pod_log(pod.metadata.name, product.namespace, container="stage")))
    seen += [product.store.read(name).decode("latin-1") for name in product.store.keys("runs/")]
    assert len(seen) > 20
    assert not [text for text in seen for key in keys if key in text]


def test_a_deleted_run_leaves_nothing(product: Installed) -> None:
    product.delete("quickstart")

    def gone() -> None:
        core, namespace, label = product.core, product.namespace, "distill.score.dev/run=quickstart"
        left = [
            *core.list_namespaced_pod(namespace, label_selector=label).items,
            *core.list_namespaced_config_map(namespace, label_selector=label).items,
            *core.list_namespaced_secret(namespace, label_selector=label).items,
            *core.list_namespaced_service(namespace, label_selector=label).items,
            *product.batch.list_namespaced_job(namespace, label_selector=label).items,
        ]
        assert not left, [one.metadata.name for one in left]

    eventually(gone, within=180)
    with pytest.raises(ApiException):
        product.status("quickstart")
