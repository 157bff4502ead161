"""Folds the mentored tasks into where first errors fall, corrections per task, leaks, and samples a person can read.

Rows come one at a time in any order; the same rows in another order give the same facts. Samples are the tasks with
the smallest digests, so they are a fair draw, spread over the positions k; those whose task ended right come first.
Each correction stands at the first error of one attempt, so each counts once in the histogram.
"""

from collections import Counter, defaultdict
from hashlib import blake2b
from heapq import nsmallest
from itertools import chain, zip_longest

from score_distill.agent.trajectory import Correction, Mentored, Step
from score_distill.report.facts import CorrectionsPerTask, Leaks, Sample, SampleStep, States
from score_distill.report.sanitize import legible, one_line

SAMPLES = 12
PREFIX_STEPS = 6
QUESTION_CHARS = 2000
TEXT_CHARS = 1200
ID_CHARS = 80

Place = tuple[bool, bytes]


class MentorFold:
    def __init__(self) -> None:
        self.first_errors: Counter[int] = Counter()
        self.right_after: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.set_aside: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.leaked_repairs = 0
        self.leaked_tasks = 0
        self.told: Counter[bool] = Counter()  # whether the state after a step is known
        self.candidates: defaultdict[int, list[tuple[Place, Sample]]] = defaultdict(list)

    def add(self, row: Mentored, step: str = "mentor") -> None:
        self.outcomes[row.outcome] += 1
        self.first_errors.update(one.k for one in row.corrections)
        self.leaked_repairs += row.leaks
        self.leaked_tasks += row.leaks > 0
        for trajectory in (*row.attempts, row.trajectory):
            self.told.update(one.state is not None for one in trajectory.steps)
        if row.outcome in ("solved", "corrected"):
            self.right_after[len(row.corrections)] += 1
        if row.outcome == "set_aside":
            self.set_aside[step][row.note] += 1
        if standing := next((one for one in row.corrections if one.kept and one.rejected), None):
            self._offer(row, standing)

    def _offer(self, row: Mentored, correction: Correction) -> None:
        place = (row.outcome != "corrected", blake2b(row.task.id.encode(errors="replace"), digest_size=8).digest())
        held = self.candidates[correction.k]
        if len(held) < SAMPLES or place < held[-1][0]:
            held.append((place, sample(row, correction)))
            self.candidates[correction.k] = nsmallest(SAMPLES, held, key=lambda one: one[0])

    def samples(self) -> tuple[Sample, ...]:
        """Up to 12, taken in turn from each position k; in the order of k."""
        rounds = zip_longest(*(self.candidates[k] for k in sorted(self.candidates)))
        drawn = [one for one in chain.from_iterable(rounds) if one is not None][:SAMPLES]
        return tuple(one for _, one in sorted(drawn, key=lambda pair: (pair[1].k, pair[0])))

    def corrections_per_task(self) -> CorrectionsPerTask:
        return CorrectionsPerTask(
            right_after=dict(sorted(self.right_after.items())),
            unsolved=self.outcomes["unsolved"],
            unfinished=self.outcomes["unfinished"],
            set_aside=self.outcomes["set_aside"],
        )

    def leaks(self) -> Leaks:
        return Leaks(repairs=self.leaked_repairs, tasks=self.leaked_tasks)

    def states(self) -> States:
        return States(steps=self.told.total(), unknown=self.told[False])


def sample(row: Mentored, correction: Correction) -> Sample:
    shown = correction.prefix[-PREFIX_STEPS:]
    return Sample(
        task=one_line(row.task.id, ID_CHARS),
        question=legible(row.task.question, QUESTION_CHARS),
        outcome=row.outcome,
        k=correction.k,
        hidden=len(correction.prefix) - len(shown),
        prefix=tuple(map(sample_step, shown)),
        rejected=sample_step(correction.rejected[0]),
        chosen=sample_step(correction.chosen),
        advice=legible(correction.advice, TEXT_CHARS),
    )


def sample_step(step: Step) -> SampleStep:
    """What a person reads of a step: the whole turn where it could not be taken apart."""
    return SampleStep(
        author=step.author,
        thought=legible(step.thought if step.thought or step.code else step.text, TEXT_CHARS),
        code=None if step.code is None else legible(step.code, TEXT_CHARS),
        observation=legible(step.observation, TEXT_CHARS),
        plan=step.plan,
    )
