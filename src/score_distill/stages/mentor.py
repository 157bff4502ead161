"""mentor: the student acts on the mentoring tasks, the teacher corrects its first wrong steps."""

import asyncio
from collections import Counter
from typing import Any

from score_distill.agent import tools
from score_distill.agent.judge import judged
from score_distill.agent.localize import JudgeLocalizer, Localizer, Reenactment
from score_distill.agent.mentor import mentor
from score_distill.agent.trajectory import Mentored, Task, Verdict
from score_distill.api import Sampling
from score_distill.artifacts.store import Store
from score_distill.contract import StageConfig, Summary
from score_distill.errors import BadInput
from score_distill.stages.acting import Floor, each, floor, without
from score_distill.stages.frame import Frame, first_of_each


def run(config: StageConfig, store: Store) -> Summary:
    return asyncio.run(_run(Frame(config, store)))


async def _run(frame: Frame) -> Summary:
    config = frame.config
    if config.student is None:
        raise BadInput("mentor needs the student served")
    revision = frame.input("warmup").manifest.digest
    finished = frozenset(row["task"]["id"] for row in frame.writer.read_journal("outcomes"))
    prepared = frame.input("prepare").manifest.counts
    total, done = prepared["sft"] + prepared["rl"], len(finished)
    seen: Counter[str] = Counter()

    def on_done(row: Mentored) -> None:
        nonlocal done
        done += 1
        seen[row.outcome] += 1
        here.ledger.settle(row.task.id)
        frame.progress(done, total, "tasks", ", ".join(f"{count} {name}" for name, count in seen.most_common()))

    frame.progress(done, total, "tasks", now=True)
    async with floor(frame, finished) as here:
        await here.load(frame.model("warmup"))
        with frame.writer.journal("outcomes") as outcomes:
            await each(
                without(frame.input("prepare").open_rows("mentor.jsonl"), finished),
                lambda row: _mentor(here, row, revision),
                concurrency=config.spec.resources.rollout.concurrency,
                outcomes=outcomes,
                on_done=on_done,
            )
    frame.progress(total, total, "tasks", now=True)
    counts: Counter[str] = Counter()
    for row in first_of_each(frame.writer.read_journal("outcomes"), lambda row: row["task"]["id"]):
        counts[row["outcome"]] += 1
        counts["corrections"] += len(row["corrections"])
        counts["leaks"] += row["leaks"]
    everything = first_of_each(frame.writer.read_journal("outcomes"), lambda row: row["task"]["id"])
    frame.writer.add_rows("mentored.jsonl", everything)
    problems = []
    if counts["set_aside"]:
        problems.append(f"{counts['set_aside']} of {total} tasks set aside: judge or repair stayed unusable")
    return frame.finish(dict(counts), usage=here.ledger.account.rows(), problems=problems)


async def _mentor(here: Floor, row: dict[str, Any], revision: str) -> Mentored:
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


def localizer(here: Floor, task: Task) -> Localizer:
    """The localizer that the manifest names."""
    spec = here.frame.config.spec
    correction = spec.method.correction
    revision = here.teacher.served.model if here.teacher else ""
    if correction.localizer == "Reenactment":
        actor = here.teacher_actor(task, Sampling(temperature=0))
        return Reenactment(actor, here.caller("teacher", task.id, "reenact", revision), spec.seed)
    judge = here.judge(task, "judge")
    if judge is None:
        raise BadInput("spec.method.correction.localizer: Judge needs spec.teacher.prompt: Instructions")
    return JudgeLocalizer(
        judge,
        here.caller("teacher", task.id, "repair", revision),
        correction.repair_sampling,
        spec.method.agent.step_tokens,
        tools.chosen(spec.tools),
        spec.method.agent.plan,
        spec.seed,
    )
