"""The steps of a run: which verb does each, what it reads, and what must be up while it runs.

Both executors take the table from here; a run without RL, or without some model in its evaluation, has fewer rows or
needs. Which of the steps are still to do is ``plan.py``.
"""

from dataclasses import dataclass, replace
from typing import Literal

from score_distill.api import Spec
from score_distill.contract import Verb

Need = Literal["teacher", "student", "sandbox", "trainer"]

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
    _step("rl", "rl", "prepare mentor sft", ("trainer", "student", "sandbox")),
    _step("evaluate", "evaluate", "prepare warmup sft rl", ("teacher", "student", "sandbox")),
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
    left = [step for step in STEPS if step.verb != "rl" or spec.method.rl.enabled]
    names = {step.name for step in left}
    unused: set[Need] = set()
    if "teacher" not in spec.method.evaluation.models:
        unused.add("teacher")
    if set(spec.method.evaluation.models) == {"teacher"}:
        unused.add("student")
    return tuple(
        replace(
            step,
            inputs=tuple(name for name in step.inputs if name in names),
            needs=step.needs - unused if step.verb == "evaluate" else step.needs,
        )
        for step in left
    )
