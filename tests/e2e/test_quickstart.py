"""`kubectl apply` of the quickstart, made small, in two namespaces at once: students come out, whatever goes wrong."""

import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import yaml
from kubernetes.client.exceptions import ApiException
from tests.cluster.product import ROOT, Body, Installed, Run, condition, step
from tests.cluster.waiting import eventually

from score_distill.executors.kubernetes.keeping import HISTORY

QUICKSTART = ROOT / "examples/kubernetes/quickstart.yaml"
STEPS = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]
MODELS = ["base", "init", "sft", "rl", "teacher"]


def shrunken(**resources: Body) -> Body:
    manifest: Body = yaml.safe_load(QUICKSTART.read_text())
    spec = manifest["spec"]
    spec["tasks"]["train"]["limit"] = 60
    spec["tasks"]["eval"][0]["limit"] = 30
    method = spec["method"]
    method |= {"rounds": 1, "split": {"coldStart": 0.2, "dev": 0.15, "sft": 0.5}}
    method["warmup"]["epochs"] = 2
    method["sft"]["epochs"] = 1
    method["rl"] |= {"groupSize": 4, "groupsPerUpdate": 4, "updates": 4, "devEvery": 2, "devTasks": 8}
    method["rl"] |= {"checkpointEvery": 1}
    spec["resources"]["rollout"]["concurrency"] = 32
    for size in spec["resources"].values():
        size["requests"]["cpu"] = "100m"  # all pods of two runs find room on two cores
    for role, more in resources.items():
        spec["resources"][role] |= more
    return manifest


@pytest.fixture(scope="module")
def runs(product: Installed) -> list[Run]:
    """Two of one name in two namespaces."""
    found = [Run(product, namespace, "quickstart") for namespace in ("distill", "other")]
    for run in found:
        product.prepare(run.namespace)
    return found


def delete_job(run: Run, name: str) -> None:
    run.product.batch.delete_namespaced_job(name, run.namespace, body={"propagationPolicy": "Background"})


def crash(run: Run, role: str) -> None:
    """SIGKILL to vLLM in the pods of that role."""
    [pod] = run.pods(f",distill.score.dev/role={role}")
    mark = str(pod.metadata.uid).replace("-", "")
    for process in psutil.process_iter(["pid", "cmdline"]):
        if "vllm.entrypoints.openai.api_server" in (process.info["cmdline"] or ()) and mark in groups_of(process.pid):
            process.kill()
            return
    raise AssertionError(f"no vLLM of the {role} runs")


def groups_of(pid: int) -> str:
    with open(f"/proc/{pid}/cgroup") as file:
        return file.read().replace("-", "").replace("_", "")


def resume(run: Run) -> None:
    assert {pod.status.phase for pod in run.pods()} <= {"Succeeded", "Failed"}
    run.patch({"suspend": False})


def lose_pod(run: Run, name: str) -> None:
    """As when its node is gone: no grace, nothing said."""
    pod = run.pods(f",distill.score.dev/step={name}")[-1]
    run.product.core.delete_namespaced_pod(pod.metadata.name, run.namespace, grace_period_seconds=0)


def lose_store(run: Run, seconds: float = 60) -> None:
    run.product.store.kill()
    threading.Timer(seconds, run.product.store.start).start()


def running(name: str) -> Callable[[Body], bool]:
    return lambda status: step(status, name).get("state") == "Running"


def suspended(status: Body) -> bool:
    return condition(status, "Suspended").get("status") == "True"


Fault = tuple[Run, Callable[[Body], bool], Callable[[], Any]]


def suffer(runs: list[Run], faults: list[Fault], within: float) -> list[Body]:
    """Let each fault happen once its run is so; the statuses of the runs once all have succeeded.

    No fault may take long: the other run would be past its own by then. One that raises is tried again.
    """
    left = list(faults)

    def all_have_succeeded() -> list[Body]:
        statuses = {run.namespace: run.status() for run in runs}
        for fault in list(left):
            run, is_due, act = fault
            if is_due(statuses[run.namespace]):
                act()
                left.remove(fault)
        for status in statuses.values():
            if condition(status, "Succeeded").get("status") == "False":
                pytest.fail(yaml.safe_dump(status))
            assert condition(status, "Succeeded").get("status") == "True", yaml.safe_dump(status)
        return list(statuses.values())

    found = eventually(all_have_succeeded, within=within, every=0.3)
    assert not left, [faults.index(fault) for fault in left]
    return found


@pytest.mark.timeout(3000)
def test_runs_end_succeeded_whatever_goes_wrong_on_the_way(product: Installed, runs: list[Run]) -> None:
    """One acts in two pods at once, the other trains in two that meet by name, and could search."""
    one, other = runs
    one.apply(shrunken(rollout={"parallelism": 2}))
    manifest = shrunken(trainer={"nodes": 2})
    manifest["spec"]["tools"].append("search")
    manifest["spec"]["search"] = {"corpus": "s3://score/quickstart/pages"}
    other.apply(manifest)
    faults: list[Fault] = [
        (one, running("demonstrate"), product.kill_operator),
        (other, running("demonstrate"), lambda: crash(other, "teacher")),
        (one, running("mentor"), lambda: delete_job(one, "quickstart-mentor-1")),
        (other, running("mentor"), lambda: other.patch({"suspend": True})),
        (other, suspended, lambda: resume(other)),
        (one, running("sft"), product.kill_operator),
        (one, running("rl"), product.cluster.plane.restart_apiserver),
        (other, running("rl"), lambda: lose_pod(other, "rl")),
        (other, running("evaluate"), lambda: lose_store(other)),
    ]
    statuses = suffer(runs, faults, within=2400)

    for run, status in zip(runs, statuses, strict=True):
        assert [(one["name"], one["state"]) for one in status["steps"]] == [(name, "Succeeded") for name in STEPS]
        assert [one["model"] for one in status["scores"]] == MODELS
        assert all(one["n"] == 30 and 0 <= one["low"] <= one["score"] <= one["high"] <= 1 for one in status["scores"])
        assert step(status, "mentor")["done"] == step(status, "mentor")["total"] > 0
        assert status["usage"]["teacherTokens"] > 0
        key = status["artifacts"]["report"].removeprefix("s3://score/")
        assert b"</html>" in product.store.read(key)
        report = json.loads(product.store.read(key.replace(".html", ".json")))
        assert [one["model"] for one in report["scores"]] == MODELS

        def models_are_gone(run: Run = run) -> None:
            assert not run.pods(",distill.score.dev/role in (teacher,student)")

        eventually(models_are_gone, within=120)
    prepared = statuses[1]["artifacts"]["run"].removeprefix("s3://score/") + "/steps/prepare/manifest.json"
    assert "search/pages.sqlite" in json.loads(product.store.read(prepared))["files"]
    assert [one["attempt"] for one in statuses[0]["steps"]] == [1] * len(STEPS)
    assert one.jobs() == sorted(f"quickstart-{name}-1" for name in STEPS[-HISTORY:])
    lost = {step(statuses[1], name)["attempt"] for name in ("prepare", "warmup", "mentor", "sft")}
    assert lost == {1}
    assert step(statuses[1], "rl")["attempt"] == 2


def test_no_key_is_in_what_people_see(product: Installed, runs: list[Run]) -> None:
    keys = [*product.store.environ.values()][1:]
    seen = [product.log()]
    for run in runs:
        for secret in product.core.list_namespaced_secret(run.namespace).items:
            if secret.metadata.name.startswith("quickstart-keys"):
                keys += [base64.b64decode(value).decode() for value in secret.data.values()]
        seen.append(json.dumps(run.status()))
        seen += [json.dumps(one.data) for one in product.core.list_namespaced_config_map(run.namespace).items]
        seen += [str(one.message) for one in product.core.list_namespaced_event(run.namespace).items]
        for pod in run.pods():
            seen.append(str(pod.spec))
            seen.append(str(product.core.read_namespaced_pod_log(pod.metadata.name, run.namespace, container="stage")))
    seen += [product.store.read(name).decode("latin-1") for name in product.store.keys("runs/")]
    assert len(keys) == 6
    keys.remove("score")
    assert len(seen) > 40
    assert not [text for text in seen for key in keys if key in text]


def test_a_run_of_the_same_name_begins_anew(product: Installed, runs: list[Run]) -> None:
    run = runs[1]
    before = run.status()["artifacts"]["run"]
    run.delete()
    eventually(lambda: run.apply(shrunken()), within=30)
    status = run.until(lambda status: step(status, "prepare").get("state") == "Succeeded", within=180)
    assert step(status, "prepare")["attempt"] == 1
    assert status["artifacts"]["run"] != before
    run.delete()


def test_a_deleted_run_leaves_nothing(product: Installed, runs: list[Run]) -> None:
    run = runs[0]
    run.delete()

    def gone() -> None:
        core, namespace, label = product.core, run.namespace, "distill.score.dev/run=quickstart"
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
        run.status()
