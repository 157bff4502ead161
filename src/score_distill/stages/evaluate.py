"""evaluate: every model on the held-out tasks, one attempt each (strict pass@1), and the report.

Students are served one after another by pushing their weights; the teacher acts beside them.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from score_distill.agent.codeact import Actor, Stand, act
from score_distill.agent.environment import Scope
from score_distill.agent.judge import judged
from score_distill.agent.ledger import Caller
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Scored, Task
from score_distill.api import EvalSet
from score_distill.artifacts.store import Appender, Store
from score_distill.contract import StageConfig, Summary
from score_distill.errors import BadInput
from score_distill.stages.acting import Floor, each, floor
from score_distill.stages.frame import Frame, first_of_each
from score_distill.stages.prepare import tasks_of

STEP_OF = {"base": "base", "init": "warmup", "sft": "sft", "rl": "rl"}


def run(config: StageConfig, store: Store) -> Summary:
    return asyncio.run(Evaluation(Frame(config, store)).run())


class Evaluation:
    """One evaluation under way: what is done, what is left, and for whom."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.finished = frozenset(_name(row) for row in frame.writer.read_journal("outcomes"))
        self.done = len(self.finished)
        self.models = _models(frame)
        self.total = len(self.models) * sum(1 for one in frame.config.spec.tasks.eval for _ in tasks_of(frame, one))
        self.right: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    async def run(self) -> Summary:
        self.progress(now=True)
        async with floor(self.frame, self.finished) as here:
            with self.frame.writer.journal("outcomes") as outcomes:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.students(here, outcomes))
                    if "teacher" in self.models:
                        group.create_task(self.everything(here, "teacher", outcomes))
        self.progress(now=True)
        counts: Counter[str] = Counter()
        for row in first_of_each(self.frame.writer.read_journal("outcomes"), _name):
            counts["tasks"] += 1
            counts["unjudged"] += row["correct"] is None
        self.frame.writer.add_rows("scored.jsonl", first_of_each(self.frame.writer.read_journal("outcomes"), _name))
        return self.frame.finish(dict(counts), usage=here.ledger.account.rows())

    async def students(self, here: Floor, outcomes: Appender) -> None:
        """Push and evaluate one student after another; those with nothing left are not pushed."""
        served = here.frame.student
        for model in self.models:
            if model == "teacher" or not any(True for _ in self.left(model)):
                continue
            if served is None:
                raise BadInput("evaluate needs the student served")
            step = STEP_OF[model]
            folder = Path(served.model_dir or "") if step == "base" else self.frame.model(step)
            await here.load(folder)
            await self.everything(here, model, outcomes)

    async def everything(self, here: Floor, model: str, outcomes: Appender) -> None:
        await each(
            self.left(model),
            lambda one: self.score(here, model, *one),
            concurrency=self.frame.config.spec.resources.rollout.concurrency,
            outcomes=outcomes,
            on_done=lambda row: self.on_done(here, row),
        )

    def left(self, model: str) -> Iterator[tuple[EvalSet, Task]]:
        for one in self.frame.config.spec.tasks.eval:
            for task in tasks_of(self.frame, one):
                if f"{one.name}/{model}/{task.id}" not in self.finished:
                    yield one, task

    async def score(self, here: Floor, model: str, one: EvalSet, task: Task) -> Scored:
        method = self.frame.config.spec.method
        actor, caller = self.actor(here, model, one, task)
        async with Scope() as scope:
            stand, ending = await act(
                Stand((), (scope.hold(await here.world(task)),)),
                actor,
                caller,
                max_steps=method.agent.max_steps,
                seed=seed_of(self.frame.config.spec.seed, "evaluate", task.id),
                scope=scope,
            )
        answer = stand.steps[-1].answer if stand.steps else None
        verdict = await judged(one.metric, task, answer, here.judge(task, "verify"))
        return Scored(
            eval=one.name,
            model=model,
            task=task.id,
            correct=verdict.correct,
            by=verdict.by,
            answer=answer,
            reference=task.answer,
            steps=len(stand.steps),
            ending=ending,
            tokens=sum(len(step.tokens or ()) for step in stand.steps),
        )

    def actor(self, here: Floor, model: str, one: EvalSet, task: Task) -> tuple[Actor, Caller]:
        sampling = self.frame.config.spec.method.evaluation.sampling
        purpose, name = f"evaluate {model}", f"{one.name}/{model}/{task.id}"
        if model == "teacher":
            revision = here.teacher.served.model if here.teacher else ""
            return here.teacher_actor(task, sampling), here.caller("teacher", name, purpose, revision)
        step = STEP_OF[model]
        revision = "base" if step == "base" else self.frame.input(step).manifest.digest
        return here.student_actor(task, sampling), here.caller("student", name, purpose, revision)

    def on_done(self, here: Floor, row: Scored) -> None:
        self.done += 1
        self.seen[row.model] += 1
        self.right[row.model] += row.correct is True
        here.ledger.settle(_name(row.model_dump(include={"eval", "model", "task"})))
        self.progress()

    def progress(self, *, now: bool = False) -> None:
        scores = ", ".join(f"{name} {100 * self.right[name] / count:.0f} %" for name, count in self.seen.items())
        self.frame.progress(self.done, self.total, "tasks", scores, now=now)


def _models(frame: Frame) -> list[str]:
    """The models that the run has, in the order in which they came to be."""
    spec = frame.config.spec
    return [name for name in spec.method.evaluation.models if name != "rl" or spec.method.rl.enabled]


def _name(row: dict[str, str]) -> str:
    return f"{row['eval']}/{row['model']}/{row['task']}"
