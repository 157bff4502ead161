"""What the leading rank tells the others: a JSON header and numpy arrays, as tensors, never pickled.

Samples come from servers and sandboxes; only numbers of declared types cross from rank to rank.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from score_distill.train.launch import Process
from score_distill.train.rows import Sample

Arrays = Mapping[str, np.ndarray]


def broadcast(
    me: Process, device: torch.device, header: Any = None, arrays: Arrays | None = None
) -> tuple[Any, Arrays]:
    """The leader's header and arrays, on every rank; the others give nothing and wait."""
    if me.ranks == 1:
        return header, arrays or {}
    if me.leads:
        arrays = arrays or {}
        layout = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
        text = json.dumps({"header": header, "layout": layout}).encode()
        _cast(torch.tensor([len(text)]), device)
        _cast(torch.frombuffer(bytearray(text), dtype=torch.uint8), device)
        for array in arrays.values():
            _cast(torch.from_numpy(np.ascontiguousarray(array)), device)
        return header, arrays
    size = int(_cast(torch.zeros(1, dtype=torch.int64), device))
    message = json.loads(_cast(torch.zeros(size, dtype=torch.uint8), device).numpy().tobytes())
    received = {}
    for name, (dtype, shape) in message["layout"].items():
        empty = torch.from_numpy(np.zeros(shape, dtype=np.dtype(dtype)))
        received[name] = _cast(empty, device).numpy()
    return message["header"], received


def anyone(device: torch.device, here: bool) -> bool:
    """Whether it is so on any rank; the same answer on all of them."""
    told = torch.tensor([float(here)], device=device)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return bool(told.item())


def flatten(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Samples as flat arrays; `unflatten` gives them back."""
    per_token = [np.ndim(sample.advantage) > 0 for sample in samples]
    return {
        "lengths": np.array([len(sample.ids) for sample in samples], dtype=np.int64),
        "ids": _joined([sample.ids for sample in samples], np.int32),
        "mask": _joined([sample.mask for sample in samples], np.uint8),
        "sampled": np.array([sample.logprobs is not None for sample in samples], dtype=np.uint8),
        "logprobs": _joined([sample.logprobs for sample in samples if sample.logprobs is not None], np.float32),
        "per_token": np.array(per_token, dtype=np.uint8),
        "advantages": _joined([np.atleast_1d(sample.advantage) for sample in samples], np.float32),
    }


def unflatten(arrays: Arrays) -> list[Sample]:
    ids, mask = iter(_split(arrays["ids"], arrays["lengths"])), _split(arrays["mask"] > 0, arrays["lengths"])
    learnt = np.array([np.count_nonzero(part[1:]) for part in mask], dtype=np.int64)
    logprobs = iter(_split(arrays["logprobs"], learnt[arrays["sampled"] > 0]))
    advantages = _split(arrays["advantages"], np.where(arrays["per_token"] > 0, learnt, 1))
    return [
        Sample(
            ids=next(ids),
            mask=part,
            logprobs=next(logprobs) if sampled else None,
            advantage=advantage if per_token else float(advantage[0]),
        )
        for part, sampled, advantage, per_token in zip(
            mask, arrays["sampled"], advantages, arrays["per_token"], strict=True
        )
    ]


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    joined: np.ndarray = np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)
    return joined


def _split(values: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    return np.split(values, np.cumsum(sizes)[:-1]) if len(sizes) else []


def _cast(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    moved = tensor.to(device)
    dist.broadcast(moved, src=0)
    return moved.cpu()
