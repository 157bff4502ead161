"""demonstrate: the teacher solves tasks; what it got right a student can be trained on. The verb of two steps.

demonstrate: the cold-start tasks, for the warm-up. more-demos: tasks of the SFT half, for the control; as many of them
as cost what the corrections of that half cost, going by what the cold-start tasks cost each.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count, islice

from score_distill.agent.codeact import AgentState, act, trajectory
from score_distill.agent.environment import SnapshotPool
from score_distill.agent.judge import judged
from score_distill.agent.seeds import seed_of, share_of
from score_distill.agent.trajectory import Demonstration, Task
from score_distill.artifacts.store import Store
from score_distill.contract import StageConfig, Summary
from score_distill.errors import ModelFailure
from score_distill.stages.acting import RolloutContext
from score_distill.stages.context import StageContext, summary_of
from score_distill.stages.outcomes import Outcome, Outcomes
from score_distill.stages.task_loop import TaskLoop

ENDED_EARLY = {
    "cut_off": "a turn was longer than spec.method.agent.stepTokens",
    "refused": "the teacher's server refused the request",
}


def run(config: StageConfig, store: Store) -> Summary:
    return Demonstrations(StageContext(config, store)).run()


class Demonstrations(TaskLoop[Task, Demonstration]):
    def __init__(self, frame: StageContext) -> None:
        super().__init__(frame)
        self.controls = frame.config.step == "more-demos"

    def tasks(self) -> Iterable[Task]:
        if self.controls:
            return control_tasks(self.frame)
        return map(Task.model_validate, self.frame.input("prepare").open_rows("cold_start.jsonl"))

    def name(self, task: Task) -> str:
        return task.id

    def task_of(self, outcome: Outcome) -> str:
        return str(outcome["task"]["id"])

    async def work(self, here: RolloutContext, task: Task) -> Demonstration:
        return await demonstrate(here, task)

    def result(self, outcomes: Outcomes) -> Summary:
        counts: Counter[str] = Counter(accepted=0, rejected=0)
        kind = {True: "accepted", False: "rejected", None: "unjudged"}
        for row in outcomes:
            counts[kind[row["verdict"]["correct"]]] += 1
            if (ending := row["trajectory"]["ending"]) in ENDED_EARLY:
                counts[ending] += 1
        said = [
            f"{counts[name]} of {len(outcomes)} demonstrations rejected: {why}"
            for name, why in ENDED_EARLY.items()
            if counts[name]
        ]
        if not counts["accepted"] and self.controls:  # the run goes on, and its report says so
            said.insert(0, f"the teacher solved none of {len(outcomes)} more tasks")
        elif not counts["accepted"]:
            raise ModelFailure(
                f"the teacher solved none of {len(outcomes)} cold-start tasks; look at the samples in the ledger, at "
                "spec.teacher.prompt and at spec.tasks.train.metric" + "".join(f"; {one}" for one in said)
            )
        for name, wanted in (("demonstrations.jsonl", True), ("rejected.jsonl", False)):
            chosen = (row for row in outcomes if (row["verdict"]["correct"] is True) is wanted)
            self.frame.writer.add_rows(name, chosen)
        return self.finish(dict(counts), said)


def control_tasks(frame: StageContext) -> Iterator[Task]:
    """Tasks of the SFT half in a seeded order, again from the start where one pass costs less than the corrections."""
    seed = frame.config.spec.seed
    rows = frame.input("prepare").open_rows("mentor.jsonl")
    half = [{name: value for name, value in row.items() if name != "split"} for row in rows if row["split"] == "sft"]
    half.sort(key=lambda row: share_of(seed, "control", row["id"]))
    passes = ((row, n) for n in count() for row in half)
    for row, n in islice(passes, affordable(frame)):
        yield Task.model_validate(row | ({"id": f"{row['id']} again {n}"} if n else {}))


def affordable(frame: StageContext) -> int:
    """How many tasks can be demonstrated for what the corrections of the SFT half cost: at least one.

    As many as there were demonstrations before, where the teacher's server counts no tokens.
    """
    shown = summary_of(frame.input("demonstrate").manifest)
    tried = sum(shown.counts.get(name, 0) for name in ("accepted", "rejected", "unjudged"))
    spent = shown.tokens.get("teacher", 0)
    corrections = sum(frame.input(step).manifest.counts["sft_teacher_tokens"] for step in frame.inputs_of("mentor"))
    return max(1, round(corrections * tried / spent)) if spent else tried


async def demonstrate(here: RolloutContext, task: Task) -> Demonstration:
    """The teacher's first right attempt at a task, or its last wrong one."""
    spec = here.frame.config.spec
    method = spec.method
    revision = here.teacher.served.model if here.teacher else ""
    for attempt in range(1, method.demonstrate.attempts + 1):
        async with SnapshotPool() as scope:
            stand, ending = await act(
                AgentState((), (scope.hold(await here.world(task)),)),
                here.teacher_actor(task, method.demonstrate.sampling, tries=method.correction.retries),
                here.caller("teacher", task.id, "demonstrate", revision),
                max_steps=method.agent.max_steps,
                seed=seed_of(spec.seed, "demonstrate", task.id, attempt),
                scope=scope,
                compared=0,
            )
        made = trajectory(task.id, stand, ending)
        verdict = await judged(spec.tasks.train.metric, task, made.answer, here.judge(task, "verify"))
        if verdict.correct or attempt == method.demonstrate.attempts:
            return Demonstration(task=task, trajectory=made, verdict=verdict, attempts=attempt)
    raise AssertionError("at least one attempt is made")
