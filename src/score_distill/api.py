"""The DistillationRun: every field a user may write, with its bounds, its default and the reason for it.

Both executors (one machine, Kubernetes) read the same model; the CRD and docs/manifest.md come from it.
Only pydantic is imported here. Reading a file and explaining its faults is `manifest.py`.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

GROUP = "distill.score.dev"
VERSION = "v1alpha1"
KIND = "DistillationRun"

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=52)]
LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
Label = Annotated[str, StringConstraints(pattern=LABEL, max_length=30)]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^\S+$")]
Text = Annotated[str, StringConstraints(max_length=8192)]

_MULTIPLES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


def count_of(value: Any) -> Any:
    """A count such as ``50M`` (suffixes k, M, G) as an integer; anything else is left for the validator to refuse."""
    match = re.fullmatch(r"(\d+)([kMG]?)", value) if isinstance(value, str) else None
    return int(match[1]) * _MULTIPLES[match[2]] if match else value


Count = Annotated[int, BeforeValidator(count_of), Field(ge=1, le=10**15)]


class Model(BaseModel):
    """Base of everything in the manifest: camelCase outside, frozen, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, allow_inf_nan=False
    )


class SecretKey(Model):
    """A key of a Secret; on one machine the file NAME/KEY under $SCORE_SECRETS, or the variable NAME_KEY."""

    name: Name = Field(description="of the Secret")
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = Field(
        description="within the Secret"
    )


class Serving(Model):
    """How vLLM serves the model; an endpoint is served by others, and these say nothing of it."""

    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="number format of the weights; float32 where there is no GPU"
    )
    context_length: int = Field(
        8192, ge=128, le=1_048_576, description="tokens of question, steps and observations together"
    )
    args: tuple[Annotated[str, StringConstraints(max_length=256)], ...] = Field(
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
    namespace: Name | None = Field(None, description="where the Teacher is; the run's own when empty")


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


Format = Literal["qa", "gsm8k", "chat"]
Metric = Literal["math", "exact", "f1"]


class TaskSet(Model):
    uri: Uri = Field(description="JSON Lines, plain or .gz")
    format: Format = Field(
        "qa", description="qa: {id, question, answer}; gsm8k: answer after ####; chat: messages, answer last"
    )
    metric: Metric = Field("math", description="how an answer is compared with the reference")
    limit: int | None = Field(None, ge=1, le=10**9, description="take that many tasks, chosen by hash of the id")


class EvalSet(TaskSet):
    name: Label = Field(description="under which the report shows its scores")


class Tasks(Model):
    """What is trained on, and what it is measured by."""

    train: TaskSet
    eval: tuple[EvalSet, ...] = Field(
        min_length=1, max_length=32, description="held-out sets, evaluate alone opens them"
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


class Sampling(Model):
    temperature: float = Field(0.6, ge=0, le=2, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the probability to sample from; 1 is all of it")


class Varied(Sampling):
    temperature: float = Field(0.7, ge=0, le=2, description="0 is greedy")


class Untempered(Sampling):
    temperature: float = Field(1.0, ge=0, le=2, description="1 samples what the trainer computes")


class Greedy(Sampling):
    temperature: float = Field(0.0, ge=0, le=2, description="0 is greedy")


class Agent(Model):
    """How a model acts, the same in every step of the run; ``sampling`` is the student's while it is mentored."""

    max_steps: int = Field(8, ge=1, le=64, description="steps of one attempt; the last one is executed and scored too")
    plan: bool = Field(True, description="the first step is a plan in plain text, as in the paper")
    step_tokens: int = Field(1024, ge=16, le=32768, description="most tokens of one step")
    sampling: Sampling = Sampling()
    observation_chars: int = Field(
        2048, ge=64, le=65536, description="longer observations are cut in the middle, everywhere alike"
    )
    step_seconds: float = Field(10, ge=0.5, le=600, description="wall time of the code of one step")
    memory_mib: int = Field(512, ge=64, le=65536, description="memory of the code of one step")


class Demonstrate(Model):
    """The teacher solves the cold-start tasks; ``sampling`` is the teacher's."""

    attempts: int = Field(1, ge=1, le=16, description="tries of the teacher at a task until one is right")
    sampling: Varied = Varied()


class Correction(Model):
    """The teacher finds the first error of a student and writes that one step anew."""

    localizer: Literal["Judge", "Reenactment"] = Field(
        "Judge",
        description="Judge: the teacher names the first wrong step; Reenactment: its own step at each prefix is "
        "compared by what it does, for tasks whose steps are close to canonical",
    )
    max_corrections: int = Field(5, ge=1, le=16, description="corrections of one task (paper: 5)")
    unfinished: bool = Field(True, description="also correct attempts that never gave an answer")
    judge_sampling: Greedy = Greedy()
    repair_sampling: Varied = Varied()
    judge_tokens: int = Field(2048, ge=64, le=32768, description="most tokens of one verdict")
    retries: int = Field(3, ge=1, le=10, description="tries at unusable judge output before the task is set aside")


class Lora(Model):
    rank: int = Field(32, ge=1, le=512, description="of the update of each weight")
    alpha: int = Field(64, ge=1, le=2048, description="the update is scaled by alpha / rank")


class Training(Model):
    """Supervised fine-tuning; the defaults are the paper's code, for a student of 3 to 8 billion parameters."""

    learning_rate: float = Field(7e-6, gt=0, le=0.1, description="highest; small models bear and need far more")
    epochs: int = Field(3, ge=1, le=100, description="passes over the rows")
    warmup: Fraction = Field(0.1, description="share of the steps that warm the learning rate up")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="of the learning rate after its warm-up")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's")
    clip_norm: float = Field(1.0, gt=0, le=1000, description="largest norm of the gradient")
    batch_tokens: int = Field(262_144, ge=64, le=2**27, description="tokens of one optimizer step, over all ranks")
    pack_tokens: int = Field(
        8192, ge=64, le=2**20, description="tokens of one packed sequence; longer rows are dropped"
    )
    checkpoint_every: int = Field(50, ge=1, le=10**6, description="optimizer steps between checkpoints")


class Warmup(Training):
    """The base student learns to act from the demonstrations."""


class Sft(Training):
    """The warmed-up student learns from its corrected trajectories."""

    keep_solved: Fraction = Field(0.5, description="share kept of the tasks that the student solved alone")
    replay_demonstrations: bool = Field(False, description="train on the demonstrations again beside the corrections")


class Rewards(Model):
    """What a rollout earns; the first that holds counts alone."""

    final: float = Field(1.0, ge=0, le=10, description="right final answer")
    key: float = Field(0.5, ge=0, le=10, description="key step equal to the teacher's")
    avoid: float = Field(0.1, ge=0, le=10, description="key step at least not the old mistake")

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if not self.final >= self.key >= self.avoid:
            raise ValueError("rewards must not grow from final over key to avoid")
        return self


class Rl(Model):
    """Short-horizon reinforcement from the verified prefix (GRPO); defaults as in the paper where it says."""

    enabled: bool = Field(True, description="without it the run ends with the SFT student")
    group_size: int = Field(16, ge=2, le=256, description="rollouts from one prefix; a group needs at least 2 rollouts")
    groups_per_update: int = Field(
        16, ge=1, le=1024, description="groups of one update; those whose rollouts all earn the same are dropped"
    )
    updates: int = Field(120, ge=1, le=100_000, description="optimizer updates at most")
    learning_rate: float = Field(7e-7, gt=0, le=0.1, description="constant; small models bear and need far more")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's")
    clip_norm: float = Field(1.0, gt=0, le=1000, description="largest norm of the gradient")
    clip: float = Field(0.2, gt=0, le=1, description="the ratio of new to old probability stays within 1 ± clip")
    importance_cap: float = Field(
        2.0, ge=1, le=100, description="cap of the trainer's over the server's probability of a sampled token"
    )
    kl: float = Field(0.0, ge=0, le=10, description="weight of the KL to the SFT student; 0 costs nothing")
    sampling: Untempered = Untempered()
    corrections: Literal["last", "all"] = Field("last", description="which corrections of a task become items")
    full_horizon: Fraction = Field(
        0.25,
        description="share of groups that start at the task; prefixes alone can wreck the steps before them",
    )
    replay_weight: float = Field(0.0, ge=0, le=10, description="weight of SFT rows replayed in each update")
    max_staleness: int = Field(
        2, ge=0, le=16, description="updates between sampling and use, at most; 0 is synchronous"
    )
    rewards: Rewards = Rewards()
    require_final_for_key: bool = Field(True, description="a rollout without a final answer earns nothing")
    pack_tokens: int = Field(
        8192, ge=64, le=2**20, description="tokens of one packed sequence; longer samples are dropped"
    )
    checkpoint_every: int = Field(10, ge=1, le=10**6, description="updates between checkpoints")
    dev_every: int = Field(10, ge=1, le=10**6, description="updates between looks at the dev split")
    dev_tasks: int = Field(200, ge=1, le=100_000, description="dev tasks of one look, whole tasks from their start")
    patience: int = Field(5, ge=1, le=1000, description="looks without a better score before it stops")


class Evaluation(Model):
    """One attempt at each held-out task; greedy, so that a score can be had again."""

    models: tuple[Literal["base", "init", "sft", "rl", "teacher"], ...] = Field(
        ("base", "init", "sft", "rl", "teacher"),
        min_length=1,
        max_length=5,
        description="base: the student as given; init: after the warm-up; the report compares those named here",
    )
    sampling: Greedy = Greedy()


class Method(Model):
    """Everything of the algorithm; docs/method.md explains it."""

    split: Split = Split()
    agent: Agent = Agent()
    demonstrate: Demonstrate = Demonstrate()
    warmup: Warmup = Warmup()
    correction: Correction = Correction()
    sft: Sft = Sft()
    rl: Rl = Rl()
    evaluation: Evaluation = Evaluation()


class Rollout(Model):
    """How wide the steps act that ask models."""

    parallelism: int = Field(1, ge=1, le=1024, description="pods (or processes) that act at once")
    concurrency: int = Field(64, ge=1, le=4096, description="tasks in flight in one of them")


class Trainer(Model):
    nodes: int = Field(1, ge=1, le=256, description="machines that train together; 1 without a cluster")
    processes_per_node: int = Field(1, ge=1, le=16, description="ranks of one node, one for each GPU")
    zero_stage: int = Field(0, ge=0, le=3, description="DeepSpeed ZeRO: what is divided among the ranks")
    dtype: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="number format of the computation; float32 where there is no GPU"
    )
    lora: Lora | None = Field(None, description="train an adapter, merged when the model is written")


class Resources(Model):
    """How wide the run runs; may change while it is under way."""

    rollout: Rollout = Rollout()
    trainer: Trainer = Trainer()


class Artifacts(Model):
    """The store of everything that the run makes and what it goes on from."""

    uri: Uri = Field(description="where everything is kept: a folder, file:// or s3://bucket/prefix")
    credentials_secret: Name | None = Field(None, description="Secret with the keys of the store")


class Budget(Model):
    """A run that has spent it stops with what it has; raised, the run goes on."""

    teacher_tokens: Count | None = Field(
        None, description="completion and prompt tokens of the teacher together, e.g. 50M"
    )


class Spec(Model):
    student: Student
    teacher: Teacher
    tasks: Tasks
    tools: tuple[Literal["python", "read"], ...] = Field(
        ("python",),
        min_length=1,
        max_length=8,
        description="python: the code tool; read: the documents of the task",
    )
    method: Method = Method()
    resources: Resources = Resources()
    artifacts: Artifacts
    budget: Budget = Budget()
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of every split, sample and order")


class Metadata(BaseModel):
    """Kubernetes metadata, of which one machine needs the name alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: Name
    namespace: Name = "default"


class DistillationRun(Model):
    api_version: Literal["distill.score.dev/v1alpha1"]
    kind: Literal["DistillationRun"]
    metadata: Metadata
    spec: Spec
