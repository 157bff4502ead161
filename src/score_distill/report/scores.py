"""Folds the scored tasks of an evaluation into scores, paired comparisons, accuracy by length and endings.

Rows come one at a time in any order. What is held is two small integers for each task of an eval set: which models
were judged and right, and how many steps the teacher took. Nothing here reads a file.

Length of a task: the steps of the teacher's own attempt at it when the teacher was evaluated on that set, so that all
models are seen on the same groups; otherwise the steps of the model's own attempt, and then the groups differ.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from score_distill.agent.trajectory import Ending, Scored
from score_distill.api import RL_CONTROLS, kind_of
from score_distill.report.facts import Comparison, Endings, LengthOf, LengthScore, Score
from score_distill.report.significance import Paired, compare, proportion, sentence

ORDER = ("base", "init", "imitation", "sft", *RL_CONTROLS.values(), "rl", "teacher")
TEACHER = "teacher"
IMITATION, CORRECTED = "imitation", "sft"
REINFORCED = "rl"
ASIDE = (TEACHER, IMITATION, *RL_CONTROLS.values())  # no steps of the ladder that a student climbs


def rank(model: str) -> tuple[int, str]:
    """Position of a model in the pipeline; a name that is not of it comes after, by the alphabet."""
    kind = kind_of(model)
    return (ORDER.index(kind) if kind in ORDER else len(ORDER), model)


class EvalFold:
    """One eval set. A task's outcomes are a number of two bits a model: judged (low bit) and right."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.models: list[str] = []
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.teacher_steps: dict[str, int] = {}
        self.own_steps: Counter[tuple[str, int, bool]] = Counter()
        self.endings: defaultdict[str, Counter[Ending]] = defaultdict(Counter)
        self.unjudged: Counter[str] = Counter()

    def add(self, row: Scored) -> None:
        if row.model not in self.models:
            self.models.append(row.model)
        self.endings[row.model][row.ending] += 1
        if row.model == TEACHER:
            self.teacher_steps[row.task] = row.steps
        if row.correct is None:
            self.unjudged[row.model] += 1
            return
        self.outcomes[row.task] |= (1 + 2 * row.correct) << 2 * self.models.index(row.model)
        self.own_steps[row.model, row.steps, row.correct] += 1

    def in_order(self) -> list[str]:
        return sorted(self.models, key=rank)

    def outcome(self, code: int, model: str) -> bool | None:
        bits = code >> 2 * self.models.index(model)
        return bool(bits & 2) if bits & 1 else None

    def scores(self) -> Iterator[Score]:
        for model in self.in_order():
            counts = Counter(self.outcome(code, model) for code in self.outcomes.values())
            found = proportion(counts[True], counts[True] + counts[False])
            yield Score(
                model=model,
                eval=self.name,
                score=found.share if found else None,
                low=found.low if found else None,
                high=found.high if found else None,
                right=counts[True],
                n=counts[True] + counts[False],
                unjudged=self.unjudged[model],
            )

    def comparisons(self) -> Iterator[Comparison]:
        for new, old in pairs(self.in_order()):
            counts = Counter((self.outcome(code, new), self.outcome(code, old)) for code in self.outcomes.values())
            table = Paired(counts[True, True], counts[True, False], counts[False, True], counts[False, False])
            if found := compare(table):
                yield Comparison(
                    eval=self.name,
                    new=new,
                    old=old,
                    n=table.n,
                    only_new=table.only_new,
                    only_old=table.only_old,
                    difference=found.difference,
                    low=found.low,
                    high=found.high,
                    p=found.p,
                    ruling=found.ruling,
                    needed=found.needed,
                    sentence=sentence(new, old, found, table.n),
                )

    def by_length(self) -> Iterator[LengthScore]:
        length_of: LengthOf = "teacher" if self.teacher_steps else "model"
        counts = self._by_teacher() if self.teacher_steps else self.own_steps
        for model, length in sorted({key[:2] for key in counts}, key=lambda key: (rank(key[0]), key[1])):
            right, wrong = counts[model, length, True], counts[model, length, False]
            if found := proportion(right, right + wrong):
                yield LengthScore(
                    eval=self.name,
                    model=model,
                    length=length,
                    length_of=length_of,
                    score=found.share,
                    low=found.low,
                    high=found.high,
                    n=found.n,
                )

    def _by_teacher(self) -> Counter[tuple[str, int, bool]]:
        counts: Counter[tuple[str, int, bool]] = Counter()
        for task, length in self.teacher_steps.items():
            code = self.outcomes.get(task, 0)
            for model in self.models:
                if (correct := self.outcome(code, model)) is not None:
                    counts[model, length, correct] += 1
        return counts

    def all_endings(self) -> Iterator[Endings]:
        for model in self.in_order():
            yield Endings(eval=self.name, model=model, counts=dict(sorted(self.endings[model].items())))


def corrected_of(models: Iterable[str]) -> str | None:
    """The student of the last round of corrections among these, if there is one."""
    return max((one for one in models if kind_of(one) == CORRECTED), key=rank, default=None)


def pairs(models: list[str]) -> Iterator[tuple[str, str]]:
    """Which models to compare, as (new, old): each student with the one before, the last with the first, the teacher
    with the last, correction and reinforcement with their controls."""
    students = [model for model in models if model not in ASIDE]
    yield from ((REINFORCED, one) for one in RL_CONTROLS.values() if {REINFORCED, one} <= set(models))
    if IMITATION in models and (corrected := corrected_of(models)):
        yield corrected, IMITATION
    yield from zip(students[1:], students, strict=False)
    if len(students) > 2:
        yield students[-1], students[0]
    if TEACHER in models and students:
        yield TEACHER, students[-1]
