"""The committed CRD is what the API gives now, and nothing in it is without a bound."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from score_distill.api import FREE
from score_distill.crd import definition, render
from score_distill.crd_rules import RULES, unchanged
from score_distill.manifest import read

ROOT = Path(__file__).parents[2]
FILE = ROOT / "crds" / "distill.score.dev_distillationruns.yaml"
EXAMPLES = sorted((ROOT / "examples" / "kubernetes").glob("*.yaml"))
MOST_BYTES = 150_000


def parts(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from parts(below, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from parts(schema[name], f"{path}[]")


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, Any]]:
    root = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return {path: one for name in ("spec", "status") for path, one in parts(root[name], name)}


def test_no_word_of_the_file_is_a_boolean_to_kubectl() -> None:
    words = [line.strip(" -:") for line in FILE.read_text(encoding="utf-8").splitlines()]
    assert "'n'" in words
    assert not {"y", "n", "Y", "N"} & set(words)


def test_the_file_is_up_to_date_and_small() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text == render(), "run make generate"
    assert len(text.encode()) < MOST_BYTES
    assert yaml.safe_load(text)["metadata"]["name"] == "distillationruns.distill.score.dev"


def test_nothing_is_without_a_bound(schemas: dict[str, dict[str, Any]]) -> None:
    unbounded = [path for path, one in schemas.items() if not bounded(one)]
    assert unbounded == []


def bounded(one: dict[str, Any]) -> bool:
    if "x-kubernetes-int-or-string" in one:
        return {"minimum", "maximum", "maxLength", "pattern"} <= set(one)
    match one["type"]:
        case "object":
            return "properties" in one or "maxProperties" in one
        case "array":
            return {"maxItems", "x-kubernetes-list-type"} <= set(one)
        case "string":
            return bool({"maxLength", "enum"} & set(one)) or one.get("format") == "date-time"
        case "integer" | "number":
            return {"minimum", "maximum"} <= set(one)
        case kind:
            return bool(kind == "boolean")


def test_the_schema_is_structural(schemas: dict[str, dict[str, Any]]) -> None:
    refused = {"$ref", "$defs", "anyOf", "allOf", "title", "const", "patternProperties", "propertyNames"}
    assert [path for path, one in schemas.items() if refused & set(one)] == []


def test_every_field_of_a_spec_says_what_it_is_for(schemas: dict[str, dict[str, Any]]) -> None:
    fields = [path for path in schemas if path.startswith("spec.") and not path.endswith("[]")]
    silent = [path for path in fields if "description" not in schemas[path] and schemas[path].get("type") != "object"]
    assert silent == []


def test_parts_that_are_left_out_stay_left_out(schemas: dict[str, dict[str, Any]]) -> None:
    assert [path for path, one in schemas.items() if one.get("type") == "object" and "default" in one] == []
    assert schemas["spec.method.rl.groupSize"]["default"] == 16


def test_a_rule_guards_each_field_that_may_not_change(schemas: dict[str, dict[str, Any]]) -> None:
    guarded = {f"spec{one['fieldPath']}" for one in unchanged()}
    assert guarded <= set(schemas)
    assert {"spec.method.rl.groupSize", "spec.seed", "spec.tasks.eval", "spec.teacher.endpoint.url"} <= guarded
    assert guarded & FREE == set()
    assert "spec.teacher.concurrency" not in guarded


def test_every_table_of_rules_belongs_to_a_part(schemas: dict[str, dict[str, Any]]) -> None:
    used = [one["rule"] for schema in schemas.values() for one in schema.get("x-kubernetes-validations", ())]
    assert [name for name, rules in RULES.items() if rules[0]["rule"] not in used] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=[one.name for one in EXAMPLES])
def test_an_example_for_a_cluster_is_a_good_manifest(example: Path) -> None:
    assert read(example).spec.artifacts.credentials_secret == "s3"
