"""The loop of RL without a trainer, a server or a sandbox: staleness, patience, the kept student, and taking it up."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from score_distill.agent.rewards import Judged
from score_distill.agent.rl_starts import Item
from score_distill.agent.trajectory import Task
from score_distill.api import Rl
from score_distill.stages.reinforcement import Reinforcement, Row, Solved
from score_distill.stages.rollouts import Group, Rollout, group

ITEM = Item(id="i", task=Task(id="i", question="q", answer="a"))


class Ended(Exception):
    """What the loop raises when it was asked to stop."""


@dataclass
class FakeTrainer:
    """Its weights are the number of updates; ``saved`` is its last checkpoint. ``asks`` says when SIGTERM came."""

    done: int = 0
    saved: dict[str, Any] = field(default_factory=dict)
    asks: Callable[[int], bool] = lambda _: False
    ended: list[bool] = field(default_factory=list)

    async def update(self, groups: Sequence[Group]) -> dict[str, float]:
        await asyncio.sleep(0)
        self.done += 1
        return {"loss": 0.0}

    async def export(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "weights").write_text(str(self.done))

    async def save(self, extra: dict[str, Any]) -> None:
        self.saved = json.loads(json.dumps({**extra, "done": self.done}))

    async def asked_to_stop(self) -> bool:
        return self.asks(self.done)

    async def stop(self, early: bool = False) -> None:
        self.ended.append(early)


@dataclass
class FakeStudent:
    """Acts with the weights that were loaded; ``outcomes`` gives a sign for each dev task, by the update."""

    outcomes: Callable[[int], str] = lambda _: ""
    loaded: list[int] = field(default_factory=list)
    begun: list[tuple[int, int]] = field(default_factory=list)
    waits: Callable[[], Any] = lambda: asyncio.sleep(0)
    failing: bool = False
    cancelled: int = 0

    async def load(self, checkpoint: Path) -> None:
        await asyncio.sleep(0)
        self.loaded.append(int((checkpoint / "weights").read_text()))

    async def roll_out(self, item: Item, seed: int, updates: Callable[[], int]) -> Group:
        drawn = updates()
        assert drawn == self.loaded[-1]
        self.begun.append((seed, drawn))
        if self.failing and len(self.begun) > 1:
            raise RuntimeError("a rollout failed")
        try:
            await self.waits()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        judged = Judged(answered=True, correct=True, key="none")
        return group(item, [Rollout(seed, drawn, (), (1,), (1,), (0.0,), 1.0, judged)])

    async def solve(self, task: Task) -> Solved:
        sign = self.outcomes(self.loaded[-1])[int(task.id)]
        correct = {"1": True, "0": False, "?": None}[sign]
        return Solved(correct, {"task": task.id, "correct": correct})

    def usage(self) -> list[dict[str, Any]]:
        return [{"calls": len(self.begun)}]


class FakeRecord:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.made: list[tuple[int, int]] = []
        self.tried: list[tuple[int, int]] = []

    def curve(self, update: int, line: dict[str, Any], message: str) -> None:
        self.lines.append({"update": update, **line})

    def rollouts(self, update: int, rows: Sequence[Row]) -> None:
        self.made += [(update, row["drawn"]) for row in rows]

    def attempts(self, update: int, rows: Sequence[Row]) -> None:
        self.tried.append((update, len(rows)))

    def flush(self) -> None:
        pass


@dataclass
class Here:
    """One attempt; the folders outlive it, as those of a step do."""

    folder: Path
    rl: Rl
    trainer: FakeTrainer = field(default_factory=FakeTrainer)
    student: FakeStudent = field(default_factory=FakeStudent)
    record: FakeRecord = field(default_factory=FakeRecord)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    dev: int = 0
    tokens: int | None = None

    async def run(self) -> Reinforcement:
        work = Reinforcement(
            self.rl,
            0,
            self.trainer,
            self.student,
            self.record,
            lambda update: [ITEM] * self.rl.groups_per_update,
            [Task(id=str(n), question="q", answer="a") for n in range(self.dev)],
            self.folder / "exported",
            self.folder / "best",
            self.asked,
            Ended,
            self.trainer.saved or None,
            self.tokens,
        )
        await work.publish()
        await work.train()
        return work


def weights(folder: Path) -> int:
    return int((folder / "weights").read_text())


@pytest.mark.parametrize("most", [0, 1, 3])
async def test_staleness_is_that_of_the_samples_and_never_above_the_bound(tmp_path: Path, most: int) -> None:
    here = Here(tmp_path, Rl(updates=8, max_staleness=most, groups_per_update=2))
    await here.run()
    ages = {update: [update - drawn for at, drawn in here.record.made if at == update] for update in range(8)}
    assert [line["staleness_max"] for line in here.record.lines] == [max(ages[update]) for update in range(8)]
    assert [line["staleness"] for line in here.record.lines] == [sum(ages[update]) / 2 for update in range(8)]
    assert max(map(max, ages.values())) == most
    assert here.student.loaded == list(range(9))
    assert [path.name for path in (tmp_path / "exported").iterdir()] == ["000008"]


async def test_a_batch_that_begins_late_is_as_fresh_as_its_samples(tmp_path: Path) -> None:
    here = Here(tmp_path, Rl(updates=3, max_staleness=2, groups_per_update=1))
    first = here.student.waits

    async def waits() -> None:
        await first()

    here.student.waits = waits
    await here.run()
    assert [(line["update"], line["staleness"]) for line in here.record.lines] == [(0, 0), (1, 1), (2, 2)]


def won(count: int) -> Callable[[int], str]:
    """All dev tasks wrong at first; after each update one more of them right, up to ``count``."""
    return lambda update: "1" * min(update, count) + "0" * (10 - min(update, count))


async def test_the_student_is_kept_that_beats_the_kept_one_beyond_chance(tmp_path: Path) -> None:
    here = Here(tmp_path, Rl(updates=7, dev_every=1, max_staleness=0, groups_per_update=1), dev=10)
    here.student.outcomes = won(6)
    work = await here.run()
    assert [look["correct"] for look in work.looks] == [0, 1, 2, 3, 4, 5, 6, 6]
    assert weights(work.model) == 5  # 5 gained, none lost: p = 1/32; 4 are p = 1/16
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["000005"]
    assert here.record.tried == [(update, 10) for update in range(8)]


async def test_without_a_gain_beyond_chance_the_first_student_is_left(tmp_path: Path) -> None:
    here = Here(tmp_path, Rl(updates=6, dev_every=2, groups_per_update=1), dev=10)
    here.student.outcomes = lambda update: {0: "1111100000", 2: "1111110000"}.get(update, "0111111000")
    work = await here.run()
    assert weights(work.model) == 0


async def test_what_nobody_judged_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    here = Here(tmp_path, Rl(updates=1, dev_every=1, groups_per_update=1), dev=10)
    here.student.outcomes = lambda update: "1?00000000" if update == 0 else "1111??????"
    work = await here.run()
    assert [(look["correct"], look["n"], look["unjudged"]) for look in work.looks] == [(1, 9, 1), (4, 4, 6)]
    assert weights(work.model) == 0  # two gained among the tasks that both were judged on


async def test_it_stops_when_patience_is_over(tmp_path: Path) -> None:
    here = Here(tmp_path, Rl(updates=50, dev_every=1, patience=3, groups_per_update=1), dev=10)
    here.student.outcomes = won(2)
    work = await here.run()
    assert work.looks[-1]["update"] == here.trainer.done == 5


async def test_it_stops_when_it_has_sampled_the_tokens_it_may_and_looks_at_what_it_leaves(tmp_path: Path) -> None:
    rl = Rl(updates=50, dev_every=10, checkpoint_every=1, groups_per_update=2)
    here = Here(tmp_path, rl, dev=10, tokens=5)
    here.student.outcomes = won(6)
    work = await here.run()
    assert here.trainer.done == 3  # two rollouts of one token each an update
    assert [look["update"] for look in work.looks] == [0, 3]
    assert work.sampled == here.trainer.saved["sampled"] == 6
    again = Here(tmp_path, rl, FakeTrainer(3, here.trainer.saved), dev=10, tokens=5)
    assert (await again.run()).sampled == 6
    assert again.student.begun == []


async def test_a_step_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    rl = Rl(updates=6, dev_every=2, checkpoint_every=3, max_staleness=1, groups_per_update=2)
    (tmp_path / "whole").mkdir()
    whole = Here(tmp_path / "whole", rl, dev=10)
    whole.student.outcomes = won(6)
    expected = await whole.run()

    class Killed(BaseException):
        pass

    killed = Here(tmp_path / "cut", rl, dev=10)
    killed.student.outcomes = won(6)

    def kill(done: int) -> bool:
        if done == 5:
            raise Killed
        return False

    killed.trainer.asks = kill
    with pytest.raises(Killed):
        await killed.run()
    saved = killed.trainer.saved
    assert saved["done"] == 4

    again = Here(tmp_path / "cut", rl, FakeTrainer(saved["done"], saved), dev=10)
    again.student.outcomes = won(6)
    found = await again.run()
    assert found.looks == expected.looks
    assert weights(found.model) == weights(expected.model) == 6
    assert [line["update"] for line in again.record.lines] == [4, 5]
    seeds = [seed for seed, _ in whole.student.begun]
    assert [seed for seed, _ in again.student.begun] == seeds[8:]
    assert again.student.begun[0][1] == 4


async def test_sigterm_while_it_waits_for_rollouts_leaves_a_checkpoint_and_nothing_running(tmp_path: Path) -> None:
    here = Here(tmp_path, Rl(updates=3, max_staleness=1, groups_per_update=2))
    forever = asyncio.Event()

    async def waits() -> None:
        here.asked.set()
        await forever.wait()

    here.student.waits = waits
    with pytest.raises(Ended):
        await here.run()
    assert here.trainer.saved["done"] == 0
    assert here.trainer.ended == [True]
    assert here.student.cancelled == len(here.student.begun) == 4


async def test_sigterm_on_another_rank_is_heard_after_the_update(tmp_path: Path) -> None:
    here = Here(tmp_path, Rl(updates=9, groups_per_update=1))
    here.trainer.asks = lambda done: done == 3
    with pytest.raises(Ended):
        await here.run()
    assert here.trainer.saved["done"] == 3


async def test_a_rollout_that_fails_ends_its_siblings_before_its_error_is_raised(tmp_path: Path) -> None:
    here = Here(tmp_path, Rl(updates=1, max_staleness=0, groups_per_update=3))
    here.student.failing = True
    forever = asyncio.Event()
    here.student.waits = forever.wait
    with pytest.raises(RuntimeError, match="a rollout failed"):
        await here.run()
    assert here.student.cancelled == 1
