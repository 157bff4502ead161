"""The two models of a run: who teaches, who learns, and how they are served."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from score_distill.api.base import Model, Name, SecretKey, Uri


class Serving(Model):
    """How vLLM serves the model; an endpoint is served by others, and these say nothing of it."""

    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="number format of the weights; float32 where there is no GPU"
    )
    context_length: int = Field(
        8192, ge=128, le=1_048_576, description="tokens of question, steps and observations together"
    )
    args: tuple[Annotated[str, StringConstraints(min_length=1, max_length=256)], ...] = Field(
        (), max_length=64, description="further arguments for vLLM"
    )


PromptStyle = Literal["Instructions", "Bare"]
PROMPT_REASON = (
    "Instructions: a system message says how to act and which tools there are; "
    "Bare: the question alone, for models that were trained in the turn format"
)


class Student(Model):
    """The small model that learns."""

    model: Uri = Field(description="hf://, s3://, pvc://, file:// or a path beside the manifest")
    prompt: PromptStyle = Field("Instructions", description=PROMPT_REASON)
    serving: Serving = Serving()


class TeacherRef(Model):
    name: Name = Field(description="of the Teacher")


class Endpoint(Model):
    url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=1024)] = Field(
        description="base URL of an OpenAI-compatible API, up to and with /v1"
    )
    model: str = Field(min_length=1, max_length=256, description="model name at that endpoint")
    api_key_secret: SecretKey | None = Field(None, description="where the key is; never the key itself")


class Teacher(Model):
    """Exactly one of ref, model and endpoint."""

    ref: TeacherRef | None = Field(None, description="a Teacher that runs share")
    model: Uri | None = Field(None, description="served for this run alone")
    endpoint: Endpoint | None = Field(None, description="any OpenAI-compatible endpoint")
    prompt: PromptStyle = Field("Instructions", description=PROMPT_REASON)
    serving: Serving = Serving()
    concurrency: int = Field(64, ge=1, le=4096, description="requests in flight; above it the agent waits")

    @model_validator(mode="after")
    def one_source(self) -> Self:
        given = [name for name in ("ref", "model", "endpoint") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of ref, model, endpoint (found {', '.join(given) or 'none'})")
        return self
