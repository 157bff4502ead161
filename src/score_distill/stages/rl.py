"""rl: short-horizon reinforcement from the verified prefix, watched by whole dev tasks; the verb of its controls too.

full-horizon and distil-on-policy start every rollout at its task, and end when they have sampled as many tokens as rl
did. In distil-on-policy the teacher's log-probabilities take the place of rewards.

Rank 0 rolls out in its event loop while a thread of its own trains; the other ranks follow. The loop itself is in
``reinforcement.py``; here are the trainer, the student and the rows that it works with.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from score_distill.agent.codeact import AgentState, act
from score_distill.agent.environment import SnapshotPool
from score_distill.agent.judge import judged
from score_distill.agent.prompts import PROMPT_VERSION
from score_distill.agent.rl_starts import Item
from score_distill.agent.trajectory import Task
from score_distill.api import Sampling
from score_distill.artifacts.store import Store
from score_distill.contract import CONTROLS_OF_RL, ON_POLICY, StageConfig, Summary
from score_distill.errors import BadInput
from score_distill.stages.acting import RolloutContext, floor, retried
from score_distill.stages.context import StageContext
from score_distill.stages.kept import Kept
from score_distill.stages.learner import Learner, follow
from score_distill.stages.pools import dev_tasks, pools
from score_distill.stages.reinforcement import Reinforcement, Row, Solved
from score_distill.stages.rollouts import Group, roll_out
from score_distill.stages.schedule import groups_of, kept_of
from score_distill.stages.scoring import scored
from score_distill.stages.training import BEST, Curve, on_trainer, stored_checkpoints
from score_distill.train.stopping import Stop, Stopped

T = TypeVar("T")


def run(config: StageConfig, store: Store) -> Summary:
    return on_trainer(StageContext(config, store), _run)


def _run(frame: StageContext, lead: bool) -> Summary:
    if not lead:
        follow(frame)
        return Summary(step=frame.config.step, succeeded=True)
    with ThreadPoolExecutor(1, "trainer") as thread:
        return asyncio.run(_lead(frame, thread))


async def _lead(frame: StageContext, thread: ThreadPoolExecutor) -> Summary:
    if frame.config.student is None:
        raise BadInput("rl needs the student served")
    spec, rl = frame.config.spec, frame.config.spec.method.rl
    prefixed, full = pools(frame)
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    stop = Stop(wake=lambda: loop.call_soon_threadsafe(asked.set))
    trainer = OnThread(await loop.run_in_executor(thread, lambda: Learner(frame, stop)), thread)
    extra, record = trainer.learner.extra, Files(frame)

    def draw(update: int) -> list[Item]:
        share = rl.full_horizon
        return groups_of(prefixed, full, update=update, groups=rl.groups_per_update, full_share=share, seed=spec.seed)

    async with floor(frame, frozenset(), durable=False) as here:
        here.ledger.account.restore(extra["usage"] if extra else [])
        with record:
            work = Reinforcement(
                rl,
                spec.seed,
                trainer,
                Acting(here, trainer.learner.longest),
                record,
                draw,
                dev_tasks(frame),
                frame.work / "exported",
                frame.work / BEST,
                asked,
                Stopped,
                extra,
                frame.input("rl").manifest.counts["rollout_tokens"] if frame.config.step in CONTROLS_OF_RL else None,
            )
            await work.publish()
            with stop:
                await work.train()
        usage = here.ledger.account.rows()
    await trainer.stop()
    return finish(frame, work, record, trainer.done, usage)


class OnThread:
    """The learner, on the thread that owns the trainer's device."""

    def __init__(self, learner: Learner, thread: ThreadPoolExecutor) -> None:
        self.learner, self._thread = learner, thread

    @property
    def done(self) -> int:
        return self.learner.done

    async def update(self, groups: Sequence[Group]) -> dict[str, float]:
        return await self._there(lambda: self.learner.update(groups))

    async def export(self, folder: Path) -> None:
        await self._there(lambda: self.learner.export(folder))

    async def save(self, extra: dict[str, Any]) -> None:
        await self._there(lambda: self.learner.save(extra))

    async def asked_to_stop(self) -> bool:
        return await self._there(self.learner.asked_to_stop)

    async def stop(self, early: bool = False) -> None:
        await self._there(lambda: self.learner.stop(early))

    async def _there(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class Acting:
    """The student that a server computes, in a sandbox; what a session's loss took is begun anew."""

    def __init__(self, here: RolloutContext, longest: int) -> None:
        self._here, self._longest = here, longest

    async def load(self, checkpoint: Path) -> None:
        await self._here.load(checkpoint)

    async def roll_out(self, item: Item, seed: int, updates: Callable[[], int]) -> Group:
        here = self._here
        if here.frame.config.step != ON_POLICY:
            return await retried(roll_out)(here, item, seed, self._longest, updates)
        return await scored(here, await retried(roll_out)(here, item, seed, self._longest, updates, rewarded=False))

    async def solve(self, task: Task) -> Solved:
        return await retried(self._solve)(task)

    async def _solve(self, task: Task) -> Solved:
        here, spec = self._here, self._here.frame.config.spec
        async with SnapshotPool() as scope:
            stand, ending = await act(
                AgentState((), (scope.hold(await here.world(task)),)),
                here.student_actor(task, Sampling(temperature=0)),
                here.caller("student", task.id, "dev", ""),
                max_steps=spec.method.agent.max_steps,
                seed=0,
                scope=scope,
                compared=0,
            )
        answer = stand.steps[-1].answer if stand.steps else None
        verdict = await judged(spec.tasks.train.metric, task, answer, here.judge(task, "verify"))
        steps = [step.model_dump(mode="json", exclude={"tokens", "logprobs"}) for step in stand.steps]
        told = {"task": task.id, "seed": 0, **verdict.model_dump(mode="json"), "answer": answer, "ending": ending}
        return Solved(verdict.correct, {**told, "steps": steps})

    def usage(self) -> list[dict[str, Any]]:
        return self._here.ledger.account.rows()


class Files:
    """The curve, the rollouts and the attempts at dev tasks of the step, each row with what it was made by and from."""

    def __init__(self, frame: StageContext) -> None:
        self._frame = frame
        self._curve = Curve(frame, "updates")
        self._rollouts, self._attempts = (Kept(frame.writer, name) for name in ("rollouts", "attempts"))
        parents = {step: frame.input(step).manifest.digest for step in frame.config.inputs}
        self._common = {"model": frame.config.step, "prompts": PROMPT_VERSION, "parents": parents}

    def __enter__(self) -> None:
        with ExitStack() as stack:
            for one in (self._rollouts, self._attempts):
                stack.enter_context(one)
            self._open = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def curve(self, update: int, line: dict[str, Any], message: str) -> None:
        self._curve.add(update, self._frame.config.spec.method.rl.updates, "update", line, message)

    def rollouts(self, update: int, rows: Sequence[Row]) -> None:
        self._rollouts.add(update, ({**self._common, **row} for row in rows))

    def attempts(self, update: int, rows: Sequence[Row]) -> None:
        self._attempts.add(update, ({**self._common, **row} for row in rows))

    def flush(self) -> None:
        self._rollouts.flush()
        self._attempts.flush()

    def add(self) -> None:
        """Make them part of the step's result."""
        writer, work = self._frame.writer, self._frame.work
        writer.add_file("curve.jsonl", self._curve.path)
        writer.add_rows("rollouts.jsonl", self._rollouts.rows())
        writer.add_rows("attempts.jsonl", self._attempts.rows())
        for name in ("prefixed.jsonl", "full.jsonl"):
            writer.add_file(f"items/{name}", work / name)


def finish(
    frame: StageContext, work: Reinforcement, record: Files, updates: int, usage: list[dict[str, Any]]
) -> Summary:
    frame.writer.add_tree("model", work.model)
    record.add()
    counts = {
        "updates": updates,
        "rollout_tokens": work.sampled,
        **{f"lost_{name}": count for name, count in work.lost.items()},
    }
    metrics, problems = {}, []
    if work.looks:
        frame.writer.add_rows("dev.jsonl", work.looks)
        first, kept = work.looks[0], kept_of(work.looks)
        metrics = {f"dev_{name}": one["correct"] / max(1, one["n"]) for name, one in (("start", first), ("best", kept))}
        counts |= {"best_update": kept["update"], "dev_unjudged": sum(one["unjudged"] for one in work.looks)}
        if kept["update"] == 0:
            problems.append(
                "no update beat the SFT student on the dev split beyond chance: the step leaves that student unchanged"
            )
    else:
        problems.append("no dev split: the last weights are kept, unchosen")
    done = frame.finish(counts, usage=usage, metrics=metrics, problems=problems)
    stored_checkpoints(frame).clear()
    return done
