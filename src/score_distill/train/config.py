"""Everything that one training run can be told, and the learning rate of each of its steps.

The manifest is mapped to `TrainConfig` by the stages. A run is a function of this config, the
model folder and the rows: the number of ranks changes the speed and not the curve.
"""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters on the linear layers named by `targets`, merged at export."""

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"


@dataclass(frozen=True)
class TrainConfig:
    learning_rate: float
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = 0.0  # fraction of all steps
    weight_decay: float = 0.0  # on matrices; never on norms and biases
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 1.0  # global norm; 0 turns it off
    zero_stage: Literal[0, 1, 2, 3] = 0
    lora: LoraConfig | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    pack_tokens: int = 4096  # one forward pass of one rank
    tokens_per_step: int = 16384  # one optimizer step, over all ranks
    epochs: int = 1
    steps: int | None = None  # optimizer steps in place of epochs; the last epoch may end early
    seed: int = 0
    checkpoint_every: int = 100  # steps; 0 for never
    keep_checkpoints: int = 2
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("pack_tokens", "tokens_per_step", "epochs", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def packs_per_step(self) -> int:
        return max(1, self.tokens_per_step // self.pack_tokens)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Of optimizer step `step` (from 0) of `steps`: linear warm-up, then constant or cosine to 0."""
    warmup_steps = math.ceil(config.warmup * steps)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
