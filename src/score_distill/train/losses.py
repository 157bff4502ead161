"""The losses: pure functions of the scored tokens of one pack, additive over packs.

A step is normalised by the tokens of the whole step (`tokens`), so neither packing nor the number
of ranks changes it. `Terms.sums` and `maxima` are added and maximised over packs and ranks; who
reports divides a sum by its token count.

Axes: M tokens to learn.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from score_distill.train.batch import Batch

SUMS = (
    "loss",
    "sft_tokens",
    "nll",
    "policy_tokens",
    "ratio",
    "clipped",
    "dual_clipped",
    "weight",
    "weight_truncated",
    "kl_behaviour",
    "kl_reference",
    "entropy",
)
MAXIMA = ("ratio_max", "weight_max", "logprob_gap_max")


@dataclass(frozen=True)
class Scores:
    """What the model gives for the tokens to learn."""

    logprobs_M: torch.Tensor  # with gradient
    entropy_M: torch.Tensor | None = None  # of the whole distribution, no gradient


@dataclass(frozen=True)
class Terms:
    loss: torch.Tensor
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    maxima: dict[str, torch.Tensor] = field(default_factory=dict)


Loss = Callable[[Scores, Batch], Terms]


def score(logits_MV: torch.Tensor, targets_M: torch.Tensor, entropy: bool = False) -> Scores:
    """Log-probabilities of the targets in float32, whatever the model computes in."""
    logits = logits_MV.float()
    logprobs = -F.cross_entropy(logits, targets_M, reduction="none")
    return Scores(logprobs, _entropy(logits.detach()) if entropy else None)


def _entropy(logits_MV: torch.Tensor, rows: int = 512) -> torch.Tensor:
    """A few rows at a time: the whole table of probabilities need not fit in memory twice."""
    chunks = (F.log_softmax(chunk, dim=-1) for chunk in logits_MV.split(rows))
    return torch.cat([-(chunk.exp() * chunk).sum(-1) for chunk in chunks])


@dataclass(frozen=True)
class SftLoss:
    """Mean negative log-likelihood over the step's `tokens`, times `weight`."""

    tokens: int
    weight: float = 1.0

    def __call__(self, scores: Scores, batch: Batch) -> Terms:
        nll = -scores.logprobs_M.sum()
        loss = nll * (self.weight / self.tokens)
        count = torch.tensor(float(len(scores.logprobs_M)))
        return Terms(loss, {"loss": loss.detach(), "nll": nll.detach(), "sft_tokens": count})


@dataclass(frozen=True)
class PolicyLoss:
    """Clipped policy gradient, token-mean over the step (GRPO as in DAPO's aggregation).

    min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), and never below dual_clip A where A < 0
    (arXiv 1912.09729). r is the ratio to `old`, the trainer's own log-probabilities when the batch
    arrived (None: now, so r = 1 and only its gradient acts). Each token is weighted by
    min(exp(old - behaviour), truncate): the samples came from another engine, perhaps from older
    weights. A reference adds kl_coefficient * r * k3: the factor r, 1 in value, makes the gradient that of the
    reverse KL to the reference (arXiv 2512.02556).
    """

    tokens: int
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 3.0
    truncate: float = 2.0
    kl_coefficient: float = 0.0

    def __call__(
        self,
        scores: Scores,
        batch: Batch,
        old_M: torch.Tensor | None = None,
        reference_M: torch.Tensor | None = None,
    ) -> Terms:
        new, advantage = scores.logprobs_M, batch.advantages_M
        old = new.detach() if old_M is None else old_M.to(new.device)
        gap = old - batch.behaviour_M
        raw_weight = gap.exp()
        weight = raw_weight.clamp(max=self.truncate)
        ratio = (new - old).exp()
        surrogate, clipped, dual = clipped_surrogate(ratio, advantage, self.clip_low, self.clip_high, self.dual_clip)
        per_token = -surrogate * weight
        sums = {
            "ratio": ratio.sum(),
            "clipped": clipped.sum(),
            "dual_clipped": dual.sum(),
            "weight": weight.sum(),
            "weight_truncated": (raw_weight > self.truncate).sum(),
            "kl_behaviour": k3(new, batch.behaviour_M).sum(),
        }
        if reference_M is not None:
            kl = k3(reference_M.to(new.device), new)
            per_token = per_token + self.kl_coefficient * ratio * kl
            sums["kl_reference"] = kl.sum()
        if scores.entropy_M is not None:
            sums["entropy"] = scores.entropy_M.sum()
        loss = per_token.sum() / self.tokens
        sums |= {"loss": loss, "policy_tokens": torch.tensor(float(len(new)))}
        maxima = {
            "ratio_max": ratio.max(),
            "weight_max": raw_weight.max(),
            "logprob_gap_max": gap.abs().max(),
        }
        return Terms(loss, _detached(sums), _detached(maxima))


def clipped_surrogate(
    ratio: torch.Tensor,
    advantage: torch.Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The surrogate per token, and where the clip and the dual clip took the gradient away."""
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high) * advantage
    pessimistic = torch.minimum(ratio * advantage, bounded)
    floor = dual_clip * advantage
    dual = (advantage < 0) & (pessimistic < floor)
    clipped = ratio * advantage > bounded
    return torch.where(dual, floor, pessimistic), clipped, dual


def k3(numerator_logprobs: torch.Tensor, denominator_logprobs: torch.Tensor) -> torch.Tensor:
    """Schulman's estimate of KL(denominator || numerator) on tokens drawn from the denominator."""
    log_ratio = numerator_logprobs - denominator_logprobs
    return log_ratio.exp() - log_ratio - 1


def _detached(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().float() for name, value in values.items()}
