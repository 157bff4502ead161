"""Faulty manifests, one fault each: what ``manifest.parse`` and the API server must both refuse.

A fault is a path in ``good()``, a value for it, and words of the API server's message. Those of single fields are
derived from the CRD; ``ONLY_IN_A_CLUSTER`` are right on one machine.
"""

from collections.abc import Iterator
from typing import Any

from score_distill.crd import definition

Fault = tuple[str, Any, str]


def good() -> dict[str, Any]:
    """A manifest that a cluster takes."""
    return {
        "apiVersion": "distill.score.dev/v1alpha1",
        "kind": "DistillationRun",
        "metadata": {"name": "good"},
        "spec": {
            "student": {"model": "hf://org/student"},
            "teacher": {"model": "s3://models/teacher"},
            "tasks": {
                "train": {"uri": "s3://data/train.jsonl"},
                "eval": [{"name": "test", "uri": "s3://data/test.jsonl"}],
            },
            "artifacts": {"uri": "s3://runs"},
        },
    }


def searching(search: dict[str, Any]) -> dict[str, Any]:
    """The spec of ``good()`` with the tool search."""
    spec: dict[str, Any] = good()["spec"]
    return spec | {"tools": ["python", "search"], "search": search}


ON_POLICY = ["OnPolicyDistillation"]


def distilling(**spec: Any) -> dict[str, Any]:
    """The spec of ``good()`` with on-policy distillation as a control, and ``spec`` laid over it."""
    return good()["spec"] | {"method": {"rl": {"controls": ON_POLICY}}} | spec


def holding(most: int, **gpus: int) -> dict[str, Any]:
    """The spec of ``good()`` with GPUs by role, and ``most`` of them in the budget."""
    return good()["spec"] | {
        "resources": {role: {"gpus": count} for role, count in gpus.items()},
        "budget": {"gpus": most},
    }


def changed(path: str, value: Any, base: dict[str, Any] | None = None) -> dict[str, Any]:
    """``base`` with ``value`` at a path such as ``spec.tasks.eval.0.uri``."""
    names = path.split(".")
    return _set(base or good(), names, value)


def _set(data: Any, names: list[str], value: Any) -> Any:
    if not names:
        return value
    name, *rest = names
    if isinstance(data, list):
        return [_set(one, rest, value) if i == int(name) else one for i, one in enumerate(data)]
    return data | {name: _set(data.get(name, {}), rest, value)}


BETWEEN_FIELDS: list[Fault] = [
    ("spec.teacher", {}, "exactly one of model, endpoint"),
    (
        "spec.teacher",
        {"model": "hf://a/b", "endpoint": {"url": "https://x/v1", "model": "m"}},
        "exactly one of model, endpoint",
    ),
    ("spec.teacher", {"ref": {"name": "c"}}, 'unknown field "spec.teacher.ref"'),
    ("spec.teacher", {"model": "hf://a/b", "ref": {"name": "c"}}, 'unknown field "spec.teacher.ref"'),
    (
        "spec.tasks.eval",
        [{"name": "a", "uri": "s3://d/1"}, {"name": "a", "uri": "s3://d/2"}],
        "Duplicate value",
    ),
    ("spec.tasks.eval.0.uri", "s3://data/train.jsonl", "training tasks"),
    ("spec.method.split", {"coldStart": 0.9, "dev": 0.05}, "leave less than 5 %"),
    ("spec.method.split", {"dev": 0}, "split.dev must be more than 0"),
    ("spec.method.agent", {"maxSteps": 1}, "maxSteps must be at least 2"),
    ("spec.method.agent", {"stepTokens": 8192}, "student.serving.contextLength"),
    ("spec.student.serving", {"contextLength": 1024}, "student.serving.contextLength"),
    ("spec.student.serving", {"dtype": "float32"}, "needs resources.trainer.dtype float32"),
    ("spec.resources.trainer", {"gpus": 8, "processesPerNode": 1}, "processesPerNode must be gpus"),
    ("spec.student.serving.args", [""], "spec.student.serving.args[0]"),
    ("spec.teacher.serving", {"contextLength": 1024}, "teacher.serving.contextLength"),
    ("spec.method.rl.rewards", {"final": 0.1}, "rewards must not grow"),
    ("spec.method.rl.rewards", {"avoid": 0.6}, "rewards must not grow"),
    ("spec.method.rl", {"enabled": False, "controls": ["FullHorizon"]}, "controls needs enabled"),
    ("spec.method.rl.controls", ["FullHorizon", "FullHorizon"], "spec.method.rl.controls"),
    ("spec.method.rl", {"controls": ON_POLICY, "sampling": {"temperature": 0.7}}, "temperature 1 and topP 1"),
    ("spec.method.rl", {"controls": ON_POLICY, "sampling": {"topP": 0.9}}, "temperature 1 and topP 1"),
    ("spec", distilling(teacher={"endpoint": {"url": "https://x/v1", "model": "m"}}), "needs teacher.model"),
    (
        "spec",
        distilling(student={"model": "hf://a/b", "serving": {"contextLength": 16384}}),
        "at least student.serving.contextLength",
    ),
    ("spec.tools", ["read"], "tools must contain python"),
    ("spec.tools", ["python", "python"], "Duplicate value"),
    ("spec.method.agent.libraries", ["numpy", "numpy"], "Duplicate value"),
    ("spec.tools", ["python", "search"], "search must be given when tools contains search"),
    ("spec.search", {"corpus": "s3://data/pages"}, "search must be given when tools contains search, and only then"),
    ("spec", searching({}), "exactly one of corpus, endpoint"),
    ("spec", searching({"corpus": "s3://a/b", "endpoint": {"url": "https://x"}}), "exactly one of corpus, endpoint"),
    ("spec", searching({"endpoint": {"url": "x"}}), "spec.search.endpoint.url"),
    ("spec", searching({"corpus": "s3://a/b", "blocked": ["*.example.com"]}), "spec.search.blocked[0]"),
    ("spec.scheduling.tolerations", [{"value": "x"}], "key must be given"),
    ("spec.scheduling.tolerations", [{"operator": "Exists", "value": "x"}], "value must be left out"),
    ("spec.scheduling.tolerations", [{"key": "a", "tolerationSeconds": 5}], "tolerationSeconds needs"),
    ("spec.scheduling.nodeSelector", {"a b": "c"}, "each key must match"),
    ("spec.scheduling.nodeSelector", {"a": "b c"}, "spec.scheduling.nodeSelector.a"),
    ("spec.scheduling.nodeSelector", {f"k{i}": "v" for i in range(17)}, "spec.scheduling.nodeSelector"),
    ("spec", holding(7, teacher=4, student=4), "budget.gpus must be at least what step mentor needs at once"),
    ("spec", holding(8, teacher=4, student=1, rollout=4), "what step mentor needs"),
    ("spec", holding(7, trainer=8), "what step warmup needs"),
    ("spec", holding(12, teacher=4, student=1, trainer=8), "what step rl needs"),
    ("spec", holding(0, student=1), "what step mentor needs"),
    ("spec.budget.teacherTokens", "50 M", "spec.budget.teacherTokens"),
    ("spec.budget.teacherTokens", "0", "spec.budget.teacherTokens"),
    ("spec.budget.teacherTokens", "2000000G", "spec.budget.teacherTokens"),
    *(
        (
            f"spec.resources.{role}",
            {"requests": {name: more}, "limits": {name: less}},
            f"requests.{name} must be at most",
        )
        for role in ("teacher", "student", "rollout", "trainer")
        for name, more, less in (("cpu", 2, "500m"), ("memory", "2Gi", "2G"), ("ephemeralStorage", "1.5Ki", "1k"))
    ),
]

ONLY_IN_A_CLUSTER: list[Fault] = [
    *(
        (path, value, "use s3://, hf:// or pvc:// in a cluster")
        for path in ("spec.student.model", "spec.teacher.model")
        for value in ("models/here", "file:///models", "/models", "../up")
    ),
    *(
        (path, value, "use s3:// or pvc:// in a cluster")
        for path in ("spec.tasks.train.uri", "spec.tasks.eval.0.uri")
        for value in ("data/here", "file:///data", "/data", "../up", "hf://a/b")
    ),
    *(
        ("spec.artifacts.uri", value, "use s3:// in a cluster")
        for value in ("runs", "file:///r", "hf://a/b", "pvc://c/d")
    ),
    *(
        ("spec", searching({"corpus": value}), "use s3:// or pvc:// in a cluster")
        for value in ("pages", "file:///pages", "hf://a/b")
    ),
    ("metadata.name", "a" * 41, "metadata.name must have at most 40 characters"),
    ("metadata.name", "7b-to-1b", "metadata.name must begin with a letter"),
]


def out_of_bounds() -> Iterator[Fault]:
    """Each scalar field of the spec beyond each of its bounds, and of another type."""
    root = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for path, schema in _scalars(root, "spec"):
        for value in _wrong(schema):
            yield path, value, path.replace(".0", "[0]")


def _scalars(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, below in schema.get("properties", {}).items():
        if name in ("ref", "endpoint"):
            continue
        where = f"{path}.{name}"
        if below.get("type") == "array":
            if where == "spec.tasks.eval":
                yield from _scalars(below["items"], f"{where}.0")
        elif "properties" in below:
            yield from _scalars(below, where)
        elif below.get("type") != "object":
            yield where, below


def _wrong(schema: dict[str, Any]) -> Iterator[Any]:
    if "x-kubernetes-int-or-string" in schema:
        yield from ([4], "4 x")
        return
    yield {"boolean": "perhaps", "string": 5}.get(schema["type"], "many")
    if "enum" in schema:
        yield "Neither"
    elif schema["type"] == "string":
        yield "a" * (schema["maxLength"] + 1)
        yield " "
    if "minimum" in schema:
        yield schema["minimum"] - (0 if schema.get("exclusiveMinimum") else 1)
        yield schema["maximum"] + 1


UNKNOWN = [
    "spec.method.rl.groupsize",
    "spec.method.rl.group_size",
    "spec.resources.trainer.gpu",
    "spec.teacher.apiKey",
    "spec.zzz",
    "spec.scheduling.queue",
    "spec.images.teacher",
]
