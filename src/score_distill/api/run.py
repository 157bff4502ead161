"""The DistillationRun itself, and which of its fields may change while it is under way."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from score_distill.api.base import LABEL, LIST_TYPE, Count, Model, Name, Uri
from score_distill.api.method import Method
from score_distill.api.models import Student, Teacher
from score_distill.api.resources import Images, Resources, Scheduling
from score_distill.api.search import Search
from score_distill.api.tasks import Tasks

GROUP = "distill.score.dev"
VERSION = "v1alpha1"
KIND = "DistillationRun"

FREE = frozenset(
    {
        "spec.artifacts",
        "spec.budget",
        "spec.images",
        "spec.pendingDeadlineSeconds",
        "spec.resources",
        "spec.scheduling",
        "spec.stallSeconds",
        "spec.student.serving.args",
        "spec.suspend",
        "spec.teacher.concurrency",
        "spec.teacher.endpoint.body",
        "spec.teacher.endpoint.headers",
        "spec.teacher.endpoint.omit",
        "spec.teacher.serving.args",
        "spec.ttlSecondsAfterFailed",
        "spec.ttlSecondsAfterFinished",
    }
)
"""What says where, when and how wide a run runs, but nothing of its results."""


class Artifacts(Model):
    """The store of everything that the run makes and what it goes on from."""

    uri: Uri = Field(description="where everything is kept: a folder, file://, pvc:// or s3://bucket/prefix")
    credentials_secret: Name | None = Field(None, description="Secret with the keys of the store")


class Budget(Model):
    """A run that has spent it stops with what it has; raised, the run goes on."""

    teacher_tokens: Count | None = Field(
        None, description="completion and prompt tokens of the teacher together, e.g. 50M"
    )
    gpu_hours: float | None = Field(
        None, gt=0, le=10**9, description="GPUs times hours of all pods of the run; one machine does not count them"
    )
    gpus: int | None = Field(
        None,
        ge=0,
        le=65_536,
        description="the most that the run may hold at once; a manifest of which a step needs more is refused",
    )


class Spec(Model):
    student: Student
    teacher: Teacher
    tasks: Tasks
    tools: tuple[Literal["python", "read", "search"], ...] = Field(
        ("python",),
        min_length=1,
        max_length=8,
        description="python: the code tool; read: the documents of the task; search: what spec.search names",
        json_schema_extra={LIST_TYPE: "set"},
    )
    search: Search | None = Field(None, description="what the tool search asks")
    method: Method = Method()
    resources: Resources = Resources()
    scheduling: Scheduling = Scheduling()
    images: Images = Images()
    artifacts: Artifacts
    budget: Budget = Budget()
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of every split, sample and order")
    suspend: bool = Field(False, description="pause: nothing runs, and what was made is kept; false goes on")
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=31_536_000,
        description="delete the run that long after its end, never when empty; artifacts stay",
    )
    ttl_seconds_after_failed: int | None = Field(
        None,
        ge=0,
        le=31_536_000,
        description="the same for a run that failed and is not suspended; ttlSecondsAfterFinished when empty",
    )
    pending_deadline_seconds: int | None = Field(
        None,
        ge=10,
        le=604_800,
        description="how long a run may hold anything while its step cannot begin, for want of nodes, quota or the "
        "like; then it gives all back and tries again after a pause. For ever when empty, as clusters differ in how "
        "long it takes to add a node; 1800 where pods that hold GPUs can only work together",
    )
    stall_seconds: int = Field(
        3600, ge=60, le=604_800, description="a step that makes no progress for so long is told as stalled"
    )


class Metadata(BaseModel):
    """Kubernetes metadata, of which one machine needs the name alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: Name
    namespace: Annotated[str, StringConstraints(pattern=LABEL, max_length=63)] = "default"


class DistillationRun(Model):
    api_version: Literal["distill.score.dev/v1alpha1"]
    kind: Literal["DistillationRun"]
    metadata: Metadata
    spec: Spec


def settled(spec: Spec) -> dict[str, Any]:
    """What of a spec the results of a run depend on, as JSON: everything but what is FREE."""
    return _settled(spec.model_dump(mode="json", by_alias=True), "spec")


def _settled(fields: dict[str, Any], path: str) -> dict[str, Any]:
    below = {name: value for name, value in fields.items() if f"{path}.{name}" not in FREE}
    return {
        name: _settled(value, f"{path}.{name}") if isinstance(value, dict) else value for name, value in below.items()
    }
