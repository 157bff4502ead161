"""The two models of a run: who teaches, who learns, and how they are served."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, StringConstraints, field_validator, model_validator

from score_distill.api.base import LIST_TYPE, Model, SecretKey, Uri


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


HEADER = r"^[A-Za-z0-9][-_A-Za-z0-9]*$"
HEADER_VALUE = r"^[!-~]([ -~]*[!-~])?$"
SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie", "api-key", "x-api-key", "x-goog-api-key")
OWN_HEADERS = ("host", "content-length", "content-type", "transfer-encoding", "connection")
OWN_FIELDS = ("messages", "model", "n", "stream")


class Header(Model):
    """Exactly one of value and secret; what holds a key (Authorization, Cookie, api-key ...) only from a Secret."""

    name: Annotated[str, StringConstraints(pattern=HEADER, max_length=64)] = Field(description="of the header")
    value: Annotated[str, StringConstraints(pattern=HEADER_VALUE, max_length=512)] | None = Field(
        None, description="in plain, for all to see"
    )
    secret: SecretKey | None = Field(None, description="where the value is")

    @model_validator(mode="after")
    def one_source(self) -> Self:
        if (self.value is None) == (self.secret is None):
            raise ValueError("give exactly one of value, secret")
        if self.value is not None and self.name.lower() in SECRET_HEADERS:
            raise ValueError(f"{self.name} holds a key: give it by secret, not by value")
        if self.name.lower() in OWN_HEADERS:
            raise ValueError(f"{self.name} is set by the client itself")
        return self


class Endpoint(Model):
    """Which fields it refuses is learned from its first refusals; body, omit and headers are for what is not."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=1024)] = Field(
        description="base URL of an OpenAI-compatible API, up to and with /v1"
    )
    model: str = Field(min_length=1, max_length=256, description="model name at that endpoint")
    api_key_secret: SecretKey | None = Field(None, description="where the key is; never the key itself")
    headers: tuple[Header, ...] = Field((), max_length=16, description="sent with every request")
    body: dict[str, JsonValue] = Field(
        {},
        max_length=32,
        description="fields added to every request, as they are: `{reasoning_effort: high}`; not "
        + ", ".join(OWN_FIELDS),
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    omit: tuple[Literal["max_tokens", "temperature", "top_p", "seed", "response_format"], ...] = Field(
        (), max_length=5, description="fields left out of every request", json_schema_extra={LIST_TYPE: "set"}
    )

    @field_validator("body")
    @classmethod
    def not_our_own(cls, body: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := [name for name in OWN_FIELDS if name in body]:
            raise ValueError(f"{', '.join(taken)} may not be given: the agent sets it")
        return body

    @field_validator("headers")
    @classmethod
    def each_header_once(cls, headers: tuple[Header, ...]) -> tuple[Header, ...]:
        if len({one.name.lower() for one in headers}) < len(headers):
            raise ValueError("each header must be given once")
        return headers

    @model_validator(mode="after")
    def one_key(self) -> Self:
        if self.api_key_secret is not None and any(one.name.lower() == "authorization" for one in self.headers):
            raise ValueError("give apiKeySecret or the header Authorization, not both")
        return self


class Teacher(Model):
    """Exactly one of model and endpoint."""

    model: Uri | None = Field(None, description="served for this run alone")
    endpoint: Endpoint | None = Field(None, description="any OpenAI-compatible endpoint")
    prompt: PromptStyle = Field("Instructions", description=PROMPT_REASON)
    serving: Serving = Serving()
    concurrency: int = Field(64, ge=1, le=4096, description="requests in flight; above it the agent waits")

    @model_validator(mode="after")
    def one_source(self) -> Self:
        given = [name for name in ("model", "endpoint") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of model, endpoint (found {', '.join(given) or 'none'})")
        return self
