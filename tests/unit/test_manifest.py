"""A manifest is read whole or refused with every fault: where, what was found, what would be right."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from score_distill.api import amount
from score_distill.manifest import ManifestError, parse, read


def manifest(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "distill.score.dev/v1alpha1",
        "kind": "DistillationRun",
        "metadata": {"name": "tiny"},
        "spec": {
            "student": {"model": "student"},
            "teacher": {"model": "teacher"},
            "tasks": {"train": {"uri": "train.jsonl"}, "eval": [{"name": "test", "uri": "test.jsonl"}]},
            "artifacts": {"uri": "runs"},
        }
        | spec,
    }


def faults(**spec: Any) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as error:
        parse(manifest(**spec))
    return error.value.faults


def test_a_good_manifest_is_read() -> None:
    run = parse(manifest(budget={"teacherTokens": "50M"}))
    assert run.spec.budget.teacher_tokens == 50_000_000
    assert run.spec.method.rl.group_size == 16


def test_quantities_are_texts_or_whole_numbers() -> None:
    amounts = {"cpu": 2, "memory": "1.5Gi"}
    run = parse(manifest(resources={"teacher": {"requests": amounts}, "trainer": {"limits": {"cpu": "500m"}}}))
    assert run.spec.resources.teacher.requests.cpu == "2"
    assert [amount(one) for one in ("2", "1.5Ki", "4Gi", "500m", "3k")] == [2, 1536, 2**32, Decimal("0.5"), 3000]


def test_status_and_cluster_metadata_are_not_faults() -> None:
    data = manifest() | {"status": {"steps": []}}
    data["metadata"] |= {"labels": {"a": "b"}, "uid": "1"}
    assert parse(data).metadata.name == "tiny"


ONE_FAULT = [
    (
        {"method": {"rl": {"groupSize": 1}}},
        "spec.method.rl.groupSize: 1; must be at least 2 (rollouts from one prefix; a group needs at least 2 rollouts)",
    ),
    ({"method": {"rl": {"groupsize": 4}}}, "spec.method.rl.groupsize: unknown field; did you mean groupSize?"),
    ({"method": {"rl": {"group_size": 4}}}, "spec.method.rl.group_size: unknown field; did you mean groupSize?"),
    ({"budget": {"zzz": 1}}, "spec.budget.zzz: unknown field; known here: teacherTokens, gpuHours, gpus"),
    ({"method": {"sft": {"epochs": 1.5}}}, "spec.method.sft.epochs: 1.5; must be a whole number"),
    ({"method": {"rl": {"enabled": "maybe"}}}, 'spec.method.rl.enabled: "maybe"; must be true or false'),
    ({"method": {"sft": {"schedule": "step"}}}, 'spec.method.sft.schedule: "step"; must be cosine or constant'),
    ({"method": {"rl": None}}, "spec.method.rl: null; must be a mapping"),
    ({"artifacts": {}}, "spec.artifacts.uri: missing; must be given (where everything is kept: a folder, "),
    ({"artifacts": {"uri": "a b"}}, 'spec.artifacts.uri: "a b"; must not contain spaces'),
    ({"teacher": {}}, "spec.teacher: {}; give exactly one of model, endpoint (found none)"),
    (
        {"method": {"rl": {"rewards": {"final": 0.1}}}},
        "spec.method.rl.rewards: {final: 0.1}; rewards must not grow from final over key to avoid",
    ),
    (
        {"resources": {"student": {"requests": {"cpu": 2}, "limits": {"cpu": "500m"}}}},
        "spec.resources.student: {requests: …, limits: …}; requests.cpu (2) must be at most limits.cpu (500m)",
    ),
    (
        {"resources": {"trainer": {"requests": {"memory": "4 GB"}}}},
        'spec.resources.trainer.requests.memory: "4 GB"; must be a quantity such as 2, 500m or 4Gi (bytes, ',
    ),
    (
        {"resources": {"trainer": {"requests": {"cpu": 0.5}}}},
        "spec.resources.trainer.requests.cpu: 0.5; must be text (in quotes, ",
    ),
    (
        {"scheduling": {"tolerations": [{"operator": "Exists", "value": "x"}]}},
        "spec.scheduling.tolerations[0]: {operator: …, value: …}; value must be left out when operator is Exists",
    ),
    (
        {"scheduling": {"nodeSelector": {"pool": "a b"}}},
        'spec.scheduling.nodeSelector.pool: "a b"; must be letters, digits, -, _ and ., first and last a letter or ',
    ),
    ({"images": {"worker": "A b"}}, 'spec.images.worker: "A b"; must be an image such as registry.example/name:tag'),
    ({"stallSeconds": 5}, "spec.stallSeconds: 5; must be at least 60"),
    ({"tools": ["pyton"]}, 'spec.tools[0]: "pyton"; must be python, read or search'),
    ({"search": {}}, "spec.search: {}; give exactly one of corpus, endpoint (found none)"),
    (
        {"search": {"corpus": "a", "blocked": ["*.example.com"]}},
        'spec.search.blocked[0]: "*.example.com"; must be a site such as example.com, or the beginning of an address',
    ),
    ({"tools": []}, "spec.tools: []; must have at least 1 item"),
    ({"student": {"model": "x" * 2000}}, f'spec.student.model: "{"x" * 56}...; must have at most 1024 characters'),
]


@pytest.mark.parametrize(("spec", "line"), ONE_FAULT, ids=[line.split(";")[0] for _, line in ONE_FAULT])
def test_a_fault_says_where_what_and_what_would_be_right(spec: dict[str, Any], line: str) -> None:
    (found,) = faults(**spec)
    assert found.startswith(line)


CONTRADICTIONS = [
    ({"tools": ["read"]}, "spec.tools: ['read']; must contain python"),
    ({"tools": ["python", "python"]}, "spec.tools: ['python', 'python']; must name each tool once"),
    (
        {"tools": ["python", "search"]},
        "spec.search: missing; must be given when spec.tools has search (what is searched)",
    ),
    ({"search": {"corpus": "pages"}}, "spec.tools: ['python']; must contain search when spec.search is given"),
    ({"method": {"agent": {"maxSteps": 1}}}, "spec.method.agent.maxSteps: 1; must be at least 2 when plan is true"),
    ({"method": {"split": {"dev": 0}}}, "spec.method.split.dev: 0; must be more than 0 while rl.enabled is true"),
    (
        {"student": {"model": "s", "serving": {"contextLength": 512}}},
        "spec.method.agent.stepTokens: 1024; must be less than spec.student.serving.contextLength (512)",
    ),
    (
        {"tasks": {"train": {"uri": "a"}, "eval": [{"name": "x", "uri": "b"}, {"name": "y", "uri": "a"}]}},
        "spec.tasks.eval[1].uri: a; must not be the training tasks",
    ),
]


@pytest.mark.parametrize(("spec", "line"), CONTRADICTIONS)
def test_fields_that_contradict_each_other_are_a_fault(spec: dict[str, Any], line: str) -> None:
    (found,) = faults(**spec)
    assert found.startswith(line)


@pytest.mark.parametrize("more", [{}, {"model": "t"}, {"endpoint": {"url": "https://a/v1", "model": "m"}}])
def test_a_teacher_that_runs_share_is_refused_while_there_is_none(more: dict[str, Any]) -> None:
    assert any(one.startswith("spec.teacher.ref: ") for one in faults(teacher={"ref": {"name": "qwen"}, **more}))


def test_a_dev_split_of_nothing_is_fine_without_rl() -> None:
    parse(manifest(method={"split": {"dev": 0}, "rl": {"enabled": False}}))


def test_every_fault_is_told_at_once() -> None:
    found = faults(
        student={"model": ""},
        teacher={"model": "a", "ref": {"name": "b"}, "concurrency": 0},
        tasks={"train": {"uri": "t", "fromat": "qa"}, "eval": []},
        method={"rl": {"groupSize": 1, "rewards": {"final": 0.1}}, "split": {"coldStart": 0.9, "dev": 0.5}},
        artifacts={},
    )
    assert sorted(one.split(":")[0] for one in found) == [
        "spec.artifacts.uri",
        "spec.method.rl.groupSize",
        "spec.method.rl.rewards",
        "spec.method.split",
        "spec.student.model",
        "spec.tasks.eval",
        "spec.tasks.train.fromat",
        "spec.teacher.concurrency",
        "spec.teacher.ref",
    ]


def test_taking_out_a_faulty_field_brings_no_fault_of_its_own() -> None:
    assert len(faults(teacher={"model": 5})) == 1
    assert len(faults(teacher={"endpoint": {"url": "ftp://x", "model": "m"}})) == 1
    assert len(faults(tasks={"train": {"uri": "t"}, "eval": [{"name": "A", "uri": "u"}]})) == 1


def test_a_pasted_key_is_not_shown() -> None:
    endpoint = {"url": "https://x/v1", "model": "m", "apiKeySecret": "sk-secret", "apiKey": "sk-other"}
    (first, second, third) = faults(teacher={"endpoint": endpoint, "model": "m"})
    assert first.startswith("spec.teacher.endpoint.apiKeySecret: text; must be a mapping")
    assert second == "spec.teacher.endpoint.apiKey: unknown field; did you mean apiKeySecret?"
    assert third.startswith("spec.teacher: {endpoint: …, model: …}; give exactly one")


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1\nb: 2", "run.yaml:2:2: expected"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "run.yaml:4:3: c is given twice"),
        ("a: \tb: 1", "run.yaml:1:"),
        ("a: 1\n---\nb: 2", "2 YAML documents; give exactly one DistillationRun"),
        ("", "0 YAML documents"),
        ("- a", '["a"]; must be a mapping'),
        ("a: \x00", "run.yaml: "),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ManifestError) as error:
        read(write(tmp_path, text))
    (fault,) = error.value.faults
    assert says in fault


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.yaml: No such file"):
        read(tmp_path / "none.yaml")


def test_the_message_names_the_file_and_counts(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"run\.yaml: 4 faults\n  apiVersion: missing"):
        read(write(tmp_path, "a: 1\nkind: DistillationRun"))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"headers": [{"name": "Authorization", "value": "Bearer sk-1"}]}, "Authorization holds a key"),
        ({"headers": [{"name": "API-Key", "value": "sk-1"}]}, "API-Key holds a key"),
        ({"headers": [{"name": "X-Team"}]}, "give exactly one of value, secret"),
        ({"headers": [{"name": "Host", "value": "x"}]}, "Host is set by the client itself"),
        ({"headers": [{"name": "X Team", "value": "x"}]}, "must be letters, digits"),
        ({"headers": [{"name": "X-Team", "value": "x\r\ny: z"}]}, "must be plain letters of one line"),
        ({"headers": [{"name": "a", "value": "x"}, {"name": "A", "value": "y"}]}, "each header must be given once"),
        ({"body": {"model": "other"}}, "model may not be given"),
        ({"body": {"stream": True}}, "stream may not be given"),
        ({"omit": ["messages"]}, "must be max_tokens, temperature"),
    ],
)
def test_what_an_endpoint_is_sent_has_bounds(more, says):
    (fault,) = faults(teacher={"endpoint": {"url": "https://x/v1", "model": "m", **more}})
    assert fault.startswith("spec.teacher.endpoint")
    assert says in fault
    assert "sk-1" not in fault
