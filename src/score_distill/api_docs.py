"""docs/api.md from ``api``: every field with its type, bounds, default and reason. Pure but for ``main``.

``make generate`` writes the file; a test compares it with what this would write.
"""

import sys
import types
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, JsonValue, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from score_distill.api import FREE, GROUP, KIND, VERSION, Spec, Status
from score_distill.manifest import PATTERNS, model_of

HEAD = f"""# The API

A `{KIND}` (`{GROUP}/{VERSION}`) says everything about a distillation. The same file runs on one
machine (`score-distill run FILE`) and on Kubernetes. This page is generated from `src/score_distill/api/` by
`make generate`.

```yaml
apiVersion: {GROUP}/{VERSION}
kind: {KIND}
metadata: {{name: first}}
spec:
  student: {{model: hf://HuggingFaceTB/SmolLM2-135M-Instruct}}
  teacher:
    endpoint: {{url: http://127.0.0.1:8000/v1, model: my-teacher, apiKeySecret: {{name: teacher, key: api-key}}}}
  tasks:
    train: {{uri: data/train.jsonl, format: gsm8k}}
    eval: [{{name: test, uri: data/test.jsonl, format: gsm8k}}]
  artifacts: {{uri: runs}}
```

`score-distill check FILE` names every fault of a manifest at once, each with its path, what was found and what would
be right; it also looks at the files, models and endpoint that the run will use. Unknown fields are faults.

**URIs.** `hf://ORG/NAME[@REVISION]` (models), `s3://BUCKET/PREFIX`, `pvc://CLAIM/PATH`, `file:///PATH`, or a path,
which starts at the folder of the manifest.

**Counts** may carry k, M or G: `50M`.

**Secrets** are named, never written down: on one machine the key KEY of Secret NAME is the file
`$SCORE_SECRETS/NAME/KEY`, or the variable `NAME_KEY` in upper case with `_` for anything else than letters and digits
(Secret `teacher`, key `api-key`: `TEACHER_API_KEY`).

**Task files** are JSON Lines in UTF-8, one task a line, plain or gzip. `qa`: `{{"id", "question", "answer",
"documents"?}}`; `gsm8k`: `{{"question", "answer"}}` with the answer after `####`; `chat`: `{{"id"?,
"messages": [...]}}`, the last message being the answer. Without an id, a digest of the question is the id, and the same
question again is dropped.

**What may change** while a run is under way: {", ".join(f"`{path}`" for path in sorted(FREE))}.
Anything else would mix results of two runs and is refused; give such a run another `metadata.name`.

**On one machine** `spec.scheduling`, `spec.images`, `spec.ttlSecondsAfterFinished`, `spec.ttlSecondsAfterFailed`,
`spec.stallSeconds`, `spec.pendingDeadlineSeconds`, `spec.budget.gpuHours` and the requests, limits and GPUs of
`spec.resources` are accepted and ignored; a shared Teacher and more than one node are refused.

**Beyond the bounds of single fields**: `spec.tools` contains `python`, and `search` exactly when `spec.search`
is given; `agent.maxSteps` is at least 2 when `agent.plan` is true; `agent.stepTokens` is less than the context of
student and teacher; `split.dev` is more than 0 while `rl.enabled` is true; no eval set is the training file.
"""

NAMES: dict[object, str] = {
    int: "whole number",
    float: "number",
    bool: "`true`, `false`",
    str: "text",
    datetime: "time",
    JsonValue: "anything",
}

STATUS = """# Status

Of a run in a cluster, written by the operator alone. The reasons of its conditions are in
[operations.md](operations.md).
"""


def render() -> str:
    return "\n".join([HEAD, *_section("spec", Spec), STATUS, *_section("status", Status), ""])


def _section(path: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {path}\n"
    if model.__doc__:
        yield f"{model.__doc__.strip()}\n"
    yield "| field | value | default | meaning |"
    yield "|---|---|---|---|"
    below: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        title = field.alias or name
        inner = model_of(field.annotation)
        meaning = field.description or (inner and inner.__doc__) or ""
        yield f"| `{title}` | {_value(field)} | {_default(field, inner)} | {meaning.strip()} |"
        if inner is not None:
            suffix = "[]" if get_origin(field.annotation) is tuple else ""
            below.append((f"{path}.{title}{suffix}", inner))
    yield ""
    for where, inner in below:
        yield from _section(where, inner)


def _value(field: FieldInfo) -> str:
    bounds = list(field.metadata)
    return _type(field.annotation, bounds)


def _type(annotation: Any, bounds: list[Any]) -> str:
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _type(inner, [*bounds, *_flat(more)])
    if get_origin(annotation) in (Union, types.UnionType):
        return _type(next(one for one in get_args(annotation) if one is not type(None)), bounds)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    if get_origin(annotation) is dict:
        key, value = (_type(one, []) for one in get_args(annotation))
        return f"mapping of {key} to {value}{_size(bounds, 'entries', ', ')}"
    if get_origin(annotation) is tuple:
        element = get_args(annotation)[0]
        what = "mappings" if model_of(element) else _type(element, [])
        return f"list of {what}{_size(bounds, 'items', ', ')}"
    if model_of(annotation) is not None:
        return "mapping"
    return f"{NAMES[annotation]}{_range(bounds)}{_size(bounds, 'characters')}{_pattern(bounds)}"


def _flat(metadata: list[Any]) -> Iterator[Any]:
    for one in metadata:
        yield from one.metadata if isinstance(one, FieldInfo) else [one]


def _range(bounds: list[Any]) -> str:
    words = []
    for one in bounds:
        match one:
            case Ge(ge=low):
                words.append(f"≥ {_number(low)}")
            case Gt(gt=low):
                words.append(f"> {_number(low)}")
            case Le(le=high):
                words.append(f"≤ {_number(high)}")
            case Lt(lt=high):
                words.append(f"< {_number(high)}")
    return f" {', '.join(words)}" if words else ""


def _size(bounds: list[Any], what: str, before: str = " of ") -> str:
    low = next((one.min_length for one in bounds if isinstance(one, MinLen)), 0)
    high = next((one.max_length for one in bounds if isinstance(one, MaxLen)), None)
    for one in bounds:
        if isinstance(one, StringConstraints):
            low, high = one.min_length or low, one.max_length or high
    return f"{before}{low or 'up'} to {high} {what}" if high else ""


def _pattern(bounds: list[Any]) -> str:
    for one in bounds:
        pattern = getattr(one, "pattern", None)
        if pattern:
            return f", {PATTERNS.get(str(pattern), f'must match `{pattern}`').removeprefix('must be ')}"
    return ""


def _number(value: Any) -> str:
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else f"{value:g}"


def _default(field: FieldInfo, inner: type[BaseModel] | None) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        assert inner is not None
        changed = field.default.model_dump(by_alias=True, exclude_defaults=True)
        return f"`{{{', '.join(f'{name}: {value}' for name, value in changed.items())}}}`" if changed else ""
    if field.default is None:
        return "none"
    if field.default == "":
        return "empty"
    if field.default == {}:
        return "`{}`"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(map(str, field.default))}]`"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`"


def main(arguments: list[str]) -> None:
    Path(arguments[0]).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
