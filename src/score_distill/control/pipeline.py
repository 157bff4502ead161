"""The steps of a run: which verb does each, what it reads, and what must be up while it runs.

Both executors take the table from here; a run without RL, or without some model in its evaluation, has fewer rows or
needs. Which of the steps are still to do is ``plan.py``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from score_distill.api import Gpus, Spec, gpus_for, in_round
from score_distill.contract import CONTROLS, CONTROLS_OF_RL, ON_POLICY, Verb

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


def _steps(rounds: int) -> Iterator[Step]:
    """Every step that a run may have; a round mentors the student of the one before."""
    mentors, students = (tuple(in_round(kind, n + 1) for n in range(rounds)) for kind in ("mentor", "sft"))
    yield _step("prepare", "prepare")
    yield _step("demonstrate", "demonstrate", "prepare", ("teacher", "sandbox"))
    yield _step("warmup", "sft", "prepare demonstrate", ("trainer",))
    for n, student in enumerate(("warmup", *students[:-1])):
        so_far = " ".join(mentors[: n + 1])
        yield _step(mentors[n], "mentor", f"prepare {student}", ("teacher", "student", "sandbox"))
        yield _step(students[n], "sft", f"demonstrate {so_far} warmup", ("trainer",))
    last = f"{mentors[-1]} {students[-1]}"
    yield _step("rl", "rl", f"prepare {last}", ("teacher", "trainer", "student", "sandbox"))
    for control in CONTROLS_OF_RL:
        yield _step(control, "rl", f"prepare {last} rl", ("teacher", "trainer", "student", "sandbox"))
    yield _step("more-demos", "demonstrate", f"prepare demonstrate {' '.join(mentors)}", ("teacher", "sandbox"))
    yield _step("imitate", "sft", f"demonstrate more-demos {students[-1]} warmup", ("trainer",))
    scored = f"prepare warmup {' '.join(students)} rl imitate {' '.join(CONTROLS_OF_RL)}"
    yield _step("evaluate", "evaluate", scored, ("teacher", "student", "sandbox"))


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
        return Workers(nodes=trainer.nodes, processes=trainer.processes)
    return Workers(shards=spec.resources.rollout.parallelism if step.verb in SHARDED else 1)


def gpus_of(step: Step, spec: Spec) -> Gpus:
    """The GPUs that a step needs at once."""
    models = {"teacher": "teacher" in step.needs, "student": "student" in step.needs}
    trains = "trainer" in step.needs
    return gpus_for(spec, **models, trainer=trains, workers=0 if trains else workers_of(step, spec).shards)


def takes_at_once(step: Step, spec: Spec) -> bool:
    """Whether a trainer and models hold GPUs for it: one that waits for the other may keep what a third run lacks."""
    held = gpus_of(step, spec)
    return bool(held.trainer and (held.teacher or held.student))


def may_lock(step: Step, spec: Spec) -> bool:
    """Whether pods of it that can only work together come by their GPUs one by one: another's may hold the rest."""
    held, nodes = gpus_of(step, spec), workers_of(step, spec).nodes
    holders = [held.teacher, held.student, held.workers, *[held.trainer] * nodes]
    return sum(map(bool, holders)) > 1


def steps_of(spec: Spec) -> tuple[Step, ...]:
    """The steps of a run in an order in which every input comes before its reader."""
    controls = {spec.method.control, *spec.method.rl.controls}
    left = [step for step in _steps(spec.method.rounds) if step.verb != "rl" or spec.method.rl.enabled]
    left = [step for step in left if CONTROLS.get(step.name) in {None, *controls}]
    names = {step.name for step in left}
    return tuple(
        replace(step, inputs=tuple(name for name in step.inputs if name in names), needs=_needs(step, spec))
        for step in left
    )


def _needs(step: Step, spec: Spec) -> frozenset[Need]:
    """A teacher that takes instructions judges what rules cannot; one with a bare prompt can only act, or score."""
    models, judges = set(spec.method.evaluated), spec.teacher.prompt != "Bare"
    match step.verb:
        case "rl":
            return step.needs if judges or step.name == ON_POLICY else step.needs - {"teacher"}
        case "evaluate":
            unused = {"teacher"} - models | ({"student"} if models == {"teacher"} else set())
            return step.needs - unused
        case _:
            return step.needs
