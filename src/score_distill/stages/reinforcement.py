"""The loop of RL, behind protocols: who trains, who acts, and what is kept is given to it.

Batch b may start ``maxStaleness`` updates early and never earlier, so no sample is staler than that. After each update
the student acts with the new weights. Looks at whole dev tasks decide which student is kept.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

from score_distill.agent.rl_starts import Item
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Task
from score_distill.api import Rl
from score_distill.stages.rollouts import Group
from score_distill.stages.schedule import DevEval, beats, exhausted, kept_of, look
from score_distill.stages.together import together

T = TypeVar("T")
Row = Mapping[str, Any]


class Trainer(Protocol):
    @property
    def done(self) -> int:
        """Updates made, over all attempts at the step."""

    async def update(self, groups: Sequence[Group]) -> dict[str, float]:
        """One update; what it did, for the curve."""

    async def export(self, folder: Path) -> None: ...

    async def save(self, extra: dict[str, Any]) -> None:
        """A checkpoint, which ``extra`` and the folder of kept students come back with."""

    async def asked_to_stop(self) -> bool:
        """Whether SIGTERM came to any rank."""

    async def stop(self, early: bool = False) -> None: ...


@dataclass(frozen=True)
class Solved:
    """One dev task; ``correct`` is None when nobody could judge it, ``row`` what is kept of it."""

    correct: bool | None
    row: Row


class Student(Protocol):
    """The student as it acts, with the weights that were loaded last."""

    async def load(self, checkpoint: Path) -> None: ...

    async def roll_out(self, item: Item, seed: int, updates: Callable[[], int]) -> Group:
        """``updates`` says when called how many are in the weights of that moment."""

    async def solve(self, task: Task) -> Solved: ...

    def usage(self) -> list[dict[str, Any]]: ...


class Record(Protocol):
    """What is kept of updates and looks; an update that is made again after a restart takes the earlier's place."""

    def curve(self, update: int, line: dict[str, Any], message: str) -> None: ...

    def rollouts(self, update: int, rows: Sequence[Row]) -> None: ...

    def attempts(self, update: int, rows: Sequence[Row]) -> None: ...

    def flush(self) -> None:
        """Return when all of it is where a restart finds it."""


class Reinforcement:
    """One attempt at the step. ``best`` is the folder of the kept student, one folder in it at rest, named by its
    update; ``draw`` gives the items of an update, ``asked`` is set when the step is to end soon.
    ``tokens`` bounds what is sampled, where it is given."""

    def __init__(
        self,
        rl: Rl,
        seed: int,
        trainer: Trainer,
        student: Student,
        record: Record,
        draw: Callable[[int], Sequence[Item]],
        dev: Sequence[Task],
        exported: Path,
        best: Path,
        asked: asyncio.Event,
        stopped: Callable[[], BaseException],
        extra: Mapping[str, Any] | None = None,
        tokens: int | None = None,
    ) -> None:
        self._rl, self._seed, self._trainer, self._student, self._record = rl, seed, trainer, student, record
        self._draw, self._dev, self._exports, self._best = draw, dev, exported, best
        self._asked, self._stopped = asked, stopped
        self.looks: list[DevEval] = list(extra["looks"]) if extra else []
        self.lost: Counter[str] = Counter(extra["lost"] if extra else {})
        self.sampled: int = extra.get("sampled", 0) if extra else 0
        self._tokens = tokens
        self.loaded = 0

    async def publish(self) -> None:
        """Write the weights and have the student act with them; only then are they told to be what it acts with."""
        folder = self.exported(self._trainer.done)
        if not folder.exists():
            await self._trainer.export(folder)
        await self._student.load(folder)
        self.loaded = self._trainer.done
        for old in folder.parent.iterdir():
            if old != folder:
                shutil.rmtree(old)

    async def train(self) -> None:
        """Keep at most ``maxStaleness`` batches in flight ahead of the one that is trained on."""
        await self._look_when_due()
        ahead: dict[int, asyncio.Task[list[Group]]] = {}
        try:
            for update in range(self._trainer.done, self._rl.updates):
                if self._spent or exhausted(self.looks, self._rl.patience):
                    break
                for batch in range(update, min(update + self._rl.max_staleness + 1, self._rl.updates)):
                    if batch not in ahead:
                        ahead[batch] = asyncio.create_task(self._batch(batch))
                groups = await self._unless_asked(ahead.pop(update))
                await self._learn(update, groups)
                if await self._trainer.asked_to_stop():
                    await self._stop_early()
                await self.publish()
                await self._look_when_due()
                if self._trainer.done % self._rl.checkpoint_every == 0:
                    await self._checkpoint()
        finally:
            for task in ahead.values():
                task.cancel()
            await asyncio.gather(*ahead.values(), return_exceptions=True)

    @property
    def model(self) -> Path:
        """The student that the step leaves; without dev tasks the last."""
        return self.kept(kept_of(self.looks)["update"]) if self.looks else self.exported(self._trainer.done)

    def exported(self, update: int) -> Path:
        return self._exports / f"{update:06d}"

    def kept(self, update: int) -> Path:
        """The student after an update, while it is kept: one folder each, so that a kill loses none."""
        return self._best / f"{update:06d}"

    @property
    def _spent(self) -> bool:
        return self._tokens is not None and self.sampled >= self._tokens

    async def _batch(self, update: int) -> list[Group]:
        """The groups of one update; an item that is drawn twice in it has rollouts of its own each time."""
        return await together(
            self._student.roll_out(item, seed_of(self._seed, "rl", update, place), lambda: self.loaded)
            for place, item in enumerate(self._draw(update))
        )

    async def _learn(self, update: int, groups: list[Group]) -> None:
        """One update, and what is kept of it."""
        for group in groups:
            self.lost += group.lost
            self.sampled += sum(len(one.logprobs) for one in group.made)
        self._record.rollouts(update, [{"item": one.item.id, **made.row()} for one in groups for made in one.made])
        told = await self._trainer.update(groups)
        rollouts = [one for group in groups for one in group.rollouts]
        keyed = [one for group in groups if not group.item.full_horizon for one in group.rollouts]
        ages = [update - one.drawn for one in rollouts]
        count = max(1, len(rollouts))
        line = {
            "reward": sum(one.reward for one in rollouts) / count,
            "final_rate": sum(one.judged.correct is True for one in rollouts) / count,
            "key_rate": sum(one.judged.key == "chosen" for one in keyed) / max(1, len(keyed)),
            "staleness": sum(ages) / count,
            "staleness_max": max(ages, default=0),
            "groups": len(groups),
            "rollouts": len(rollouts),
            **told,
        }
        right = self.looks[-1]["correct"] if self.looks else 0
        self._record.curve(update, line, f"reward {line['reward']:.3f}, dev {right}")

    async def _look_when_due(self) -> None:
        """Let the student do whole dev tasks, and keep it when it beats the one that is kept."""
        update = self._trainer.done
        due = update % self._rl.dev_every == 0 or update == self._rl.updates or self._spent
        if not due or not self._dev or any(one["update"] == update for one in self.looks):
            return
        solved = await self._unless_asked(together(map(self._student.solve, self._dev)))
        self._record.attempts(update, [one.row for one in solved])
        new = look(update, [one.correct for one in solved])
        replaces = not self.looks or beats(new, kept_of(self.looks))
        self.looks.append(new)
        if replaces:
            fresh = self.kept(update).with_name("part")
            for old in (fresh, self.kept(update)):
                shutil.rmtree(old, ignore_errors=True)
            shutil.copytree(self.exported(update), fresh)
            fresh.rename(self.kept(update))
        await self._checkpoint()
        for old in self._best.iterdir():
            if old != self.model:
                shutil.rmtree(old)

    async def _unless_asked(self, work: Awaitable[T]) -> T:
        """The result of what may take longer than a grace period; when SIGTERM comes first, all ends instead."""
        result, asked = asyncio.ensure_future(work), asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait((result, asked), return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                await self._stop_early()
            return result.result()
        finally:
            for task in (result, asked):
                task.cancel()
            await asyncio.gather(result, asked, return_exceptions=True)

    async def _stop_early(self) -> NoReturn:
        await self._checkpoint()
        await self._trainer.stop(early=True)
        raise self._stopped()

    async def _checkpoint(self) -> None:
        self._record.flush()
        so_far = {"looks": self.looks, "lost": dict(self.lost), "sampled": self.sampled}
        await self._trainer.save({**so_far, "usage": self._student.usage()})
