"""What passes between whoever runs a stage (local runner, operator) and the stage: config in, progress and summary out.

The config is written by a machine as ``stage.json``. It names where a key is, never the key. A stage reports progress
by replacing ``progress.json`` in its work folder, and ends with a summary small enough for a termination message.
"""

from typing import Literal

from pydantic import Field

from score_distill.api import Model, Spec

Verb = Literal["prepare", "demonstrate", "sft", "mentor", "rl", "evaluate"]


class Served(Model):
    """A model behind an OpenAI-compatible API.

    ``url`` ends in /v1. ``key_file`` holds the API key. New weights go in by one of two ways: ``admin_url`` is the
    root of a vLLM on this machine whose management routes may be used, ``weights_url`` that of a gateway which takes
    them over the network. ``model_dir`` is the folder with tokenizer and chat template of what is served.
    """

    url: str
    model: str
    key_file: str | None = None
    admin_url: str | None = None
    weights_url: str | None = None
    model_dir: str | None = None


class StageConfig(Model):
    """Everything a stage needs. ``run`` is the key prefix of the run in the store, ``base`` resolves relative URIs.

    ``teacher_tokens`` are left of the budget: a stage that spends them raises BudgetSpent.
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


class Progress(Model):
    """How far a stage is: ``done`` of ``total`` in ``unit`` ("tasks", "updates" ...); total is None until known."""

    done: int
    total: int | None
    unit: str
    message: str = ""


class Summary(Model):
    """How a stage ended; ``counts`` and ``metrics`` are what a person wants to see at a glance."""

    step: str
    succeeded: bool
    reason: str = "Done"
    message: str = ""
    counts: dict[str, int] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
