"""Steps, trajectories and corrections: what an agent did, and what a teacher changed.

Steps are numbered from 1; when the run plans, step 1 is the plan (text, no code). ``prefix(k)`` is what stands
before step k. Everything here is data that is stored as JSON Lines; nothing acts.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from score_distill.api import AnswerType

Author = Literal["student", "teacher"]
Ending = Literal["answered", "out_of_steps", "out_of_context", "cut_off", "refused"]


class Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(Row):
    """A question with its reference answer; ``documents`` are what the ``read`` tool gives, in order."""

    id: str
    question: str
    answer: str
    documents: tuple[str, ...] = ()
    answer_type: AnswerType | None = None


class Step(Row):
    """One turn and what came of it.

    ``text`` is the turn as written, without reasoning and tail; ``tokens`` are its token ids as the student sampled
    them, reasoning and end of turn included (None when the teacher wrote it), of which the last ``spoilt`` hold
    characters of a tail and are not learned; ``logprobs`` is the server's log-probability of each of the others when
    asked for.
    ``code`` is None in a plan and in a turn without code. ``answer`` is set when the final answer was called.
    ``state`` is a digest of interpreter and tools after the step; None where it is unknown, which equals nothing, or
    where nobody compares it.
    """

    author: Author
    text: str
    thought: str
    code: str | None
    observation: str
    plan: bool = False
    answer: str | None = None
    error: str | None = None
    state: str | None = ""
    tokens: tuple[int, ...] | None = None
    spoilt: int = 0
    logprobs: tuple[float, ...] | None = None


class Trajectory(Row):
    task: str
    steps: tuple[Step, ...]
    ending: Ending

    @property
    def answer(self) -> str | None:
        return self.steps[-1].answer if self.steps else None

    def prefix(self, k: int) -> tuple[Step, ...]:
        """The steps before step ``k`` (1-based)."""
        if not 1 <= k <= len(self.steps):
            raise IndexError(f"step {k} of a trajectory of {len(self.steps)} steps")
        return self.steps[: k - 1]


class Verdict(Row):
    """Whether an answer is right, and which rule or judge said so; None when nobody could say."""

    correct: bool | None
    by: Literal["exact", "math", "f1", "judge", "none"]
    detail: str = ""


class Correction(Row):
    """The teacher's ``chosen`` step in place of the student's ``rejected`` step ``k`` after the same prefix.

    ``kept`` says whether the chosen step still stands in the final trajectory. ``rejected`` lists every student step
    that a later, earlier-placed correction folded into this one, oldest last; the first is the one at k.
    """

    k: int
    prefix: tuple[Step, ...]
    rejected: tuple[Step, ...]
    chosen: Step
    advice: str = ""
    kept: bool = True


class Demonstration(Row):
    task: Task
    trajectory: Trajectory
    verdict: Verdict
    attempts: int = 1


class Mentored(Row):
    """The outcome of one mentored task.

    solved: by the student alone; corrected: right after corrections; unsolved: still wrong after the last one;
    unfinished: never answered and not corrected; set_aside: judge or repair stayed unusable (``note`` says why).
    """

    task: Task
    split: Literal["sft", "rl"]
    outcome: Literal["solved", "corrected", "unsolved", "unfinished", "set_aside"]
    trajectory: Trajectory
    corrections: tuple[Correction, ...] = ()
    attempts: tuple[Trajectory, ...] = ()
    leaks: int = 0
    note: str = ""


class Scored(Row):
    """One evaluated task; ``correct`` None (nobody could judge) is reported apart and never counted as wrong."""

    eval: str
    model: str
    task: str
    correct: bool | None
    by: str
    answer: str | None
    reference: str
    steps: int
    ending: Ending
    tokens: int
