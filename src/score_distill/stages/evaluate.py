"""evaluate: every model on the held-out tasks, one attempt each (strict pass@1), and the report.

Students are served one after another by pushing their weights; the teacher acts beside them.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from score_distill.agent.codeact import Actor, AgentState, act, trajectory
from score_distill.agent.environment import SnapshotPool
from score_distill.agent.judge import judged
from score_distill.agent.ledger import Caller
from score_distill.agent.prompts import PROMPT_VERSION
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Row, Scored, Task, Trajectory
from score_distill.api import EvalSet
from score_distill.artifacts.store import Appender, Store
from score_distill.contract import CONTROLS, StageConfig, Summary
from score_distill.errors import BadInput
from score_distill.stages.acting import RolloutContext
from score_distill.stages.context import StageContext
from score_distill.stages.outcomes import Outcome, Outcomes
from score_distill.stages.prepare import tasks_of
from score_distill.stages.task_loop import TaskLoop

STEP_OF = {"init": "warmup", "imitation": "imitate"}  # every other student is named as the step that leaves it


class Trial(NamedTuple):
    """One model's one attempt at one task of an evaluation set."""

    model: str
    eval: EvalSet
    task: Task


class Attempt(Row):
    """A scored task, its trajectory, and what made it; ``revision`` names the model's weights."""

    scored: Scored
    seed: int
    prompts: str
    revision: str
    trajectory: Trajectory


def run(config: StageConfig, store: Store) -> Summary:
    return Evaluation(StageContext(config, store)).run()


class Evaluation(TaskLoop[Trial, Attempt]):
    def __init__(self, frame: StageContext) -> None:
        super().__init__(frame)
        self.models = _models(frame)
        self.right: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    @cached_property
    def held_out(self) -> list[tuple[EvalSet, Task]]:
        """The evaluation sets, read once."""
        return [(one, task) for one in self.frame.config.spec.tasks.eval for task in tasks_of(self.frame, one)]

    def tasks(self) -> Iterable[Trial]:
        return (Trial(model, *one) for model in self.models for one in self.held_out)

    def name(self, task: Trial) -> str:
        return f"{task.eval.name}/{task.model}/{task.task.id}"

    def task_of(self, outcome: Outcome) -> str:
        scored = outcome["scored"]
        return f"{scored['eval']}/{scored['model']}/{scored['task']}"

    def worker_for(self, task: Trial) -> int:
        """The first worker has all of the students, whose server computes with the weights of one at a time."""
        return super().worker_for(task) if task.model == "teacher" else 0

    async def act(self, here: RolloutContext, outcomes: Appender) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.students(here, outcomes))
            group.create_task(self.each(here, self.left_of("teacher"), outcomes))

    async def students(self, here: RolloutContext, outcomes: Appender) -> None:
        """Push and evaluate one student after another; those with nothing left are not pushed."""
        served = here.frame.student
        for model in self.models:
            if model == "teacher" or not any(True for _ in self.left_of(model)):
                continue
            if served is None:
                raise BadInput("evaluate needs the student served")
            step = STEP_OF.get(model, model)
            folder = Path(served.model_dir or "") if step == "base" else self.frame.model(step)
            await here.load(folder)
            await self.each(here, self.left_of(model), outcomes)

    def left_of(self, model: str) -> Iterator[Trial]:
        return (trial for trial in self.left() if trial.model == model)

    async def work(self, here: RolloutContext, task: Trial) -> Attempt:
        model, one, question = task
        method = self.frame.config.spec.method
        actor, caller = self.actor(here, task)
        seed = seed_of(self.frame.config.spec.seed, "evaluate", question.id)
        async with SnapshotPool() as scope:
            stand, ending = await act(
                AgentState((), (scope.hold(await here.world(question)),)),
                actor,
                caller,
                max_steps=method.agent.max_steps,
                seed=seed,
                scope=scope,
                compared=0,
            )
        answer = stand.steps[-1].answer if stand.steps else None
        verdict = await judged(one.metric, question, answer, here.judge(question, "verify"))
        scored = Scored(
            eval=one.name,
            model=model,
            task=question.id,
            correct=verdict.correct,
            by=verdict.by,
            answer=answer,
            reference=question.answer,
            steps=len(stand.steps),
            ending=ending,
            tokens=sum(len(step.tokens or ()) for step in stand.steps),
        )
        return Attempt(
            scored=scored,
            seed=seed,
            prompts=PROMPT_VERSION,
            revision=caller.revision,
            trajectory=trajectory(question.id, stand, ending),
        )

    def actor(self, here: RolloutContext, trial: Trial) -> tuple[Actor, Caller]:
        sampling = self.frame.config.spec.method.evaluation.sampling
        model, task, name = trial.model, trial.task, self.name(trial)
        purpose = f"evaluate {model}"
        if model == "teacher":
            revision = here.teacher.served.model if here.teacher else ""
            return here.teacher_actor(task, sampling), here.caller("teacher", name, purpose, revision)
        step = STEP_OF.get(model, model)
        revision = "base" if step == "base" else self.frame.input(step).manifest.digest
        return here.student_actor(task, sampling), here.caller("student", name, purpose, revision)

    def told(self, row: Attempt) -> str:
        self.seen[row.scored.model] += 1
        self.right[row.scored.model] += row.scored.correct is True
        return ", ".join(f"{name} {100 * self.right[name] / count:.0f} %" for name, count in self.seen.items())

    def result(self, outcomes: Outcomes) -> Summary:
        unjudged = sum(1 for row in outcomes if row["scored"]["correct"] is None)
        self.frame.writer.add_rows("scored.jsonl", (row["scored"] for row in outcomes))
        self.frame.writer.add_rows("attempts.jsonl", outcomes)
        return self.finish({"tasks": len(outcomes), "unjudged": unjudged})


def _models(frame: StageContext) -> list[str]:
    """The models that the run has, in the order in which they came to be: a control may have left no student."""
    step_of = {model: STEP_OF.get(model, model) for model in frame.config.spec.method.evaluated}
    return [model for model, step in step_of.items() if step not in CONTROLS or frame.input(step).has_tree("model")]
