"""Where the run's processes go and what they get; all of it may change while a run is under way."""

from decimal import Decimal
from typing import Literal, Self

from pydantic import Field, model_validator

from score_distill.api.base import Image, LabelValue, Model, Name, Qualified, Quantity, Subdomain

_POWERS: dict[str, int] = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_POWERS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}


def amount(quantity: str) -> Decimal:
    """A Kubernetes quantity such as ``500m`` or ``4Gi`` as a number."""
    digits = quantity.rstrip("mkKMGTPi")
    suffix = quantity[len(digits) :]
    return Decimal(digits) / 1000 if suffix == "m" else Decimal(digits) * _POWERS[suffix]


class Amounts(Model):
    """Kubernetes quantities; what is not given is not asked for."""

    cpu: Quantity | None = Field(None, description="cores, such as 2 or 500m")
    memory: Quantity | None = Field(None, description="bytes, such as 4Gi")
    ephemeral_storage: Quantity | None = Field(None, description="bytes of the node's own disk, such as 20Gi")


class Pod(Model):
    """What one pod of this role gets."""

    requests: Amounts = Field(Amounts(), description="what its node must have free")
    limits: Amounts = Field(Amounts(), description="what it may use at most")
    gpus: int = Field(0, ge=0, le=16, description="whole GPUs of one pod")
    gpu_resource: Qualified = Field("nvidia.com/gpu", description="under which name the nodes offer them")

    @model_validator(mode="after")
    def within_limits(self) -> Self:
        for name, field in Amounts.model_fields.items():
            asked, most = getattr(self.requests, name), getattr(self.limits, name)
            if asked is not None and most is not None and amount(asked) > amount(most):
                raise ValueError(f"requests.{field.alias} ({asked}) must be at most limits.{field.alias} ({most})")
        return self


class Rollout(Pod):
    """How wide the steps act that ask models."""

    parallelism: int = Field(1, ge=1, le=1024, description="pods (or processes) that act at once")
    concurrency: int = Field(64, ge=1, le=4096, description="tasks in flight in one of them")


class Lora(Model):
    rank: int = Field(32, ge=1, le=512, description="of the update of each weight")
    alpha: int = Field(64, ge=1, le=2048, description="the update is scaled by alpha / rank")


class Trainer(Pod):
    """How wide the student is trained."""

    nodes: int = Field(1, ge=1, le=256, description="machines that train together; 1 without a cluster")
    processes_per_node: int | None = Field(
        None, ge=1, le=16, description="ranks of one node; as many as its gpus when empty, one where there are none"
    )
    zero_stage: int = Field(0, ge=0, le=3, description="DeepSpeed ZeRO: what is divided among the ranks")
    dtype: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="number format of the computation; float32 where there is no GPU"
    )
    lora: Lora | None = Field(None, description="train an adapter, merged when the model is written")

    @property
    def processes(self) -> int:
        """Ranks of one node."""
        return self.processes_per_node or max(1, self.gpus)

    @model_validator(mode="after")
    def one_process_a_gpu(self) -> Self:
        if self.gpus and self.processes != self.gpus:
            raise ValueError(f"processesPerNode ({self.processes_per_node}) must be gpus ({self.gpus}), or left out")
        return self


class Resources(Model):
    """How wide the run runs; requests, limits and GPUs are a cluster's."""

    teacher: Pod = Field(Pod(), description="the vLLM that serves the teacher")
    student: Pod = Field(Pod(), description="the vLLM that serves the student")
    rollout: Rollout = Rollout()
    trainer: Trainer = Trainer()


class Toleration(Model):
    """As in a pod: without a key it tolerates every taint, without an effect every effect."""

    key: Qualified | None = Field(None, description="of the taint")
    operator: Literal["Exists", "Equal"] = Field("Equal", description="Exists: whatever the value is")
    value: LabelValue | None = Field(None, description="of the taint, with Equal")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(None, description="of the taint")
    toleration_seconds: int | None = Field(
        None, ge=0, le=31_536_000, description="how long a pod stays, with NoExecute; for ever when empty"
    )

    @model_validator(mode="after")
    def as_kubernetes_takes_it(self) -> Self:
        if self.key is None and self.operator != "Exists":
            raise ValueError("key must be given unless operator is Exists")
        if self.value is not None and self.operator == "Exists":
            raise ValueError("value must be left out when operator is Exists")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds needs effect NoExecute")
        return self


class Scheduling(Model):
    """On which nodes of a cluster the pods run, and when; one machine ignores it."""

    queue_name: Name | None = Field(None, description="Kueue's local queue; a run waits in it for its quota")
    ahead: bool = Field(
        False,
        description="start model servers that hold GPUs one step before they are needed, as others are: faster, and "
        "their GPUs are held beside those of that step",
    )
    priority_class_name: Subdomain | None = Field(None, description="of the pods")
    runtime_class_name: Subdomain | None = Field(None, description="of the pods, such as gvisor")
    node_selector: dict[Qualified, LabelValue] = Field({}, max_length=16, description="labels that a node must have")
    tolerations: tuple[Toleration, ...] = Field((), max_length=16, description="taints that a node may have")


class Images(Model):
    """Container images of a cluster's pods; the operator's own where empty, one machine ignores them."""

    worker: Image | None = Field(None, description="of the steps that ask models")
    trainer: Image | None = Field(None, description="of the steps that train")
    serving: Image | None = Field(None, description="of the vLLM that serves teacher and student")
    pull_secrets: tuple[Subdomain, ...] = Field(
        (), max_length=8, description="Secrets of the run's namespace by which images are pulled"
    )
