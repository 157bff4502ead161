"""The API server itself refuses what the API does not allow, and names the field."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.manifests import (
    BETWEEN_FIELDS,
    ONLY_IN_A_CLUSTER,
    UNKNOWN,
    changed,
    distilling,
    good,
    out_of_bounds,
    searching,
)

from score_distill.api import GROUP, VERSION, ArtifactsStatus, Condition, Score, Status, StepStatus, StepTokens, Usage
from score_distill.crd import PLURAL

ROOT = Path(__file__).parents[3]
CRD = yaml.safe_load((ROOT / "crds" / f"{GROUP}_{PLURAL}.yaml").read_text(encoding="utf-8"))
EXAMPLES = sorted((ROOT / "examples" / "kubernetes").glob("*.yaml"))
NAMESPACE, KEPT = "manifests", "kept"


class Runs:
    """The DistillationRuns of a namespace, with strict field validation. A refusal is returned, not raised."""

    def __init__(self, api: client.ApiClient) -> None:
        self._objects = client.CustomObjectsApi(api)

    def create(self, run: dict[str, Any], dry: bool = True) -> str:
        try:
            self._objects.create_namespaced_custom_object(
                GROUP, VERSION, NAMESPACE, PLURAL, run, field_validation="Strict", dry_run="All" if dry else None
            )
        except ApiException as refused:
            return _message(refused)
        return ""

    def update(self, run: dict[str, Any]) -> str:
        """Ask whether KEPT may become ``run``."""
        run = run | {"metadata": self.kept()["metadata"]}
        try:
            self._objects.replace_namespaced_custom_object(
                GROUP, VERSION, NAMESPACE, PLURAL, KEPT, run, field_validation="Strict", dry_run="All"
            )
        except ApiException as refused:
            return _message(refused)
        return ""

    def tell(self, status: Status) -> str:
        """Write the status of KEPT, which leaves its spec alone."""
        told = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        try:
            self._objects.patch_namespaced_custom_object_status(
                GROUP, VERSION, NAMESPACE, PLURAL, KEPT, {"status": told}, field_validation="Strict"
            )
        except ApiException as refused:
            return _message(refused)
        return ""

    def kept(self) -> dict[str, Any]:
        found: dict[str, Any] = self._objects.get_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, KEPT)
        return found


def _message(refused: ApiException) -> str:
    assert refused.status in (400, 422), refused
    return str(json.loads(refused.body)["message"])


@pytest.fixture(scope="module")
def runs(control_plane: ControlPlane) -> Iterator[Runs]:
    api = control_plane.client()
    extensions = client.ApiextensionsV1Api(api)
    client.CoreV1Api(api).create_namespace({"metadata": {"name": NAMESPACE}})
    extensions.create_custom_resource_definition(CRD, field_validation="Strict")
    found = Runs(api)

    def served() -> None:
        assert found.create(good()) == ""

    eventually(served)
    assert found.create(changed("metadata.name", KEPT), dry=False) == ""
    yield found
    extensions.delete_custom_resource_definition(CRD["metadata"]["name"])


@pytest.mark.parametrize("example", EXAMPLES, ids=[one.name for one in EXAMPLES])
def test_an_example_is_accepted(runs: Runs, example: Path) -> None:
    assert runs.create(yaml.safe_load(example.read_text(encoding="utf-8"))) == ""


def test_a_faulty_manifest_is_refused_with_its_field(runs: Runs) -> None:
    faults = [*BETWEEN_FIELDS, *ONLY_IN_A_CLUSTER, *out_of_bounds()]
    assert len(faults) >= 100
    told = [(path, value, word, runs.create(changed(path, value))) for path, value, word in faults]
    assert [(path, str(value)[:60], message) for path, value, word, message in told if word not in message] == []


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_field_is_refused(runs: Runs, path: str) -> None:
    assert f'unknown field "{path}"' in runs.create(changed(path, "x"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.budget.teacherTokens", "50M"),
        ("spec.budget.teacherTokens", 50),
        ("spec.resources.trainer.requests", {"cpu": 2, "memory": "1.5Gi"}),
        ("spec.method.sft.clipNorm", 1),
        ("spec.method.rl.enabled", False),
        ("spec", distilling()),
        ("spec", distilling(method={"rl": {"controls": ["OnPolicyDistillation", "FullHorizon"], "sampling": {}}})),
        ("spec.scheduling.nodeSelector", {"example.com/pool": "gpu"}),
        ("spec.scheduling.tolerations", [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute"}]),
        ("spec.images.worker", "registry.example:5000/score/worker@sha256:0123"),
        ("spec", searching({"corpus": "s3://data/pages", "blocked": ["example.com/data"]})),
        ("spec", searching({"endpoint": {"url": "https://x/find", "apiKeySecret": {"name": "a", "key": "b"}}})),
    ],
)
def test_what_is_right_is_accepted(runs: Runs, path: str, value: Any) -> None:
    assert runs.create(changed(path, value)) == ""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.seed", 1),
        ("spec.method.rl.groupSize", 8),
        ("spec.method.sft.schedule", "constant"),
        ("spec.method.evaluation.models", ["rl"]),
        ("spec.method.agent.sampling.temperature", 1),
        ("spec.student.model", "hf://org/other"),
        ("spec.teacher.serving.dtype", "float32"),
        ("spec.tasks.eval", [{"name": "other", "uri": "s3://data/test.jsonl"}]),
        ("spec.tasks.train.limit", 5),
        ("spec.tools", ["python", "read"]),
        ("spec.artifacts.uri", "s3://elsewhere"),
    ],
)
def test_what_results_depend_on_may_not_change(runs: Runs, path: str, value: Any) -> None:
    assert f"{path.removeprefix('spec.')} may not change" in runs.update(changed(path, value))


def test_another_source_of_the_teacher_is_a_change(runs: Runs) -> None:
    told = runs.update(changed("spec.teacher", {"endpoint": {"url": "https://x/v1", "model": "m"}}))
    assert "teacher.model may not change" in told
    assert "teacher.endpoint.url may not change" in told


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.suspend", True),
        ("spec.ttlSecondsAfterFinished", 0),
        ("spec.ttlSecondsAfterFailed", 0),
        ("spec.stallSeconds", 60),
        ("spec.scheduling.queueName", "team"),
        ("spec.resources.trainer.nodes", 4),
        ("spec.images.worker", "registry.example/worker:2"),
        ("spec.budget.gpuHours", 0.5),
        ("spec.budget.gpus", 8),
        ("spec.pendingDeadlineSeconds", 600),
        ("spec.scheduling.ahead", True),
        ("spec.artifacts.credentialsSecret", "s3"),
        ("spec.teacher.concurrency", 2),
        ("spec.teacher.serving.args", ["--max-num-seqs=4"]),
        ("spec.method.rl.groupSize", 16),
        ("spec.method.evaluation.models", ["base", "init", "sft", "rl", "teacher"]),
    ],
)
def test_what_they_do_not_depend_on_may_change_and_a_default_may_be_written_down(
    runs: Runs, path: str, value: Any
) -> None:
    assert runs.update(changed(path, value)) == ""


def test_scalars_carry_their_defaults_and_parts_that_are_left_out_stay_out(runs: Runs) -> None:
    spec = runs.kept()["spec"]
    assert (spec["stallSeconds"], spec["suspend"], spec["teacher"]["concurrency"]) == (3600, False, 64)
    assert "method" not in spec


def test_a_status_is_kept_as_it_was_told(runs: Runs) -> None:
    then = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    condition = Condition(type="Succeeded", status="Unknown", reason="Running", last_transition_time=then)
    step = StepStatus(name="mentor", state="Running", attempt=1, done=5, total=9, unit="tasks", started_at=then)
    status = Status(
        observed_generation=1,
        conditions=(condition,),
        step="mentor",
        progress="5/9 tasks",
        score="rl 77.2",
        steps=(step.model_copy(update={"counts": {"corrected": 3}, "tokens": StepTokens(teacher=10)}),),
        usage=Usage(teacher_tokens=10),
        scores=(Score(model="rl", eval="test", score=0.772, low=0.7, high=0.8, n=500),),
        artifacts=ArtifactsStatus(run="s3://runs/1", model_digest="sha256:0123"),
    )
    assert runs.tell(status) == ""
    assert Status.model_validate(runs.kept()["status"]) == status
    twice = status.model_copy(update={"conditions": (condition, condition)})
    assert "Duplicate value" in runs.tell(twice)


def test_kubectl_explains_the_spec_and_prints_the_columns(runs: Runs, control_plane: ControlPlane) -> None:
    def kubectl(*arguments: str) -> str:
        command = [control_plane.kubectl, f"--kubeconfig={control_plane.admin}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    explained = kubectl("explain", "drun.spec.method.rl.groupSize")
    assert "a group needs at least 2 rollouts" in " ".join(explained.split())
    head = kubectl("get", "distill", "--namespace", NAMESPACE).splitlines()[0].split()
    assert head == ["NAME", "STEP", "PROGRESS", "SCORE", "STATUS", "REASON", "AGE"]
