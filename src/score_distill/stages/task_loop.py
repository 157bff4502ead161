"""A step over tasks, as each of its workers does it: taken up where it was left, told of, and committed once.

A task falls to a worker by its name. A task that has an outcome is not done again, whoever did it and however many
workers there were. A worker that is through leaves a mark; the one that finds all marks there folds the outcomes of
all into the result. Where that one is killed, the next attempt finds the marks and goes on from there.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from score_distill.agent.completer import Usage
from score_distill.agent.ledger import Account
from score_distill.agent.trajectory import Row
from score_distill.artifacts.store import Appender, ArtifactCorrupt
from score_distill.contract import Progress, Summary
from score_distill.stages.acting import RolloutContext, each, floor
from score_distill.stages.context import StageContext
from score_distill.stages.outcomes import Outcome, Outcomes
from score_distill.stages.parts import Parts

T = TypeVar("T")
R = TypeVar("R", bound=Row)


class TaskLoop(ABC, Generic[T, R]):
    """What is common to the steps that act; a step says what its tasks are and what becomes of one, and of all."""

    def __init__(self, frame: StageContext) -> None:
        config = frame.config
        self.frame = frame
        self.parts = Parts(frame.store, config.run, config.step, frame.worker, config.workers)
        self.finished: frozenset[str] = frozenset()
        self.done = self.total = 0

    @abstractmethod
    def tasks(self) -> Iterable[T]:
        """All tasks of the step, in every worker and at every call the same."""

    @abstractmethod
    def name(self, task: T) -> str: ...

    @abstractmethod
    def task_of(self, outcome: Outcome) -> str:
        """The name of the task that came to this outcome."""

    @abstractmethod
    async def work(self, here: RolloutContext, task: T) -> R: ...

    @abstractmethod
    def result(self, outcomes: Outcomes) -> Summary:
        """Commit the step; `finish` with the files and counts that the outcomes give."""

    def worker_for(self, task: T) -> int:
        return self.parts.worker_for(self.name(task))

    def told(self, row: R) -> str:
        """What progress says beside the numbers, after this outcome."""
        return ""

    def figures(self) -> Mapping[str, int]:
        """What this attempt has counted so far."""
        return {}

    async def act(self, here: RolloutContext, outcomes: Appender) -> None:
        await self.each(here, self.left(), outcomes)

    def run(self) -> Summary:
        if self.parts.mine_done:
            self.done = self.total = sum(1 for _ in self.mine())
            self.progress(now=True)
        else:
            asyncio.run(self._act())
            self.parts.finish_mine()
        if not self.parts.all_done:
            return Summary(step=self.frame.config.step, succeeded=True, message="its part is done")
        with Outcomes(self.frame.writer.read_journal("outcomes"), self.task_of) as outcomes:
            expected = sum(1 for _ in self.tasks())
            if len(outcomes) != expected:
                raise ArtifactCorrupt(f"{expected} tasks came to {len(outcomes)} outcomes; the journal was changed")
            return self.result(outcomes)

    async def _act(self) -> None:
        self.finished = frozenset(map(self.task_of, self.frame.writer.read_journal("outcomes")))
        mine = frozenset(map(self.name, self.mine()))
        self.total, self.done = len(mine), len(mine & self.finished)
        self.progress(now=True)
        if self.done < self.total:
            async with floor(self.frame, self.finished, mine=mine) as here:
                with self.frame.writer.journal("outcomes") as outcomes:
                    await self.act(here, outcomes)
        self.progress(now=True)

    def mine(self) -> Iterator[T]:
        """The tasks of this worker."""
        return (task for task in self.tasks() if self.worker_for(task) == self.parts.worker)

    def left(self) -> Iterator[T]:
        """Those of them that had no outcome when the attempt began."""
        return (task for task in self.mine() if self.name(task) not in self.finished)

    async def each(self, here: RolloutContext, tasks: Iterable[T], outcomes: Appender) -> None:
        def on_done(task: T, row: R) -> None:
            self.done += 1
            here.ledger.settle(self.name(task))
            self.progress(self.told(row))

        await each(
            tasks,
            lambda task: self.work(here, task),
            concurrency=self.frame.config.spec.resources.rollout.concurrency,
            outcomes=outcomes,
            on_done=on_done,
        )

    def progress(self, message: str = "", *, now: bool = False) -> None:
        self.frame.progress(self.done, self.total, "tasks", message, figures=self.figures(), now=now)

    def finish(self, counts: Mapping[str, int], problems: list[str] | None = None) -> Summary:
        """Commit, with what the calls of all workers and attempts cost."""
        account = Account()
        for call in self.frame.writer.read_journal("calls"):
            account.add(call["role"], call["purpose"], Usage(**call["usage"]))
        whole = sum(1 for _ in self.tasks())
        reached = Progress(done=whole, total=whole, unit="tasks")
        return self.frame.finish(counts, usage=account.rows(), problems=problems, reached=reached)
