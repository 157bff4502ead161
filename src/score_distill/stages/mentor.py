"""mentor: the student acts on the mentoring tasks of its round, the teacher corrects its first wrong steps.

The student is the warmed-up one, in later rounds that of the round before.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from score_distill.agent import tools
from score_distill.agent.completer import Usage
from score_distill.agent.judge import judged
from score_distill.agent.localize import JudgeLocalizer, Localizer, Reenactment
from score_distill.agent.mentor import mentor
from score_distill.agent.seeds import round_of_task
from score_distill.agent.trajectory import Mentored, Task, Verdict
from score_distill.api import Sampling, round_of
from score_distill.artifacts.store import Appender, Store
from score_distill.contract import StageConfig, Summary
from score_distill.errors import BadInput
from score_distill.stages.acting import RolloutContext
from score_distill.stages.context import StageContext
from score_distill.stages.outcomes import Outcome, Outcomes
from score_distill.stages.task_loop import TaskLoop

Prepared = dict[str, Any]  # a task with the half of the mentoring tasks that it is in


def run(config: StageConfig, store: Store) -> Summary:
    if config.student is None:
        raise BadInput("mentor needs the student served")
    return Mentoring(StageContext(config, store)).run()


class Mentoring(TaskLoop[Prepared, Mentored]):
    def __init__(self, frame: StageContext) -> None:
        super().__init__(frame)
        self.seen: Counter[str] = Counter()
        self.corrections = 0
        self.round = round_of(frame.config.step)
        self.student = (*frame.inputs_of("warmup"), *frame.inputs_of("sft"))[-1]
        self.revision = frame.input(self.student).manifest.digest

    def tasks(self) -> Iterable[Prepared]:
        spec = self.frame.config.spec
        for row in self.frame.input("prepare").open_rows("mentor.jsonl"):
            if round_of_task(row["id"], row["split"], spec.method.rounds, spec.seed) == self.round:
                yield row

    def name(self, task: Prepared) -> str:
        return str(task["id"])

    def task_of(self, outcome: Outcome) -> str:
        return str(outcome["task"]["id"])

    async def act(self, here: RolloutContext, outcomes: Appender) -> None:
        await here.load(self.frame.model(self.student))
        await super().act(here, outcomes)

    async def work(self, here: RolloutContext, task: Prepared) -> Mentored:
        return await _mentor(here, task, self.revision)

    def told(self, row: Mentored) -> str:
        self.seen[row.outcome] += 1
        self.corrections += len(row.corrections)
        return ", ".join(f"{count} {name}" for name, count in self.seen.most_common())

    def figures(self) -> dict[str, int]:
        return {"corrections": self.corrections, **self.seen}

    def result(self, outcomes: Outcomes) -> Summary:
        counts: Counter[str] = Counter()
        for row in outcomes:
            counts[row["outcome"]] += 1
            counts["corrections"] += len(row["corrections"])
            counts["leaks"] += row["leaks"]
        if self.frame.config.spec.method.control == "Imitation":
            half = {row["task"]["id"] for row in outcomes if row["split"] == "sft"}
            counts["sft_teacher_tokens"] = self.teacher_tokens(half)
        self.frame.writer.add_rows("mentored.jsonl", outcomes)
        aside = counts["set_aside"]
        problems = [f"{aside} of {len(outcomes)} tasks set aside: judge or repair stayed unusable"] if aside else []
        return self.finish(dict(counts), problems)

    def teacher_tokens(self, tasks: set[str]) -> int:
        """What the corrections of these tasks cost, which is what the control may spend."""
        calls = self.frame.writer.read_journal("calls")
        mine = (Usage(**call["usage"]) for call in calls if call["role"] == "teacher" and call["task"] in tasks)
        return sum(usage.prompt + usage.completion for usage in mine)


async def _mentor(here: RolloutContext, row: Prepared, revision: str) -> Mentored:
    task = Task.model_validate({name: value for name, value in row.items() if name != "split"})
    spec = here.frame.config.spec
    method = spec.method

    async def check(task: Task, answer: str | None) -> Verdict:
        return await judged(spec.tasks.train.metric, task, answer, here.judge(task, "verify"))

    return await mentor(
        task,
        row["split"],
        await here.world(task),
        here.student_actor(task, method.agent.sampling),
        here.caller("student", task.id, "act", revision),
        localizer(here, task),
        check,
        max_steps=method.agent.max_steps,
        max_corrections=method.correction.max_corrections,
        correct_unfinished=method.correction.unfinished,
        seed=spec.seed,
    )


def localizer(here: RolloutContext, task: Task) -> Localizer:
    """The localizer that the manifest names."""
    spec = here.frame.config.spec
    correction = spec.method.correction
    revision = here.teacher.served.model if here.teacher else ""
    if correction.localizer == "Reenactment":
        actor = here.teacher_actor(task, Sampling(temperature=0), tries=correction.retries)
        return Reenactment(actor, here.caller("teacher", task.id, "reenact", revision), spec.seed)
    judge = here.judge(task, "judge")
    if judge is None:
        raise BadInput("spec.method.correction.localizer: Judge needs spec.teacher.prompt: Instructions")
    return JudgeLocalizer(
        judge,
        here.caller("teacher", task.id, "repair", revision),
        correction.repair_sampling,
        spec.method.agent.step_tokens,
        tools.words(spec.tools, spec.method.agent.libraries),
        spec.method.agent.plan,
        spec.seed,
    )
