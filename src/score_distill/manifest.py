"""Reading a DistillationRun: a YAML file or an object in, the run or every fault of it at once out.

A fault is one line: where (camelCase path), what was found, what would be right. Bounds and reasons come from the
fields of ``api``; what no single field can know (``contradictions``) is checked here. Nothing outside the manifest
is looked at: whether files, models and endpoints can be used is ``executors/local/preflight.py``.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from score_distill.api import DistillationRun, Gpus, Spec, gpus_for
from score_distill.api.base import IMAGE, LABEL, LABEL_VALUE, QUALIFIED, QUANTITY, SUBDOMAIN
from score_distill.api.models import HEADER, HEADER_VALUE
from score_distill.api.search import SITE
from score_distill.contract import ON_POLICY
from score_distill.errors import BadInput

Loc = tuple[int | str, ...]

PATTERNS = {
    LABEL: "must be lower-case letters, digits and -, neither first nor last a -",
    SUBDOMAIN: "must be lower-case letters, digits, - and ., neither first nor last a - or .",
    QUALIFIED: "must be a name of letters, digits, -, _ and ., after a domain and a / if it has one",
    LABEL_VALUE: "must be letters, digits, -, _ and ., first and last a letter or digit",
    QUANTITY: "must be a quantity such as 2, 500m or 4Gi",
    IMAGE: "must be an image such as registry.example/name:tag",
    SITE: "must be a site such as example.com, or the beginning of an address such as example.com/data",
    HEADER: "must be letters, digits, - and _, first a letter or digit",
    HEADER_VALUE: "must be plain letters of one line, without spaces at its ends",
    r"^\S+$": "must not contain spaces",
    r"^https?://\S+$": "must begin with http:// or https://",
}


class ManifestError(BadInput):
    """Every fault of a manifest, one a line in ``faults``."""

    def __init__(self, faults: tuple[str, ...], source: str = "") -> None:
        self.faults = faults
        head = f"{source or 'manifest'}: {len(faults)} fault{'s' * (len(faults) > 1)}"
        super().__init__("\n".join((head, *(f"  {fault}" for fault in faults))))


def read(path: Path) -> DistillationRun:
    """The run in a YAML (or JSON) file; ManifestError names file, line and column when it is not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ManifestError((f"{path}: {reason}; give the path of a DistillationRun in YAML",)) from error
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ManifestError((f"{place}: {error.problem or error.context}",), str(path)) from error
    except yaml.YAMLError as error:
        raise ManifestError((f"{path}: {error}",), str(path)) from error
    if len(documents) != 1:
        raise ManifestError((f"{path}: {len(documents)} YAML documents; give exactly one DistillationRun",), str(path))
    return parse(documents[0], str(path))


def parse(data: object, source: str = "") -> DistillationRun:
    """The run in an object as YAML or Kubernetes gives it; ManifestError with every fault otherwise."""
    if not isinstance(data, dict):
        raise ManifestError((f"{_shown(data)}; must be a mapping with apiVersion, kind, metadata and spec",), source)
    data = {key: value for key, value in data.items() if key != "status"}
    faults = dict(_faults(data))
    if faults:
        raise ManifestError(tuple(faults[loc] for loc in faults), source)
    run = _validated(data)
    if against := contradictions(run):
        raise ManifestError(against, source)
    return run


def contradictions(run: DistillationRun) -> tuple[str, ...]:
    """What fields that are right one by one say against each other."""
    spec, method = run.spec, run.spec.method
    scored = "OnPolicyDistillation" in method.rl.controls
    faults: list[tuple[bool, str]] = [
        (
            method.agent.plan and method.agent.max_steps < 2,
            f"spec.method.agent.maxSteps: {method.agent.max_steps}; must be at least 2 when plan is true "
            "(the plan is the first step, and nothing would be done)",
        ),
        (
            "python" not in spec.tools,
            f"spec.tools: {list(spec.tools)}; must contain python (steps are Python code that calls the other tools)",
        ),
        (len(set(spec.tools)) < len(spec.tools), f"spec.tools: {list(spec.tools)}; must name each tool once"),
        (
            "search" in spec.tools and spec.search is None,
            "spec.search: missing; must be given when spec.tools has search (what is searched)",
        ),
        (
            "search" not in spec.tools and spec.search is not None,
            f"spec.tools: {list(spec.tools)}; must contain search when spec.search is given",
        ),
        (
            method.agent.step_tokens >= spec.student.serving.context_length,
            f"spec.method.agent.stepTokens: {method.agent.step_tokens}; must be less than "
            f"spec.student.serving.contextLength ({spec.student.serving.context_length})",
        ),
        (
            method.rl.enabled and method.split.dev == 0,
            "spec.method.split.dev: 0; must be more than 0 while rl.enabled is true "
            "(RL chooses its checkpoint by the dev tasks)",
        ),
        (
            spec.teacher.endpoint is None and method.agent.step_tokens >= spec.teacher.serving.context_length,
            f"spec.method.agent.stepTokens: {method.agent.step_tokens}; must be less than "
            f"spec.teacher.serving.contextLength ({spec.teacher.serving.context_length})",
        ),
        (
            spec.student.serving.dtype == "float32" != spec.resources.trainer.dtype,
            f"spec.student.serving.dtype: float32; must be bfloat16, or spec.resources.trainer.dtype float32 (weights "
            f"that were trained in {spec.resources.trainer.dtype} do not compute the same in float32)",
        ),
        (
            scored and spec.teacher.model is None,
            "spec.method.rl.controls: OnPolicyDistillation; needs spec.teacher.model (the tokenizer of an endpoint "
            "or of a shared Teacher cannot be compared with the student's)",
        ),
        (
            scored and spec.teacher.serving.context_length < spec.student.serving.context_length,
            f"spec.teacher.serving.contextLength: {spec.teacher.serving.context_length}; must be at least "
            f"spec.student.serving.contextLength ({spec.student.serving.context_length}) with "
            "spec.method.rl.controls OnPolicyDistillation (the teacher scores whole conversations of the student)",
        ),
    ]
    faults += [
        (
            one.uri == spec.tasks.train.uri,
            f"spec.tasks.eval[{i}].uri: {one.uri}; must not be the training tasks (a held-out set is needed)",
        )
        for i, one in enumerate(spec.tasks.eval)
    ]
    name, needed = max(_gpus(spec), key=lambda one: one[1].total)
    most = spec.budget.gpus
    if most is not None and needed.total > most:
        told = f"spec.budget.gpus: {most}; must be at least what step {name} needs at once: {needed}"
        return (*(text for wrong, text in faults if wrong), told)
    return tuple(text for wrong, text in faults if wrong)


def _gpus(spec: Spec) -> Iterator[tuple[str, Gpus]]:
    """What those steps need at once of which no other needs more."""
    judges, rl = spec.teacher.prompt != "Bare", spec.method.rl
    yield "mentor", gpus_for(spec, teacher=True, student=True, workers=spec.resources.rollout.parallelism)
    yield "warmup", gpus_for(spec, trainer=True)
    if rl.enabled:
        yield "rl", gpus_for(spec, teacher=judges, student=True, trainer=True)
    if "OnPolicyDistillation" in rl.controls:
        yield ON_POLICY, gpus_for(spec, teacher=True, student=True, trainer=True)


def _validated(data: dict[str, Any]) -> DistillationRun:
    return DistillationRun.model_validate(data, by_alias=True, by_name=False)


def _faults(data: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Faults by place. A fault hides the checks of the fields around it, so faulty fields are taken out and the rest
    is looked at again; what only the taking out brought about is not a fault."""
    known: set[Loc] = set()
    while True:
        try:
            _validated(data)
            return
        except ValidationError as error:
            found: dict[Loc, dict[str, Any]] = {one["loc"]: dict(one) for one in error.errors(include_url=False)}
        new = {
            loc: one for loc, one in found.items() if loc not in known and not _follows(loc, one["type"], known, found)
        }
        for loc, one in new.items():
            yield loc, _line(loc, one)
        known |= set(new)
        removable = [loc for loc, one in new.items() if one["type"] not in ("missing", "value_error")]
        if not removable:
            return
        for loc in removable:
            data = _without(data, loc)


def _follows(loc: Loc, kind: str, known: set[Loc], found: Mapping[Loc, object]) -> bool:
    """Whether a fault only says what faults below it, or the taking out of those before, already say."""
    if kind == "missing":
        return bool(known)
    if kind == "too_short":
        return any(len(other) > len(loc) and other[: len(loc)] == loc for other in found)
    taken = (_field(earlier)[1] for earlier in known if earlier[:-1] == loc)
    return any(field is not None and field.default in (None, PydanticUndefined) for field in taken)


def _without(data: Any, loc: Loc) -> Any:
    """``data`` without the value at ``loc``; an element of a list takes the whole list with it."""
    key, rest = loc[0], loc[1:]
    if not isinstance(data, dict) or key not in data:
        return data
    if not rest or not isinstance(data[key], dict):
        return {name: value for name, value in data.items() if name != key}
    return data | {key: _without(data[key], rest)}


def _line(loc: Loc, fault: Mapping[str, Any]) -> str:
    owner, field = _field(loc)
    if fault["type"] == "extra_forbidden":
        names = [info.alias or name for name, info in owner.model_fields.items()] if owner else []
        near = difflib.get_close_matches(str(loc[-1]), names, 1, 0.5) or [
            name for name in names if name.lower() == str(loc[-1]).replace("_", "").lower()
        ]
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(names)}"
        return f"{_path(loc)}: unknown field; {hint}"
    why = f" ({field.description})" if field and field.description else ""
    if fault["type"] == "missing":
        return f"{_path(loc)}: missing; must be given{why}"
    if fault["type"] == "value_error":
        return f"{_path(loc)}: {_shown(fault['input'])}; {fault['ctx']['error']}"
    text_for_mapping = fault["type"] == "model_type" and isinstance(fault["input"], str)
    found = "text" if text_for_mapping else _shown(fault["input"])
    return f"{_path(loc)}: {found}; {_right(fault)}{why}"


def _right(fault: Mapping[str, Any]) -> str:
    """What would be right, from the type of the fault and the bound that it carries."""
    bounds = fault.get("ctx", {})
    match fault["type"]:
        case "greater_than_equal":
            return f"must be at least {bounds['ge']}"
        case "greater_than":
            return f"must be more than {bounds['gt']}"
        case "less_than_equal":
            return f"must be at most {bounds['le']}"
        case "less_than":
            return f"must be less than {bounds['lt']}"
        case "literal_error" | "enum":
            return f"must be {bounds['expected']}".replace("'", "")
        case "int_type" | "int_parsing" | "int_from_float" | "int_parsing_size":
            return "must be a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return "must be a number"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "string_type":
            return "must be text (in quotes, if YAML reads it as something else)"
        case "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {bounds['max_length']} characters"
        case "string_pattern_mismatch":
            return PATTERNS.get(bounds["pattern"], f"must match {bounds['pattern']}")
        case "too_short":
            return f"must have at least {bounds['min_length']} item{'s' * (bounds['min_length'] != 1)}"
        case "too_long":
            return f"must have at most {bounds['max_length']} items"
        case "tuple_type" | "list_type":
            return "must be a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a mapping"
        case _:
            return str(fault["msg"])


def _field(loc: Loc) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The model that holds the last name of ``loc``, and that field of it; None where the API knows none."""
    owner: type[BaseModel] | None = DistillationRun
    field: FieldInfo | None = None
    for i, name in enumerate(loc):
        if isinstance(name, int):
            continue
        fields = {info.alias or key: info for key, info in owner.model_fields.items()} if owner else {}
        field = fields.get(name)
        if i < len(loc) - 1:
            owner = model_of(field.annotation) if field else None
    return owner, field


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as ``Model``, ``Model | None`` or ``tuple[Model, ...]``, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_of(part))), None)


def _path(loc: Loc) -> str:
    return "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in loc).removeprefix(".")


def _shown(value: object) -> str:
    """A value on one line, at most 60 characters; of a mapping the names and numbers alone, it may hold a secret."""
    if isinstance(value, dict):
        parts = (f"{key}: {one if isinstance(one, int | float) else '…'}" for key, one in value.items())
        text = f"{{{', '.join(parts)}}}"
    else:
        text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Loader(yaml.SafeLoader):
    """YAML whose mappings may not name a key twice: the first value would be lost without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(str(key.value))
        return node
