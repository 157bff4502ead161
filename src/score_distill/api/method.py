"""The method: how models act, how the teacher corrects, and how the student learns from it (docs/method.md)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from score_distill.api.base import LIST_TYPE, Fraction, Model
from score_distill.api.rounds import in_round
from score_distill.api.tasks import Split

RL_CONTROLS = {"FullHorizon": "full-horizon", "OnPolicyDistillation": "distil-on-policy"}
"""The controls of RL, and how the step of each and the student that it leaves are named."""


class Sampling(Model):
    temperature: float = Field(0.6, ge=0, le=2, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the probability to sample from; 1 is all of it")


class Varied(Sampling):
    temperature: float = Field(0.7, ge=0, le=2, description="0 is greedy")


class Untempered(Sampling):
    temperature: float = Field(1.0, gt=0, le=2, description="1 samples what the trainer computes; must not be greedy")


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
    libraries: tuple[Literal["numpy", "sympy"], ...] = Field(
        (),
        max_length=2,
        description="what code can import besides the standard library, for some milliseconds a step; models are told",
        json_schema_extra={LIST_TYPE: "set"},
    )

    @model_validator(mode="after")
    def each_library_once(self) -> Self:
        if len(set(self.libraries)) < len(self.libraries):
            raise ValueError("libraries must name each library once")
        return self


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
    updates: int = Field(120, ge=1, le=100_000, description="updates at most, each from rollouts of its own")
    learning_rate: float = Field(7e-7, gt=0, le=0.1, description="constant; small models bear and need far more")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW's")
    clip_norm: float = Field(1.0, gt=0, le=1000, description="largest norm of the gradient")
    minibatches: int = Field(
        2, ge=1, le=64, description="optimizer steps of one update; with 1 no ratio leaves 1, and clip does nothing"
    )
    clip: float = Field(
        0.2, gt=0, le=1, description="the ratio of new to old probability within an update counts up to 1 ± clip"
    )
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
    controls: tuple[Literal["FullHorizon", "OnPolicyDistillation"], ...] = Field(
        (),
        max_length=2,
        description="students that the report compares with that of RL, each trained from the same one on whole tasks "
        "for as many rollout tokens. FullHorizon: by right answers alone. OnPolicyDistillation: by the teacher's "
        "log-probability of each token, which needs teacher.model with the student's vocabulary",
        json_schema_extra={LIST_TYPE: "set"},
    )

    @model_validator(mode="after")
    def controls_something(self) -> Self:
        if self.controls and not self.enabled:
            raise ValueError("controls needs enabled: true (a control is compared with the student of RL)")
        if len(set(self.controls)) < len(self.controls):
            raise ValueError("controls must name each control once")
        return self

    @model_validator(mode="after")
    def comparable_probabilities(self) -> Self:
        plain = self.sampling.temperature == 1 and self.sampling.top_p == 1
        if "OnPolicyDistillation" in self.controls and not plain:
            raise ValueError(
                "sampling must have temperature 1 and topP 1 with controls OnPolicyDistillation (the student's "
                "probabilities are compared with the teacher's)"
            )
        return self


class Evaluation(Model):
    """One attempt at each held-out task; greedy, so that a score can be had again."""

    models: tuple[Literal["base", "init", "sft", "rl", "teacher"], ...] = Field(
        ("base", "init", "sft", "rl", "teacher"),
        min_length=1,
        max_length=5,
        description="base: the student as given; init: after the warm-up; sft: of every round; the report compares "
        "those named here",
    )
    sampling: Greedy = Greedy()


class Method(Model):
    """Everything of the algorithm; docs/method.md explains it."""

    split: Split = Split()
    agent: Agent = Agent()
    demonstrate: Demonstrate = Demonstrate()
    warmup: Warmup = Warmup()
    correction: Correction = Correction()
    rounds: int = Field(
        1,
        ge=1,
        le=5,
        description="times that the student is mentored and trained: each round mentors its own part of the SFT half "
        "with the student of the round before (paper: 1)",
    )
    sft: Sft = Sft()
    rl: Rl = Rl()
    control: Literal["None", "Imitation"] = Field(
        "None",
        description="Imitation: also train a student on demonstrations alone that cost the teacher as many tokens as "
        "the corrections, in as many optimizer steps, for the report to tell whether correction paid",
    )
    evaluation: Evaluation = Evaluation()

    @property
    def students(self) -> tuple[str, ...]:
        """Those that SFT makes, one a round; the last is the one that goes on."""
        return tuple(in_round("sft", number) for number in range(1, self.rounds + 1))

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The models to score, in the order in which they come to be; each control brings the two that it compares."""
        unmade = set[str]() if self.rl.enabled else {"rl"}
        rounds = set(self.students) if "sft" in self.evaluation.models else set[str]()
        compared = {"imitation", self.students[-1]} if self.control == "Imitation" else set[str]()
        compared |= {"rl", *(RL_CONTROLS[one] for one in self.rl.controls)} if self.rl.controls else set[str]()
        wanted = {*self.evaluation.models} - unmade | rounds | compared
        order = ("base", "init", "imitation", *self.students, *RL_CONTROLS.values(), "rl", "teacher")
        return tuple(one for one in order if one in wanted)
