"""The steps of a run: which verb does each, what it reads, and what must be up while it runs.

Both executors take the table from here; a run without RL, or without some model in its evaluation, has fewer rows or
needs. Which of the steps are still to do is ``plan.py``.
"""

from dataclasses import dataclass, replace
from typing import Literal

from score_distill.api import Spec
from score_distill.contract import Verb

Need = Literal["teacher", "student", "sandbox", "trainer"]

CONTROL = frozenset({"more-demos", "imitate"})  # the steps of spec.method.control: Imitation
SHARDED: frozenset[Verb] = frozenset({"demonstrate", "mentor", "evaluate"})  # they share their tasks among workers


@dataclass(frozen=True)
class Step:
    """``inputs`` are the steps whose results it reads; ``trainer`` among the needs means one process a rank."""

    name: str
    verb: Verb
    inputs: tuple[str, ...]
    needs: frozenset[Need]


def _step(name: str, verb: Verb, inputs: str = "", needs: tuple[Need, ...] = ()) -> Step:
    return Step(name, verb, tuple(inputs.split()), frozenset(needs))


STEPS = (
    _step("prepare", "prepare"),
    _step("demonstrate", "demonstrate", "prepare", ("teacher", "sandbox")),
    _step("warmup", "sft", "prepare demonstrate", ("trainer",)),
    _step("mentor", "mentor", "prepare warmup", ("teacher", "student", "sandbox")),
    _step("sft", "sft", "demonstrate mentor warmup", ("trainer",)),
    _step("rl", "rl", "prepare mentor sft", ("teacher", "trainer", "student", "sandbox")),
    _step("more-demos", "demonstrate", "prepare demonstrate mentor", ("teacher", "sandbox")),
    _step("imitate", "sft", "demonstrate more-demos sft warmup", ("trainer",)),
    _step("evaluate", "evaluate", "prepare warmup sft rl imitate", ("teacher", "student", "sandbox")),
)


@dataclass(frozen=True)
class Workers:
    """The processes of a step: ``ranks`` of one trainer on each of ``nodes``, or ``shards`` that act on their own."""

    shards: int = 1
    nodes: int = 1
    processes: int = 1

    @property
    def ranks(self) -> int:
        return self.nodes * self.processes


def workers_of(step: Step, spec: Spec) -> Workers:
    if "trainer" in step.needs:
        trainer = spec.resources.trainer
        return Workers(nodes=trainer.nodes, processes=trainer.processes_per_node)
    return Workers(shards=spec.resources.rollout.parallelism if step.verb in SHARDED else 1)


def steps_of(spec: Spec) -> tuple[Step, ...]:
    """The steps of a run in an order in which every input comes before its reader."""
    controlled = spec.method.control == "Imitation"
    left = [step for step in STEPS if step.verb != "rl" or spec.method.rl.enabled]
    left = [step for step in left if step.name not in CONTROL or controlled]
    names = {step.name for step in left}
    return tuple(
        replace(step, inputs=tuple(name for name in step.inputs if name in names), needs=_needs(step, spec))
        for step in left
    )


def _needs(step: Step, spec: Spec) -> frozenset[Need]:
    """A teacher that takes instructions judges what rules cannot; one with a bare prompt can only act."""
    models, judges = set(spec.method.evaluated), spec.teacher.prompt != "Bare"
    match step.verb:
        case "rl":
            return step.needs if judges else step.needs - {"teacher"}
        case "evaluate":
            unused = {"teacher"} - models | ({"student"} if models == {"teacher"} else set())
            return step.needs - unused
        case _:
            return step.needs
