"""Stages that train: the manifest's words as the engine's, the curve on disk, and the engine's faults as ours."""

import json
import time
from collections.abc import Callable
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from score_distill import whole_file
from score_distill.api import Rl, Spec, Training
from score_distill.artifacts.checkpoints import StoredCheckpoints
from score_distill.artifacts.store import decode_row
from score_distill.contract import FIGURES, Summary
from score_distill.errors import Infrastructure, ModelFailure
from score_distill.stages.context import StageContext

if TYPE_CHECKING:
    from score_distill.train.checkpoints import Checkpoints
    from score_distill.train.config import TrainConfig
    from score_distill.train.engine import Outcome
    from score_distill.train.policy import PolicyConfig


CURVE, BEST = "curve.jsonl", "best"


def on_trainer(frame: StageContext, run: Callable[[StageContext, bool], Summary]) -> Summary:
    """Run on this rank of the trainer; what torch raises for a lost peer or full device becomes an end of ours."""
    import os

    import torch
    import torch.distributed as dist

    from score_distill.train import launch

    try:
        return run(frame, launch.process(os.environ).leads)
    except torch.OutOfMemoryError as error:
        raise ModelFailure(f"{error}; lower packTokens, raise zeroStage or use more processes") from error
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo/transport" in str(error):
            raise Infrastructure(f"a peer of the trainer is gone: {str(error).splitlines()[0][:300]}") from error
        raise
    finally:
        launch.leave()


def train_config(spec: Spec, training: Training | Rl, steps: int | None = None) -> "TrainConfig":
    """The engine's settings for one training step; ``steps``, where given, in place of its epochs."""
    from score_distill.train.config import LoraConfig, TrainConfig

    trainer = spec.resources.trainer
    common: dict[str, Any] = {
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "grad_clip": training.clip_norm,
        "zero_stage": trainer.zero_stage,
        "lora": LoraConfig(rank=trainer.lora.rank, alpha=trainer.lora.alpha) if trainer.lora else None,
        "dtype": trainer.dtype,
        "pack_tokens": training.pack_tokens,
        "seed": spec.seed,
        "checkpoint_every": training.checkpoint_every,
    }
    if isinstance(training, Rl):
        return TrainConfig(**common, schedule="constant", tokens_per_step=spec.method.sft.batch_tokens)
    return TrainConfig(
        **common,
        schedule=training.schedule,
        warmup=training.warmup,
        tokens_per_step=training.batch_tokens,
        epochs=training.epochs,
        steps=steps,
    )


def policy_config(rl: Rl) -> "PolicyConfig":
    from score_distill.train.policy import PolicyConfig

    return PolicyConfig(
        clip_low=rl.clip,
        clip_high=rl.clip,
        truncate=rl.importance_cap,
        kl_coefficient=rl.kl,
        replay_weight=rl.replay_weight,
        minibatches=rl.minibatches,
    )


def checkpoints_of(frame: StageContext) -> "Checkpoints":
    """Those of the step, in its work folder and in the store, so that another machine goes on from them.

    The curve so far and RL's best student so far are part of each.
    """
    from score_distill.train.checkpoints import Checkpoints

    beside = {name: frame.work / name for name in (CURVE, BEST)}
    return Checkpoints(frame.work / "checkpoints", stored_checkpoints(frame), beside)


def stored_checkpoints(frame: StageContext) -> StoredCheckpoints:
    return StoredCheckpoints(frame.store, frame.config.run, frame.config.step)


class Curve:
    """``curve.jsonl``: one line an optimizer step. After a restart, lines of steps that are run again are replaced."""

    def __init__(self, frame: StageContext, unit: str) -> None:
        self.path: Path = frame.work / CURVE
        self._frame, self._unit, self._at = frame, unit, time.monotonic()
        self._trimmed = False

    def add(self, number: int, total: int, key: str, line: dict[str, Any], message: str) -> None:
        now = time.monotonic()
        line = {key: number, **line, "seconds": round(now - self._at, 3)}
        self._at = now
        if not self._trimmed:
            trim(self.path, key, number)
            self._trimmed = True
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        measured = {
            name: float(value) for name, value in line.items() if isinstance(value, int | float) and name != key
        }
        figures = dict(islice(((name, value) for name, value in measured.items() if isfinite(value)), FIGURES))
        self._frame.progress(number + 1, total, self._unit, message, figures=figures, now=number + 1 == total)

    def step(self, outcome: "Outcome", steps: int) -> None:
        """One line of supervised training."""
        loss = outcome.loss
        line = {
            "loss": loss,
            "learning_rate": outcome.learning_rate,
            "grad_norm": outcome.gradient_norm,
            "tokens": int(outcome.sums["sft_tokens"]),
        }
        self.add(outcome.step, steps, "step", line, f"loss {loss:.4f}")


def trim(path: Path, key: str, number: int) -> None:
    """Leave the lines before ``number``, if there are any. A last line without its end was being written at a kill;
    any other that is not JSON raises ArtifactCorrupt."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith(b"\n")]
    rows = [(decode_row(line, f"{path}:{n}"), line) for n, line in enumerate(whole, 1)]
    whole_file.write(path, b"".join(line for row, line in rows if row[key] < number))
