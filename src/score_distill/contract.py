"""What passes between an executor and the stage it starts: config in, progress and summary out.

The config is written by a machine as ``stage.json``. It names where a key is, never the key. A stage reports progress
while it runs, and ends with a summary small enough for a termination message. Where these lie on disk is
``work_folder.py``.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, JsonValue, PlainSerializer

from score_distill.api import RL_CONTROLS, Model, Score, Spec
from score_distill.score_table import MOST_SCORES, packed, unpacked

Verb = Literal["prepare", "demonstrate", "sft", "mentor", "rl", "evaluate"]

CONTROLS_OF_RL = {step: control for control, step in RL_CONTROLS.items()}
CONTROLS = {**CONTROLS_OF_RL, "more-demos": "Imitation", "imitate": "Imitation"}
"""The steps of controls; one that fails leaves a run without that comparison, and is not the end of it."""

ON_POLICY = RL_CONTROLS["OnPolicyDistillation"]

TERMINATION_BYTES = 4096  # what a kubelet keeps of a termination message
MESSAGE_BYTES, MESSAGE_BESIDE = 1500, 100
FIGURES = 48
MOST_TOKENS = 2**53

Role = Literal["teacher", "student"]
Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS)]


class SentHeader(Model):
    """A header of every request; its value is here, or in a file where it is a secret."""

    name: str
    value: str = ""
    file: str | None = None


class Served(Model):
    """A model behind an OpenAI-compatible API.

    ``url`` ends in /v1. ``key_file`` holds the API key. New weights go in by one of two ways: ``admin_url`` is the
    root of a vLLM on this machine whose management routes may be used, ``weights_url`` that of a gateway which takes
    them over the network. ``ready_url`` answers 200 once the model does. ``model_dir`` is the folder with tokenizer and
    chat template of what is served. To each request ``headers`` and the fields of ``body`` are added; those in ``omit``
    are left out.
    """

    url: str
    model: str
    key_file: str | None = None
    headers: tuple[SentHeader, ...] = ()
    body: dict[str, JsonValue] = Field({})
    omit: tuple[str, ...] = ()
    admin_url: str | None = None
    weights_url: str | None = None
    ready_url: str | None = None
    model_dir: str | None = None


class StageConfig(Model):
    """Everything a stage needs. ``run`` is the key prefix of the run in the store, ``base`` resolves relative URIs.

    ``work`` may be lost with the machine, and is shared by the workers of the step where they share one;
    ``teacher_tokens`` are left of the budget for all ``workers`` that share the tasks of the step: a stage that spends
    its share of them raises BudgetSpent. ``given_up`` is why a control could not be made: that is then its result.
    ``recall``: the store has the result, which is only to be told of again.
    """

    run: str
    step: str
    verb: Verb
    attempt: int = 1
    spec: Spec
    base: str
    store: str
    inputs: tuple[str, ...] = ()
    work: str
    teacher: Served | None = None
    student: Served | None = None
    sandbox: str | None = None
    teacher_tokens: int | None = None
    workers: int = 1
    given_up: str = ""
    recall: bool = False


class Progress(Model):
    """How far a stage is: ``done`` of ``total`` in ``unit`` ("tasks", "updates" ...); total is None until known.

    ``figures`` are what it measured last, such as loss, reward or corrections. ``tokens`` were spent by role so far,
    over all attempts: each worker tells of its own tasks.
    """

    done: int
    total: int | None
    unit: str
    message: str = ""
    figures: dict[str, FiniteFloat] = Field(default_factory=dict, max_length=FIGURES)
    tokens: dict[Role, Tokens] = Field(default_factory=dict)


def together(parts: Sequence[Progress]) -> Progress | None:
    """The progress of a step's workers as one; None when none has reported.

    Of several, figures are counts, and add up: a step that trains has one that reports.
    """
    if not parts:
        return None
    totals = [one.total for one in parts]
    roles = {role: None for one in parts for role in one.tokens}
    return Progress(
        done=sum(one.done for one in parts),
        total=None if None in totals else sum(total or 0 for total in totals),
        unit=parts[0].unit,
        message=parts[0].message,
        figures={
            name: sum(one.figures.get(name, 0.0) for one in parts)
            for name in {name: None for one in parts for name in one.figures}
        },
        tokens={role: min(MOST_TOKENS, sum(one.tokens.get(role, 0) for one in parts)) for role in roles},
    )


def _scores(told: object) -> object:
    return unpacked(told) if isinstance(told, str) else told


class Summary(Model):
    """How a stage ended; ``counts`` and ``metrics`` are what a person wants to see at a glance.

    ``reason`` is the name of its exit, ``cause`` the error's own where it failed. ``tokens`` were spent by role;
    ``digest`` identifies the result that the store now has; ``progress`` is the last.
    """

    step: str
    succeeded: bool
    reason: str = "Done"
    cause: str = ""
    message: str = ""
    counts: dict[str, int] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    tokens: dict[str, int] = Field(default_factory=dict)
    scores: Annotated[tuple[Score, ...], PlainSerializer(packed), BeforeValidator(_scores)] = ()
    digest: str = ""
    progress: Progress | None = None

    def bounded(self, most: int = TERMINATION_BYTES) -> bytes:
        """The summary as JSON of at most ``most`` bytes: a long message is cut, then the rest left out bit by bit.

        The message makes room for the scores; where these do not fit all the same, it says so.
        """
        told = self.model_copy(update={"message": shortened(self.message, MESSAGE_BYTES)})
        elsewhere: dict[str, object] = {"scores": (), "message": "its scores do not fit here; they are in the report"}
        if len(told.scores) > MOST_SCORES:
            told = told.model_copy(update=elsewhere)
        less: tuple[dict[str, object], ...] = (
            {"metrics": {}},
            {"message": shortened(told.message, MESSAGE_BESIDE)} if told.scores else {},
            {"counts": {}},
            elsewhere if told.scores else {},
            {"message": ""},
        )
        for left_out in less:
            if len(whole := told.model_dump_json(by_alias=True).encode()) <= most:
                return whole
            told = told.model_copy(update=left_out)
        return told.model_dump_json(by_alias=True).encode()


def shortened(text: str, most: int) -> str:
    """``text`` in at most ``most`` UTF-8 bytes without control characters; its end is left out when it is longer."""
    plain = "".join(one if one.isprintable() or one == "\n" else "?" for one in text)
    if len(whole := plain.encode()) <= most:
        return plain
    return whole[: most - 3].decode("utf-8", "ignore") + "..."
