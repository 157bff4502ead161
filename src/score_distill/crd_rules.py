"""What no single field of the API can check, as CEL: between fields, and between a run and what it was before.

The same is checked in Python by the model validators of ``api`` and by ``manifest.contradictions``; a cluster checks it
without any webhook. Optional syntax (``.?``) needs Kubernetes 1.29 or newer.
"""

import json
from collections.abc import Iterator
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from score_distill.api import FREE, Agent, Rl, Serving, Spec, Split
from score_distill.api.models import OWN_HEADERS, SECRET_HEADERS
from score_distill.manifest import model_of

Rule = dict[str, str]

MODELS = "use s3://, hf:// or pvc:// in a cluster"
DATA = "use s3:// or pvc:// in a cluster"
STORES = "use s3:// in a cluster"
LONGEST_NAME = 40


def rule(expression: str, message: str, field: str = "") -> Rule:
    """``field`` is the path, from where the rule stands, of the field that a fault is shown at."""
    return {"rule": expression, "message": message} | ({"fieldPath": f".{field}"} if field else {})


def _remote(field: str, schemes: str = "s3|hf|pvc", message: str = MODELS) -> Rule:
    return rule(f"!has(self.{field}) || self.{field}.matches('^({schemes})://')", f"{field}: {message}", field)


def _within_limits() -> list[Rule]:
    rules = []
    for name in ("cpu", "memory", "ephemeralStorage"):
        asked, most = f"self.requests.{name}", f"self.limits.{name}"
        given = f"!has(self.requests) || !has(self.limits) || !has({asked}) || !has({most})"
        within = f"quantity(string({asked})).compareTo(quantity(string({most}))) <= 0"
        rules.append(rule(f"{given} || {within}", f"requests.{name} must be at most limits.{name}", "requests"))
    return rules


def _fewer_step_tokens(role: str, unless: str = "") -> Rule:
    tokens = f"self.?method.?agent.?stepTokens.orValue({Agent().step_tokens})"
    context = f"self.{role}.?serving.?contextLength.orValue({Serving().context_length})"
    message = f"method.agent.stepTokens must be less than {role}.serving.contextLength"
    return rule(f"{unless}{tokens} < {context}", message)


def _context_of_teacher() -> Rule:
    context, least = (
        f"self.{role}.?serving.?contextLength.orValue({Serving().context_length})" for role in ("teacher", "student")
    )
    message = "teacher.serving.contextLength must be at least student.serving.contextLength with OnPolicyDistillation"
    return rule(f"!({SCORED}) || {context} >= {least}", message)


def _gpus_within_budget() -> list[Rule]:
    """For each of the steps that ``manifest`` knows to need the most."""
    sizes = "self.?resources.?{role}.?{field}.orValue({default})"
    teacher, student, trainer, worker = (
        sizes.format(role=role, field="gpus", default=0) for role in ("teacher", "student", "trainer", "rollout")
    )
    teacher = f"(has(self.teacher.model) ? {teacher} : 0)"
    trainer = f"{trainer} * {sizes.format(role='trainer', field='nodes', default=1)}"
    workers = f"{worker} * {sizes.format(role='rollout', field='parallelism', default=1)}"
    enabled = f"self.?method.?rl.?enabled.orValue({json.dumps(Rl().enabled)})"
    judges = "self.teacher.?prompt.orValue('') != 'Bare'"
    needed = {
        "mentor": f"{teacher} + {student} + {workers}",
        "warmup": trainer,
        "rl": f"({enabled} ? {student} + {trainer} + ({judges} || {SCORED} ? {teacher} : 0) : 0)",
    }
    return [
        rule(
            f"!has(self.budget) || !has(self.budget.gpus) || {sum_} <= self.budget.gpus",
            f"budget.gpus must be at least what step {step} needs at once",
            "budget.gpus",
        )
        for step, sum_ in needed.items()
    ]


# With ``has``: of a list behind ``.?`` the API server cannot bound the cost.
SCORED = (
    "has(self.method) && has(self.method.rl) && has(self.method.rl.controls) && "
    "self.method.rl.controls.exists(one, one == 'OnPolicyDistillation')"
)
ROOT = [
    rule(f"self.metadata.name.size() <= {LONGEST_NAME}", f"metadata.name must have at most {LONGEST_NAME} characters"),
    rule("self.metadata.name.matches('^[a-z]')", "metadata.name must begin with a letter, as names of Services do"),
]

RULES: dict[str, list[Rule]] = {
    "Student": [_remote("model")],
    "Teacher": [
        rule(
            "has(self.model) != has(self.endpoint)",
            "teacher: give exactly one of model, endpoint",
        ),
        _remote("model"),
    ],
    "Header": [
        rule("has(self.value) != has(self.secret)", "header: give exactly one of value, secret"),
        rule(
            f"!has(self.value) || !(self.name.lowerAscii() in {json.dumps(SECRET_HEADERS)})",
            "a header that holds a key must be given by secret, not by value",
            "value",
        ),
        rule(
            f"!(self.name.lowerAscii() in {json.dumps(OWN_HEADERS)})", "this header is set by the client itself", "name"
        ),
    ],
    "TaskSet": [_remote("uri", "s3|pvc", DATA)],
    "EvalSet": [_remote("uri", "s3|pvc", DATA)],
    "Search": [
        rule("has(self.corpus) != has(self.endpoint)", "search: give exactly one of corpus, endpoint"),
        _remote("corpus", "s3|pvc", DATA),
    ],
    "Tasks": [
        rule(
            "self.eval.all(one, one.uri != self.train.uri)",
            "eval: no uri may be that of the training tasks (a held-out set is needed)",
            "eval",
        )
    ],
    "Split": [rule("self.coldStart + self.dev < 0.95", "coldStart + dev leave less than 5 % of the tasks to mentor")],
    "Agent": [rule("!self.plan || self.maxSteps >= 2", "maxSteps must be at least 2 when plan is true", "maxSteps")],
    "Rewards": [
        rule("self.final >= self.key && self.key >= self.avoid", "rewards must not grow from final over key to avoid")
    ],
    "Rl": [
        rule(
            "self.enabled || !has(self.controls) || self.controls.size() == 0",
            "controls needs enabled: true (a control is compared with the student of RL)",
            "controls",
        ),
        rule(
            "!has(self.controls) || !self.controls.exists(one, one == 'OnPolicyDistillation') || "
            "!has(self.sampling) || self.sampling.temperature == 1.0 && self.sampling.topP == 1.0",
            "sampling must have temperature 1 and topP 1 with controls OnPolicyDistillation",
            "sampling",
        ),
    ],
    "Method": [
        rule(
            f"self.?split.?dev.orValue({Split().dev}) > 0.0 || !self.?rl.?enabled.orValue({json.dumps(Rl().enabled)})",
            "split.dev must be more than 0 while rl.enabled is true (RL chooses its checkpoint by the dev tasks)",
        )
    ],
    "Pod": _within_limits(),
    "Rollout": _within_limits(),
    "Trainer": [
        *_within_limits(),
        rule(
            "!has(self.gpus) || self.gpus == 0 || !has(self.processesPerNode) || self.processesPerNode == self.gpus",
            "processesPerNode must be gpus, or left out",
            "processesPerNode",
        ),
    ],
    "Toleration": [
        rule("has(self.key) || self.operator == 'Exists'", "key must be given unless operator is Exists"),
        rule("!has(self.value) || self.operator == 'Equal'", "value must be left out when operator is Exists", "value"),
        rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs effect NoExecute",
            "tolerationSeconds",
        ),
    ],
    "Artifacts": [_remote("uri", "s3", STORES)],
    "Spec": [
        rule("self.tools.exists(one, one == 'python')", "tools must contain python", "tools"),
        rule(
            "self.tools.exists(one, one == 'search') == has(self.search)",
            "search must be given when tools contains search, and only then",
            "tools",
        ),
        rule(
            "self.?student.?serving.?dtype.orValue('') != 'float32' || "
            "self.?resources.?trainer.?dtype.orValue('') == 'float32'",
            "student.serving.dtype float32 needs resources.trainer.dtype float32",
            "student.serving.dtype",
        ),
        _fewer_step_tokens("student"),
        _fewer_step_tokens("teacher", "has(self.teacher.endpoint) || "),
        rule(
            f"!({SCORED}) || has(self.teacher.model)",
            "method.rl.controls OnPolicyDistillation needs teacher.model (its tokenizer must be the student's)",
            "method.rl.controls",
        ),
        _context_of_teacher(),
        *_gpus_within_budget(),
    ],
}


Chain = tuple[tuple[str, FieldInfo], ...]


def unchanged() -> list[Rule]:
    """One rule for each field of a spec that may not change. The URI of the store is among them, though it is FREE: in
    a cluster a store has one name alone, and another name is another store."""
    rules = [("artifacts.uri", "self.artifacts.uri == oldSelf.artifacts.uri")]
    rules += [(".".join(name for name, _ in chain), _same(chain)) for chain in _settled((), Spec)]
    message = "may not change once the run exists; give such a run another metadata.name"
    return [rule(expression, f"{path} {message}", path) for path, expression in rules]


def _settled(above: Chain, model: type[BaseModel]) -> Iterator[Chain]:
    for name, field in model.model_fields.items():
        chain = (*above, (field.alias or name, field))
        if ".".join(("spec", *(name for name, _ in chain))) in FREE:
            continue
        inner = model_of(field.annotation)
        if inner is None or get_origin(field.annotation) is tuple:
            yield chain
        else:
            yield from _settled(chain, inner)


def _same(chain: Chain) -> str:
    """Whether a field is what it was; to write down the default that held already is no change.

    The API server cannot bound the cost of comparing optional texts and lists, so these are asked for with ``has``.
    """
    field = chain[-1][1]
    path, default = ".".join(name for name, _ in chain), _literal(field)
    if field.annotation in (bool, int, float):
        found = f"?{path.replace('.', '.?')}.orValue({default})"
        return f"self.{found} == oldSelf.{found}"
    new, old = f"self.{path}", f"oldSelf.{path}"
    has_new, has_old = _given("self", chain), _given("oldSelf", chain)
    if not has_new:
        return f"{new} == {old}"
    if default is None:
        return f"{has_new} ? {has_old} && {new} == {old} : !({has_old})"
    return f"{has_new} ? ({has_old} ? {new} == {old} : {new} == {default}) : !({has_old}) || {old} == {default}"


def _given(root: str, chain: Chain) -> str:
    """That every part of a path which may be left out is there; empty if none may be."""
    places = [".".join((root, *(name for name, _ in chain[: i + 1]))) for i in range(len(chain))]
    optional = [field.default is not PydanticUndefined for _, field in chain]
    return " && ".join(f"has({place})" for place, may in zip(places, optional, strict=True) if may)


def _literal(field: FieldInfo) -> str | None:
    """The default of a field in CEL, where a number with a point is another type than one without."""
    value: Any = field.default
    if value is None or value is PydanticUndefined:
        return None
    return json.dumps(float(value) if field.annotation is float else value)
