"""The CustomResourceDefinition from ``api``: a structural schema with every bound, and the rules of ``crd_rules``.

``make generate`` writes the file; a test compares it with what this would write. Scalars carry their defaults, so that
a part that is written down is shown whole and rules may rely on it. A part that is left out stays left out: hundreds of
lines of defaults would hide the few that were meant, and freeze in etcd what a newer version may choose better.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from score_distill.api import GROUP, KIND, VERSION, Spec, Status
from score_distill.api.base import INT_OR_STRING, LIST_TYPE
from score_distill.crd_rules import ROOT, RULES, rule, unchanged

Schema = dict[str, Any]

PLURAL = "distillationruns"
HEAD = "# Generated from src/score_distill/api/ by make generate.\n"
SUCCEEDED = '.status.conditions[?(@.type=="Succeeded")]'
COLUMNS = {
    "Step": ".status.step",
    "Progress": ".status.progress",
    "Score": ".status.score",
    "Status": f"{SUCCEEDED}.status",
    "Reason": f"{SUCCEEDED}.reason",
}


def definition() -> Schema:
    spec, status = of_model(Spec), of_model(Status)
    spec["x-kubernetes-validations"] += unchanged()
    columns = [{"name": name, "type": "string", "jsonPath": path} for name, path in COLUMNS.items()]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": "One distillation: a teacher corrects a student, which learns from the corrections.",
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": spec,
                    "status": status,
                },
                "x-kubernetes-validations": ROOT,
            }
        },
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            *columns,
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    }
    names = {"plural": PLURAL, "singular": KIND.lower(), "kind": KIND, "listKind": f"{KIND}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {**names, "shortNames": ["drun"], "categories": ["distill"]},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def of_model(model: type[Spec] | type[Status]) -> Schema:
    """The structural schema of a model: no reference, no null, no keyword that Kubernetes refuses."""
    schema = model.model_json_schema(by_alias=True)
    return _structural({"$ref": f"#/$defs/{model.__name__}"}, {**schema["$defs"], model.__name__: schema})


def _structural(schema: Schema, definitions: Schema) -> Schema:
    schema, name = _resolved(schema, definitions)
    found = {key: schema[key] for key in KEPT if key in schema}
    if "const" in schema:  # a choice of one
        found["enum"] = [schema["const"]]
    if "description" in schema:
        found["description"] = " ".join(schema["description"].split())
    if isinstance(default := schema.get("default"), bool | int | float | str) or (
        isinstance(default, list) and default
    ):
        found["default"] = default
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if exclusive in schema:
            found |= {bound: schema[exclusive], exclusive: True}
    if schema.get(INT_OR_STRING):
        del found["type"]
    if "items" in schema:
        found["items"] = _structural(schema["items"], definitions)
        found.setdefault(LIST_TYPE, "atomic")
    if "properties" in schema:
        found["properties"] = {key: _structural(one, definitions) for key, one in schema["properties"].items()}
    rules = list(RULES.get(name, ()))
    for pattern, one in schema.get("patternProperties", {}).items():
        found["additionalProperties"] = _structural(one, definitions)
        rules.append(rule(f"self.all(key, key.matches({json.dumps(pattern)}))", f"each key must match {pattern}"))
    if rules:
        found["x-kubernetes-validations"] = rules
    return found


KEPT = (
    "type",
    "format",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    INT_OR_STRING,
    LIST_TYPE,
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
)


def _resolved(schema: Schema, definitions: Schema) -> tuple[Schema, str]:
    """``schema`` with what it refers to in place, and the name of the model that this is, if it is one."""
    name = ""
    while "$ref" in schema or "anyOf" in schema:
        aside = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            schema = definitions[name] | aside
        else:
            schema = next(one for one in schema["anyOf"] if one.get("type") != "null") | aside
    return schema, name


class _Dumper(yaml.SafeDumper):
    """YAML whose bare words are text for everybody: y and n are booleans to kubectl and Helm, not to PyYAML."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if text.lower() in ("y", "n") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def render() -> str:
    plain = json.loads(json.dumps(definition()))
    return HEAD + str(yaml.dump(plain, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True))


def main(arguments: list[str]) -> None:
    path = Path(arguments[0])
    path.parent.mkdir(exist_ok=True)
    path.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
