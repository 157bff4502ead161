"""What is known of a run in a cluster, as its status tells it: written by the operator, read by people and by it.

Everything is bounded, so that a status stays small; what is long is in the artifact store. Conditions are the truth,
``step``, ``progress`` and ``score`` are what a table has room for.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from score_distill.api.base import LIST_TYPE, MAP_KEYS, Fraction, Message, Model, Uri

Whole = Annotated[int, Field(ge=0, le=2**53)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[-_.a-zA-Z0-9]+$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
Short = Annotated[str, StringConstraints(max_length=64)]
Digest = Annotated[str, StringConstraints(max_length=128, pattern=r"^[-_.:a-zA-Z0-9]+$")]


class Condition(Model):
    """One fact about the run, of the usual Kubernetes form."""

    type: Reason = Field(description="such as Accepted, Progressing or Succeeded")
    status: Literal["True", "False", "Unknown"] = Field(description="whether it holds")
    reason: Reason = Field(description="why, in one CamelCase word")
    message: Message = Field("", description="why, for a person")
    last_transition_time: datetime = Field(description="when status last changed")
    observed_generation: Whole | None = Field(None, description="of the spec that it was found for")


class StepTokens(Model):
    """Prompt and completion tokens together."""

    teacher: Whole = Field(0, description="asked of the teacher")
    student: Whole = Field(0, description="asked of the student")


class PlaceStatus(Model):
    """How a step comes by nodes and GPUs."""

    alone: bool = Field(
        False, description="no server of a later step holds GPUs beside it: there was not room for both"
    )
    since: datetime | None = Field(None, description="when it began to wait for a place; empty while it does not")
    given_back: Whole = Field(0, description="so often the run let go of all, after spec.pendingDeadlineSeconds")
    until: datetime | None = Field(None, description="when it tries again; empty while it does")
    message: Message = Field("", description="why it could not begin, while it does not try")


class StepStatus(Model):
    """One step of the run."""

    name: Word = Field(description="of the step")
    state: Literal["Waiting", "Running", "Retrying", "Succeeded", "Failed"] = Field(description="derived, for people")
    attempt: Whole = Field(0, description="the attempt that is under way or was the last; 0 before the first")
    failures: Whole = Field(0, description="failed attempts since it last got further")
    furthest: Whole = Field(0, description="the most that any attempt had done")
    done: Whole = Field(0, description="of total, in unit")
    total: Whole | None = Field(None, description="empty until known")
    unit: Short | None = Field(None, description="of done and total, such as tasks")
    message: Message = Field("", description="what it does, or why it failed")
    reason: Reason | None = Field(None, description="why its last attempt failed, in one word")
    exit_code: Whole | None = Field(None, description="of its last attempt, where that failed; 128 + n of signal n")
    started_at: datetime | None = Field(None, description="when its first attempt began")
    finished_at: datetime | None = Field(None, description="when it succeeded or failed for good")
    counts: dict[Word, Whole] = Field({}, max_length=32, description="what it gave")
    tokens: StepTokens | None = Field(None, description="spent so far, over all attempts")
    committed: bool = Field(False, description="its result is stored; an attempt only tells of it, as none did yet")
    place: PlaceStatus | None = Field(None, description="of a step that had to wait for its place")


class Usage(Model):
    """What the run has spent, over all attempts."""

    teacher_tokens: Whole = Field(0, description="prompt and completion tokens of the teacher")
    student_tokens: Whole = Field(0, description="prompt and completion tokens of the student")
    gpu_seconds: Whole = Field(0, description="GPUs times seconds of all pods")
    counted_until: datetime | None = Field(None, description="up to when GPU seconds are counted")


class Score(Model):
    """A model's share of right answers on an eval set, with its Wilson 95 % interval."""

    model: Word = Field(
        description="base, init, imitation, sft, sft-2 ..., full-horizon, distil-on-policy, rl or teacher"
    )
    eval: Word = Field(description="name of the eval set")
    score: Fraction = Field(description="of the tasks")
    low: Fraction = Field(description="lower end of the interval")
    high: Fraction = Field(description="upper end of the interval")
    n: Whole = Field(description="tasks")


class ArtifactsStatus(Model):
    """Where the results are."""

    run: Uri | None = Field(None, description="everything of this run")
    model: Uri | None = Field(None, description="the student that was made")
    model_digest: Digest | None = Field(None, description="of the files of that model")
    report: Uri | None = Field(None, description="the report")


class Status(Model):
    """What the operator found; conditions are the truth, the rest helps to read it."""

    observed_generation: Whole | None = Field(None, description="of the spec that this status is about")
    conditions: tuple[Condition, ...] = Field(
        (), max_length=16, description="one of each type", json_schema_extra={LIST_TYPE: "map", MAP_KEYS: ["type"]}
    )
    step: Word | None = Field(None, description="the current one")
    progress: Short | None = Field(None, description="of the current step, such as 120/400 tasks")
    score: Short | None = Field(None, description="the best one so far, such as rl 77.2")
    steps: tuple[StepStatus, ...] = Field(
        (), max_length=32, description="in their order", json_schema_extra={LIST_TYPE: "map", MAP_KEYS: ["name"]}
    )
    last_progress_time: datetime | None = Field(None, description="when the run last got any further")
    usage: Usage | None = None
    scores: tuple[Score, ...] = Field(
        (),
        max_length=384,
        description="of each model in each eval set",
        json_schema_extra={LIST_TYPE: "map", MAP_KEYS: ["model", "eval"]},
    )
    artifacts: ArtifactsStatus | None = None
