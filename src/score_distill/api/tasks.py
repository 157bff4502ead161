"""What is trained on and what it is measured by, and how the training tasks are divided."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from score_distill.api.base import LIST_TYPE, MAP_KEYS, Label, Model, Uri

Format = Literal["qa", "gsm8k", "chat"]
Metric = Literal["math", "exact", "f1"]
AnswerType = Literal["number", "expression", "choice", "name", "date", "list", "code"]


class TaskSet(Model):
    uri: Uri = Field(description="JSON Lines, plain or .gz")
    format: Format = Field(
        "qa", description="qa: {id, question, answer}; gsm8k: answer after ####; chat: messages, answer last"
    )
    metric: Metric = Field("math", description="how an answer is compared with the reference")
    answer_type: AnswerType | None = Field(
        None,
        description="under math, what the references are (docs/method.md), unless a row's own answerType says it; "
        "by default each is found by how it is written",
    )
    limit: int | None = Field(None, ge=1, le=10**9, description="take that many tasks, chosen by hash of the id")


class EvalSet(TaskSet):
    name: Label = Field(description="under which the report shows its scores")


class Tasks(Model):
    """What is trained on, and what it is measured by."""

    train: TaskSet
    eval: tuple[EvalSet, ...] = Field(
        min_length=1,
        max_length=32,
        description="held-out sets, evaluate alone opens them",
        json_schema_extra={LIST_TYPE: "map", MAP_KEYS: ["name"]},
    )

    @model_validator(mode="after")
    def names_differ(self) -> Self:
        names = [one.name for one in self.eval]
        if len(set(names)) < len(names):
            raise ValueError("two eval sets have the same name; give each its own")
        return self


class Split(Model):
    """How the training tasks are divided, by hash of the task id; what is neither cold start nor dev is mentored."""

    cold_start: Annotated[float, Field(ge=0.01, le=0.9)] = Field(
        0.2, description="share of tasks that the teacher demonstrates (paper: 20 %)"
    )
    dev: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.05, description="share held back to choose checkpoints by; no benchmark is used for that"
    )
    sft: Annotated[float, Field(ge=0.05, le=0.95)] = Field(
        0.5, description="share of the mentored tasks for SFT; the others are for RL (paper: half)"
    )

    @model_validator(mode="after")
    def something_left(self) -> Self:
        if self.cold_start + self.dev >= 0.95:
            raise ValueError("coldStart + dev leave less than 5 % of the tasks to mentor")
        return self
