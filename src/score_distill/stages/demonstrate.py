"""demonstrate: the teacher solves the cold-start tasks; what it got right becomes the warm-up's data."""

import asyncio
from collections import Counter

from score_distill.agent.codeact import Stand, act, trajectory
from score_distill.agent.environment import Scope
from score_distill.agent.judge import judged
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Demonstration, Task
from score_distill.artifacts.store import Store
from score_distill.contract import StageConfig, Summary
from score_distill.errors import ModelFailure
from score_distill.stages.acting import Floor, each, floor, without
from score_distill.stages.frame import Frame, first_of_each


def run(config: StageConfig, store: Store) -> Summary:
    return asyncio.run(_run(Frame(config, store)))


async def _run(frame: Frame) -> Summary:
    finished = frozenset(row["task"]["id"] for row in frame.writer.read_journal("outcomes"))
    total = frame.input("prepare").manifest.counts["cold_start"]
    done = len(finished)

    def on_done(row: Demonstration) -> None:
        nonlocal done
        done += 1
        here.ledger.settle(row.task.id)
        frame.progress(done, total, "tasks")

    frame.progress(done, total, "tasks", now=True)
    async with floor(frame, finished) as here:
        with frame.writer.journal("outcomes") as outcomes:
            rows = without(frame.input("prepare").open_rows("cold_start.jsonl"), finished)
            await each(
                (Task.model_validate(row) for row in rows),
                lambda task: demonstrate(here, task),
                concurrency=frame.config.spec.resources.rollout.concurrency,
                outcomes=outcomes,
                on_done=on_done,
            )
    frame.progress(total, total, "tasks", now=True)
    counts: Counter[str] = Counter(accepted=0, rejected=0)
    outcome = {True: "accepted", False: "rejected", None: "unjudged"}
    for row in first_of_each(frame.writer.read_journal("outcomes"), lambda row: row["task"]["id"]):
        counts[outcome[row["verdict"]["correct"]]] += 1
    for name, wanted in (("demonstrations.jsonl", True), ("rejected.jsonl", False)):
        everything = first_of_each(frame.writer.read_journal("outcomes"), lambda row: row["task"]["id"])
        chosen = (row for row in everything if (row["verdict"]["correct"] is True) is wanted)
        frame.writer.add_rows(name, chosen)
    if not counts["accepted"]:
        raise ModelFailure(
            f"the teacher solved none of {total} cold-start tasks; look at the samples in the ledger, at "
            "spec.teacher.prompt and at spec.tasks.train.metric"
        )
    return frame.finish(dict(counts), usage=here.ledger.account.rows())


async def demonstrate(here: Floor, task: Task) -> Demonstration:
    """The teacher's first right attempt at a task, or its last wrong one."""
    spec = here.frame.config.spec
    method = spec.method
    revision = here.teacher.served.model if here.teacher else ""
    for attempt in range(1, method.demonstrate.attempts + 1):
        async with Scope() as scope:
            stand, ending = await act(
                Stand((), (scope.hold(await here.world(task)),)),
                here.teacher_actor(task, method.demonstrate.sampling),
                here.caller("teacher", task.id, "demonstrate", revision),
                max_steps=method.agent.max_steps,
                seed=seed_of(spec.seed, "demonstrate", task.id, attempt),
                scope=scope,
            )
        made = trajectory(task.id, stand, ending)
        verdict = await judged(spec.tasks.train.metric, task, made.answer, here.judge(task, "verify"))
        if verdict.correct or attempt == method.demonstrate.attempts:
            return Demonstration(task=task, trajectory=made, verdict=verdict, attempts=attempt)
    raise AssertionError("at least one attempt is made")
