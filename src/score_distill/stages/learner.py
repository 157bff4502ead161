"""What learns during RL: the policy on the trainer's ranks, with its checkpoints and its replayed rows.

`Learner` lives on rank 0, on the thread that owns the device; the other ranks are in `follow`.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from score_distill.contract import ON_POLICY
from score_distill.stages.context import StageContext
from score_distill.stages.rollouts import Group
from score_distill.stages.samples import distilled, reinforced
from score_distill.stages.training import checkpoints_of, policy_config, train_config
from score_distill.train import launch
from score_distill.train.engine import start
from score_distill.train.policy import Policy, Update, replayed
from score_distill.train.rows import read_rows
from score_distill.train.stopping import Stop


class Learner:
    """``done`` updates have been made, also those in which no group could teach anything."""

    def __init__(self, frame: StageContext, stop: Stop) -> None:
        self._policy, self.extra = _policy(frame, stop)
        self._frame = frame
        engine = self._policy.engine
        self.longest = engine.longest
        self.done: int = self.extra["done"] if self.extra else 0
        self._config = train_config(frame.config.spec, frame.config.spec.method.rl)
        self._rows = None
        if frame.config.spec.method.rl.replay_weight:
            rows = frame.work / "replay.jsonl"
            rows.write_bytes(frame.input(frame.inputs_of("sft")[-1]).read("rows.jsonl"))
            self._rows = read_rows(rows, self.longest, engine.vocabulary)

    def update(self, groups: Sequence[Group]) -> dict[str, float]:
        """One update on the rollouts that can teach something; what it did, for the curve."""
        samples, line = (distilled if self._frame.config.step == ON_POLICY else reinforced)(groups)
        if samples:
            replay = replayed(self._rows, self._config, self.done) if self._rows else []
            line |= _curve(self._policy.update(samples, replay))
        self.done += 1
        return line

    def export(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._policy.export(folder)

    def save(self, extra: dict[str, Any]) -> None:
        self._policy.save(_identity(self._frame), {**extra, "done": self.done})

    def asked_to_stop(self) -> bool:
        return self._policy.asked_to_stop()

    def stop(self, early: bool = False) -> None:
        self._policy.stop(early)


def follow(frame: StageContext) -> None:
    """What every rank but the leading one does."""
    policy, _ = _policy(frame, Stop())
    policy.follow()


def _policy(frame: StageContext, stop: Stop) -> tuple[Policy, dict[str, Any] | None]:
    spec = frame.config.spec
    rl = spec.method.rl
    me = launch.join(os.environ)
    source = frame.model(frame.inputs_of("sft")[-1])
    engine = start(source, train_config(spec, rl), rl.updates, me)
    checkpoints = checkpoints_of(frame)
    policy = Policy(engine, policy_config(rl), source if rl.kl else None, checkpoints, stop)
    return policy, engine.resume(checkpoints, _identity(frame))


def _identity(frame: StageContext) -> str:
    """A checkpoint belongs to these settings and these inputs alone."""
    inputs = [frame.input(step).manifest.digest for step in frame.config.inputs]
    rl = frame.config.spec.method.rl.model_dump(mode="json", exclude={"updates", "patience", "dev_every", "controls"})
    return hashlib.sha256(json.dumps([inputs, rl, frame.config.spec.seed]).encode()).hexdigest()


def _curve(update: Update) -> dict[str, float]:
    told = asdict(update)
    return {
        "grad_norm": told["gradient_norm"],
        "kl": told["kl_reference"],
        "importance": told["weight_mean"],
        "ratio_max": told["ratio_max"],
        "clip_fraction": told["clip_fraction"],
        **{name: told[name] for name in ("loss", "tokens", "entropy", "kl_behaviour", "logprob_gap_max", "replay_nll")},
    }
