"""The policy in reinforcement learning: one call per update, from the rank that has the samples.

The leader calls `update`, `export`, `save`, `asked_to_stop` and `stop` as rollouts come in; the other ranks stay in
`follow` and do the same on what they are sent. Rewards, groups and staleness are the caller's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from score_distill.train import broadcast, packing
from score_distill.train.checkpoints import Checkpoints
from score_distill.train.config import TrainConfig
from score_distill.train.engine import Engine, Outcome, Pack, Reference
from score_distill.train.errors import DataError
from score_distill.train.export import export
from score_distill.train.losses import PolicyLoss, SftLoss
from score_distill.train.rows import Rows, Sample
from score_distill.train.stopping import Stop, Stopped


@dataclass(frozen=True)
class PolicyConfig:
    """`losses.PolicyLoss` says what the numbers do."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 3.0
    truncate: float = 2.0  # of the importance weight trainer / server
    kl_coefficient: float = 0.0  # to the reference model; 0 = there is none, and nothing is paid for it
    replay_weight: float = 0.5  # of the SFT loss on replayed rows, beside a policy loss of weight 1
    minibatches: int = 1  # optimizer steps per update; more than 1 pays one extra forward pass, and clips


@dataclass(frozen=True)
class Update:
    """What one update did; means are over the learnt tokens of the samples."""

    step: int  # optimizer steps done since the start
    tokens: int
    loss: float
    gradient_norm: float
    learning_rate: float
    ratio_mean: float
    ratio_max: float
    clip_fraction: float
    dual_clip_fraction: float
    weight_mean: float
    weight_max: float  # before truncation
    truncated_fraction: float
    kl_behaviour: float  # of the trainer from the sampling server
    kl_reference: float
    entropy: float
    logprob_gap_max: float  # between trainer and server, on one token
    replay_nll: float


class Policy:
    """The engine as the RL stage sees it; made on every rank, with the same arguments."""

    def __init__(
        self,
        engine: Engine,
        settings: PolicyConfig,
        reference_dir: Path | None = None,
        checkpoints: Checkpoints | None = None,
        stop: Stop | None = None,
    ):
        if (settings.kl_coefficient > 0) != (reference_dir is not None):
            raise ValueError("a KL coefficient needs a reference model, and a reference model a coefficient")
        self.engine = engine
        self._settings = settings
        self._checkpoints, self._stop = checkpoints, stop or Stop()
        self._reference = Reference(reference_dir, engine) if reference_dir else None

    def update(self, samples: Sequence[Sample], replay: Sequence[Sample] = ()) -> Update:
        """Raises DataError for a sample that cannot be learnt from, DivergedError when it goes wrong."""
        for place, sample in enumerate(samples):
            _check(sample, place)
        if not samples:
            raise DataError("an update needs samples; drop the update when every group had equal rewards")
        arrays = broadcast.flatten([*samples, *replay])
        return cast(Update, self._lead({"do": "update", "samples": len(samples)}, arrays))

    def export(self, folder: Path) -> Path:
        return cast(Path, self._lead({"do": "export", "folder": str(folder)}))

    def save(self, identity: str, extra: dict[str, Any]) -> Path:
        return cast(Path, self._lead({"do": "save", "identity": identity, "extra": extra}))

    def asked_to_stop(self) -> bool:
        """Whether SIGTERM came to any rank."""
        return bool(self._lead({"do": "ask"}))

    def stop(self, early: bool = False) -> None:
        """Lets the other ranks return from `follow`, or raise Stopped there when it is `early`."""
        self._lead({"do": "stop", "early": early})

    def follow(self) -> None:
        """On every rank but the leader's: do what it does until it stops."""
        order: Any = None
        with self._stop:
            while order is None or order["do"] != "stop":
                order, arrays = broadcast.broadcast(self.engine.me, self.engine.device)
                self._perform(order, arrays)
        if order["early"]:
            raise Stopped

    def _lead(self, order: dict[str, Any], arrays: broadcast.Arrays | None = None) -> Any:
        if not self.engine.me.leads:
            raise RuntimeError("only the leading rank gives orders; the others follow()")
        return self._perform(*broadcast.broadcast(self.engine.me, self.engine.device, order, arrays))

    def _perform(self, order: dict[str, Any], arrays: broadcast.Arrays) -> Any:
        match order:
            case {"do": "update", "samples": count}:
                rows = broadcast.unflatten(arrays)
                return self._update(rows[:count], rows[count:])
            case {"do": "export", "folder": folder}:
                return export(self.engine, Path(folder))
            case {"do": "save", "identity": identity, "extra": extra}:
                if self._checkpoints is None:
                    raise RuntimeError("this policy was made without a place for checkpoints")
                return self.engine.save(self._checkpoints, identity, extra)
            case {"do": "ask"}:
                return self._stop.agreed(self.engine.device)
            case {"do": "stop"}:
                return None
            case _:
                raise ValueError(f"unknown order {order['do']}")

    def _update(self, samples: list[Sample], replay: list[Sample]) -> Update:
        capacity, parts = self.engine.config.pack_tokens, min(self._settings.minibatches, len(samples))
        batches = [packed(samples[part::parts], capacity) for part in range(parts)]
        replays = [packed(replay[part::parts], capacity) for part in range(parts)]
        several = [pack for batch in batches for pack in batch]
        unknown = [None] * len(several)
        old = iter(self.engine.score(several) if parts > 1 else unknown)
        reference = iter(self._reference.score(several) if self._reference else unknown)
        outcomes = []
        for batch, again in zip(batches, replays, strict=True):
            policy_loss = self._loss(batch)
            losses = [partial(policy_loss, old_M=next(old), reference_M=next(reference)) for _ in batch]
            work = [Pack(pack, loss, entropy=True) for pack, loss in zip(batch, losses, strict=True)]
            if again:
                sft_loss = SftLoss(tokens=_learnt(again), weight=self._settings.replay_weight)
                work += [Pack(pack, sft_loss) for pack in again]
            outcomes.append(self.engine.step(work))
        return summed(outcomes)

    def _loss(self, packs: Sequence[Sequence[Sample]]) -> PolicyLoss:
        chosen = self._settings
        return PolicyLoss(
            tokens=_learnt(packs),
            clip_low=chosen.clip_low,
            clip_high=chosen.clip_high,
            dual_clip=chosen.dual_clip,
            truncate=chosen.truncate,
            kl_coefficient=chosen.kl_coefficient,
        )


def packed(samples: Sequence[Sample], capacity: int) -> list[list[Sample]]:
    """Raises DataError when a sample is longer than a pack."""
    lengths = [len(sample.ids) for sample in samples]
    if max(lengths, default=0) > capacity:
        raise DataError(f"a sample has {max(lengths)} tokens; a pack holds {capacity}")
    return [[samples[row] for row in pack] for pack in packing.best_fit_decreasing(lengths, capacity)]


def replayed(rows: Rows, config: TrainConfig, update: int) -> list[Sample]:
    """The rows of update `update` (from 0): training steps over `rows`, epoch after epoch, without end."""
    plan = packing.epoch_plan(rows.lengths, config, epoch=0)
    epoch, step = divmod(update, len(plan))
    chosen = (packing.epoch_plan(rows.lengths, config, epoch) if epoch else plan)[step]
    return [rows[row] for pack in chosen for row in pack]


def summed(outcomes: Sequence[Outcome]) -> Update:
    def mean(name: str, tokens: str = "policy_tokens") -> float:
        return sum(o.sums[name] for o in outcomes) / max(1.0, sum(o.sums[tokens] for o in outcomes))

    def worst(name: str) -> float:
        return max(outcome.maxima[name] for outcome in outcomes)

    return Update(
        step=outcomes[-1].step + 1,
        tokens=int(sum(outcome.sums["policy_tokens"] for outcome in outcomes)),
        loss=sum(outcome.loss for outcome in outcomes) / len(outcomes),
        gradient_norm=max(outcome.gradient_norm for outcome in outcomes),
        learning_rate=outcomes[-1].learning_rate,
        ratio_mean=mean("ratio"),
        ratio_max=worst("ratio_max"),
        clip_fraction=mean("clipped"),
        dual_clip_fraction=mean("dual_clipped"),
        weight_mean=mean("weight"),
        weight_max=worst("weight_max"),
        truncated_fraction=mean("weight_truncated"),
        kl_behaviour=mean("kl_behaviour"),
        kl_reference=mean("kl_reference"),
        entropy=mean("entropy"),
        logprob_gap_max=worst("logprob_gap_max"),
        replay_nll=mean("nll", "sft_tokens"),
    )


def _learnt(packs: Sequence[Sequence[Sample]]) -> int:
    return sum(sample.learnt for pack in packs for sample in pack)


def _check(sample: Sample, place: int) -> None:
    if sample.logprobs is None or not np.isfinite(sample.logprobs).all():
        raise DataError(f"sample {place}: the log-probabilities of the sampling server are missing or not finite")
    if not sample.learnt:
        raise DataError(f"sample {place}: no token of it is masked to be learnt")
    if sample.mask[0] or len(sample.logprobs) != np.count_nonzero(sample.mask):
        raise DataError(
            f"sample {place}: {len(sample.logprobs)} log-probabilities for {np.count_nonzero(sample.mask)} "
            "masked tokens, of which the first token of the sample may not be one"
        )
    if not np.isfinite(sample.advantage).all():
        raise DataError(f"sample {place}: the advantage is not finite")
