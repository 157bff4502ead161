"""The facts of a run: what report.json holds, and all that the page and the terminal may show.

Everything here is bounded whatever the size of the run: counts, intervals, thinned curves, a handful of samples.
Shares are in 0..1, times in seconds or UTC, text of models is already cut and made legible. Nothing acts.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from score_distill.agent.trajectory import Author, Ending
from score_distill.report.significance import Ruling

StepState = Literal["done", "begun", "waiting"]
LengthOf = Literal["teacher", "model"]
Point = dict[str, float | None]


class Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(Fact):
    """Strict pass@1 of a model on an eval set; ``unjudged`` tasks are in neither ``right`` nor ``n``."""

    model: str
    eval: str
    score: float | None
    low: float | None
    high: float | None
    right: int
    n: int
    unjudged: int


class Comparison(Fact):
    """Two models on the ``n`` tasks of an eval set that were judged for both; ``difference`` is new minus old."""

    eval: str
    new: str
    old: str
    n: int
    only_new: int
    only_old: int
    difference: float
    low: float
    high: float
    p: float
    ruling: Ruling
    needed: int | None
    sentence: str


class Usage(Fact):
    """Tokens that a role used for a purpose; ``cached`` is the part of ``prompt`` that the server had in its cache."""

    role: Literal["teacher", "student"]
    purpose: str
    calls: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0


class StepFact(Fact):
    """One step of the pipeline. ``usage`` is what it cost in tokens, ``seconds`` what it cost in wall time."""

    name: str
    state: StepState
    attempt: int | None = None
    started: datetime | None = None
    finished: datetime | None = None
    seconds: float | None = None
    counts: dict[str, int] = {}
    message: str = ""
    usage: tuple[Usage, ...] = ()


class Run(Fact):
    key: str
    name: str
    state: Literal["not started", "unfinished", "finished"]
    started: datetime | None = None
    finished: datetime | None = None
    seconds: float | None = None


class DevScore(Fact):
    """A look at the dev split during RL, after so many updates; ``kept`` is the student that the step leaves."""

    update: int
    score: float
    low: float
    high: float
    n: int
    kept: bool = False


class Curves(Fact):
    """Learning curves, each at most a few hundred points; a point is the mean over the steps since the one before.

    ``rounds`` has those of SFT in later rounds of mentoring, by step.
    """

    warmup: tuple[Point, ...] = ()
    sft: tuple[Point, ...] = ()
    rounds: dict[str, tuple[Point, ...]] = {}
    imitate: tuple[Point, ...] = ()
    rl: tuple[Point, ...] = ()
    distil_on_policy: tuple[Point, ...] = ()
    dev: tuple[DevScore, ...] = ()


class Effort(Fact):
    """What a student was made with; ``teacher_tokens`` are prompt and completion tokens together."""

    teacher_tokens: int
    steps: int
    rows: int


class Control(Fact):
    """Correction and imitation, as they were made; ``lacks`` says why there is no imitation to compare with."""

    correction: Effort
    imitation: Effort
    lacks: str = ""


class CorrectionsPerTask(Fact):
    """How the mentored tasks ended; ``right_after`` maps a number of corrections to tasks, 0 being solved alone."""

    right_after: dict[int, int] = {}
    unsolved: int = 0
    unfinished: int = 0
    set_aside: int = 0


class LengthScore(Fact):
    """The score of a model on the tasks of one length, in steps of the teacher's evaluation or of the model's own."""

    eval: str
    model: str
    length: int
    length_of: LengthOf
    score: float
    low: float
    high: float
    n: int


class Endings(Fact):
    """How the attempts of a model at an eval set ended, as counts."""

    eval: str
    model: str
    counts: dict[Ending, int]


class SampleStep(Fact):
    author: Author
    thought: str
    code: str | None
    observation: str
    plan: bool


class Sample(Fact):
    """A correction that a person can read: the teacher's ``chosen`` for the student's ``rejected`` at step ``k``."""

    task: str
    question: str
    outcome: str
    k: int
    hidden: int
    prefix: tuple[SampleStep, ...]
    rejected: SampleStep
    chosen: SampleStep
    advice: str


class Dropped(Fact):
    step: str
    why: str
    count: int


class Leaks(Fact):
    """Repairs that were refused because they gave the reference answer away, and the tasks they belong to."""

    repairs: int = 0
    tasks: int = 0


class States(Fact):
    """Steps that the student was mentored on, and those whose state could not be told, which equals no other."""

    steps: int = 0
    unknown: int = 0


class Problem(Fact):
    step: str
    text: str


class Facts(Fact):
    """All of it. ``answer`` is the outcome in one sentence, ``missing`` what the run has not produced so far."""

    run: Run
    answer: str
    missing: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    control: Control | None = None
    steps: tuple[StepFact, ...] = ()
    tokens: tuple[Usage, ...] = ()
    curves: Curves = Curves()
    first_errors: dict[int, int] = {}
    corrections_per_task: CorrectionsPerTask = CorrectionsPerTask()
    accuracy_by_length: tuple[LengthScore, ...] = ()
    endings: tuple[Endings, ...] = ()
    samples: tuple[Sample, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    leaks: Leaks = Leaks()
    states: States = States()
    problems: tuple[Problem, ...] = ()
