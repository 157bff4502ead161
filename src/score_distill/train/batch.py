"""Samples of one pack, laid end to end as the tensors of one forward pass.

Positions restart at every sample and `bounds` tells the attention where samples begin, so no token
sees another sample. Only the tokens to learn are scored: logits are asked for at the places before
them and nowhere else.

Axes: T tokens of the pack, N samples, M tokens to learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from score_distill.train.errors import DataError
from score_distill.train.rows import Sample


@dataclass(frozen=True)
class Batch:
    ids_T: torch.Tensor
    positions_T: torch.Tensor
    bounds: torch.Tensor  # int32 [N + 1], where samples begin, and the end
    longest: int
    at_M: torch.Tensor  # place whose logits predict each token to learn
    targets_M: torch.Tensor
    behaviour_M: torch.Tensor  # log-probability that the sampling server gave
    advantages_M: torch.Tensor

    def to(self, device: torch.device) -> "Batch":
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **moved)


def collate(samples: Sequence[Sample]) -> Batch:
    lengths = [len(sample.ids) for sample in samples]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    places = [np.flatnonzero(sample.mask[1:]) for sample in samples]
    counts = [len(place) for place in places]
    at = np.concatenate([place + start for place, start in zip(places, starts, strict=False)])
    ids = np.concatenate([sample.ids for sample in samples]).astype(np.int64)
    return Batch(
        ids_T=torch.from_numpy(ids),
        positions_T=torch.from_numpy(np.concatenate([np.arange(length) for length in lengths])),
        bounds=torch.from_numpy(starts.astype(np.int32)),
        longest=max(lengths),
        at_M=torch.from_numpy(at),
        targets_M=torch.from_numpy(ids[at + 1]),
        behaviour_M=_per_token([_behaviour(sample) for sample in samples], counts),
        advantages_M=_per_token([sample.advantage for sample in samples], counts),
    )


def _behaviour(sample: Sample) -> float | np.ndarray:
    return 0.0 if sample.logprobs is None else sample.logprobs


def _per_token(values: Sequence[float | np.ndarray], counts: Sequence[int]) -> torch.Tensor:
    for value, count in zip(values, counts, strict=True):
        if isinstance(value, np.ndarray) and value.ndim and len(value) != count:
            raise DataError(f"{len(value)} values for a sample with {count} tokens to learn")
    spread = [np.broadcast_to(value, (n,)) for value, n in zip(values, counts, strict=True)]
    return torch.from_numpy(np.concatenate(spread).astype(np.float32))
