"""rl: short-horizon reinforcement from the verified prefix, watched by whole dev tasks.

Rank 0 rolls out in its event loop while a thread of its own trains; the other ranks follow. Batch b may start
``maxStaleness`` updates early and never earlier, so no sample is staler than that. After each update the weights are
pushed to the serving vLLM and verified. The best student by the dev split is what the step leaves.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from score_distill.agent.codeact import Stand, act
from score_distill.agent.environment import Scope
from score_distill.agent.items import Item
from score_distill.agent.judge import judged
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Task
from score_distill.api import Sampling
from score_distill.artifacts.store import Store
from score_distill.contract import StageConfig, Summary
from score_distill.errors import BadInput
from score_distill.stages.acting import Floor, floor, retried
from score_distill.stages.frame import Frame
from score_distill.stages.learner import Learner, follow
from score_distill.stages.pools import dev_tasks, pools
from score_distill.stages.rollouts import Group, roll_out
from score_distill.stages.schedule import Pool, best_of, exhausted, groups_of
from score_distill.stages.training import BEST, Curve, on_trainer, stored_checkpoints
from score_distill.train.stopping import Stop, Stopped

T = TypeVar("T")


def run(config: StageConfig, store: Store) -> Summary:
    return on_trainer(Frame(config, store), _run)


def _run(frame: Frame, lead: bool) -> Summary:
    if not lead:
        follow(frame)
        return Summary(step=frame.config.step, succeeded=True)
    with ThreadPoolExecutor(1, "trainer") as thread:
        return asyncio.run(Reinforcement(frame, thread).run())


class Reinforcement:
    """One RL step under way on rank 0."""

    def __init__(self, frame: Frame, thread: ThreadPoolExecutor) -> None:
        self.frame = frame
        self.spec = frame.config.spec
        self.rl = frame.config.spec.method.rl
        self._thread = thread
        self.best = frame.work / BEST
        self.looks: list[dict[str, int]] = []
        self.lost: Counter[str] = Counter()
        self.usage: list[dict[str, Any]] = []

    async def run(self) -> Summary:
        if self.frame.config.student is None:
            raise BadInput("rl needs the student served")
        prefixed, full = pools(self.frame)
        loop, self.asked = asyncio.get_running_loop(), asyncio.Event()
        self.stop = Stop(wake=lambda: loop.call_soon_threadsafe(self.asked.set))
        self.learner = await self.trainer(lambda: Learner(self.frame, self.stop))
        if self.learner.extra:
            self.looks, self.lost = self.learner.extra["looks"], Counter(self.learner.extra["lost"])
            self.usage = self.learner.extra["usage"]
        self.curve = Curve(self.frame, "updates")
        async with floor(self.frame, frozenset(), durable=False) as here:
            here.ledger.account.restore(self.usage)
            await self.publish(here)
            with self.stop:
                await self.look_when_due(here)
                await self.updates(here, prefixed, full)
            usage = here.ledger.account.rows()
        await self.trainer(self.learner.stop)
        return self.finish(usage)

    async def updates(self, here: Floor, prefixed: Pool, full: Pool) -> None:
        """Keep at most ``maxStaleness`` batches in flight ahead of the one that is trained on."""
        ahead: dict[int, asyncio.Task[list[Group]]] = {}
        self.first = self.learner.done
        try:
            for update in range(self.first, self.rl.updates):
                if exhausted(self.looks, self.rl.patience):
                    break
                for batch in range(update, min(update + self.rl.max_staleness + 1, self.rl.updates)):
                    if batch not in ahead:
                        drawn = groups_of(
                            prefixed,
                            full,
                            update=batch,
                            groups=self.rl.groups_per_update,
                            full_share=self.rl.full_horizon,
                            seed=self.spec.seed,
                        )
                        ahead[batch] = asyncio.create_task(self.batch(here, drawn, batch))
                groups = await self.unless_asked(here, ahead.pop(update))
                await self.learn(update, groups)
                if await self.trainer(self.learner.asked_to_stop):
                    await self.stop_early(here)
                await self.publish(here)
                await self.look_when_due(here)
                if self.learner.done % self.rl.checkpoint_every == 0:
                    await self.checkpoint(here)
        finally:
            for task in ahead.values():
                task.cancel()
            await asyncio.gather(*ahead.values(), return_exceptions=True)

    async def batch(self, here: Floor, drawn: Sequence[Item], update: int) -> list[Group]:
        """The groups of one update; an item that is drawn twice in it has rollouts of its own each time."""
        seeds = [seed_of(self.spec.seed, "rl", update, place) for place in range(len(drawn))]
        work = retried(lambda item, seed: roll_out(here, item, seed, self.learner.longest))
        return list(await asyncio.gather(*map(work, drawn, seeds)))

    async def learn(self, update: int, groups: list[Group]) -> None:
        """One optimizer update, and its line in the curve."""
        for group in groups:
            self.lost += group.lost
        staleness = update - max(self.first, update - self.rl.max_staleness)
        told = await self.trainer(lambda: self.learner.update(groups))
        rollouts = [one for group in groups for one in group.rollouts]
        count = max(1, len(rollouts))
        keyed = [one for group in groups if not group.item.full_horizon for one in group.rollouts]
        line = {
            "reward": sum(one.reward for one in rollouts) / count,
            "final_rate": sum(one.judged.correct is True for one in rollouts) / count,
            "key_rate": sum(one.judged.key == "chosen" for one in keyed) / max(1, len(keyed)),
            "staleness": staleness,
            "groups": len(groups),
            "rollouts": len(rollouts),
            **told,
        }
        message = f"reward {line['reward']:.3f}, dev {self.looks[-1]['correct'] if self.looks else 0}"
        self.curve.add(update, self.rl.updates, "update", line, message)

    async def publish(self, here: Floor) -> None:
        """Write the weights, push them to the server, and have it prove that it uses them."""
        plain, pushed = self.exported(self.learner.done), self.frame.work / "pushed" / f"{self.learner.done:06d}"
        if not pushed.exists():
            await self.trainer(lambda: self.learner.export(plain, pushed))
        await here.load(pushed)
        for folder in (plain, pushed):
            for old in folder.parent.iterdir():
                if old != folder:
                    shutil.rmtree(old)

    async def look_when_due(self, here: Floor) -> None:
        """Score whole dev tasks, and keep these weights when they are the best so far."""
        update, tasks = self.learner.done, dev_tasks(self.frame)
        due = update % self.rl.dev_every == 0 or update == self.rl.updates
        if not due or not tasks or any(look["update"] == update for look in self.looks):
            return
        solves = retried(lambda task: self.solves(here, task))
        correct = sum(await self.unless_asked(here, asyncio.gather(*map(solves, tasks))))
        self.looks.append({"update": update, "correct": correct, "n": len(tasks)})
        if best_of(self.looks)["update"] == update:
            fresh = self.kept(update).with_name("part")
            for old in (fresh, self.kept(update)):
                shutil.rmtree(old, ignore_errors=True)
            shutil.copytree(self.exported(update), fresh)
            fresh.rename(self.kept(update))
        await self.checkpoint(here)
        for old in self.best.iterdir():
            if old != self.kept(best_of(self.looks)["update"]):
                shutil.rmtree(old)

    async def solves(self, here: Floor, task: Task) -> bool:
        async with Scope() as scope:
            stand, _ = await act(
                Stand((), (scope.hold(await here.world(task)),)),
                here.student_actor(task, Sampling(temperature=0)),
                here.caller("student", task.id, "dev", ""),
                max_steps=self.spec.method.agent.max_steps,
                seed=0,
                scope=scope,
            )
        answer = stand.steps[-1].answer if stand.steps else None
        verdict = await judged(self.spec.tasks.train.metric, task, answer, here.judge(task, "verify"))
        return verdict.correct is True

    def exported(self, update: int) -> Path:
        return self.frame.work / "exported" / f"{update:06d}"

    def kept(self, update: int) -> Path:
        """The weights after an update, kept while they are the best: one folder each, so that a kill loses none."""
        return self.best / f"{update:06d}"

    async def unless_asked(self, here: Floor, work: Awaitable[T]) -> T:
        """The result of what may take longer than a grace period; when SIGTERM comes first, all ends instead."""
        result, asked = asyncio.ensure_future(work), asyncio.create_task(self.asked.wait())
        try:
            await asyncio.wait((result, asked), return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                await self.stop_early(here)
            return result.result()
        finally:
            for task in (result, asked):
                task.cancel()
            await asyncio.gather(result, asked, return_exceptions=True)

    async def stop_early(self, here: Floor) -> NoReturn:
        await self.checkpoint(here)
        await self.trainer(lambda: self.learner.stop(early=True))
        raise Stopped

    async def checkpoint(self, here: Floor) -> None:
        extra = {"looks": self.looks, "lost": dict(self.lost), "usage": here.ledger.account.rows()}
        await self.trainer(lambda: self.learner.save(extra))

    def finish(self, usage: list[dict[str, Any]]) -> Summary:
        best = best_of(self.looks) if self.looks else None
        model = self.kept(best["update"]) if best else self.exported(self.learner.done)
        self.frame.writer.add_tree("model", model)
        self.frame.writer.add_file("curve.jsonl", self.curve.path)
        if self.looks:
            self.frame.writer.add_rows("dev.jsonl", self.looks)
        counts = {"updates": self.learner.done, **{f"lost_{name}": count for name, count in self.lost.items()}}
        metrics, problems = {}, []
        if best:
            metrics = {"dev_best": best["correct"] / best["n"], "dev_start": self.looks[0]["correct"] / best["n"]}
            counts["best_update"] = best["update"]
            if best["update"] == 0:
                problems.append(
                    "no update beat the SFT student on the dev split: the step leaves that student unchanged"
                )
        else:
            problems.append("no dev split: the last weights are kept, unchosen")
        done = self.frame.finish(counts, usage=usage, metrics=metrics, problems=problems)
        stored_checkpoints(self.frame).clear()
        return done

    async def trainer(self, work: Callable[[], T]) -> T:
        """Run on the thread that owns the trainer's device."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
