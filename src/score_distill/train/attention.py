"""Causal attention inside each sample of a pack, registered with transformers as `packed`.

Takes samples laid end to end and their bounds, so the cost is the sum of squares of the samples'
lengths, not the square of the sum. One kernel call a sample on CPU and in float32; one varlen
flash-attention call in half precision on a GPU. It knows rotary models with grouped heads and
sliding windows, and refuses what it does not know (soft-capped scores, attention sinks).
"""

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

from score_distill.train.errors import ModelError

NAME = "packed"
UNKNOWN = ("softcap", "s_aux", "position_bias")


def register() -> None:
    AttentionInterface.register(NAME, packed_attention)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    bounds: torch.Tensor | None = None,
    longest: int = 0,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """query [1, heads, T, D], key and value [1, kv heads, T, D] -> [1, T, heads, D]."""
    for name in UNKNOWN:
        if kwargs.get(name) is not None:
            raise ModelError(f"{type(module).__name__} uses {name}, which packing does not support")
    if bounds is None:
        raise ModelError(f"{type(module).__name__} does not pass the pack's bounds to attention")
    window = sliding_window if sliding_window and sliding_window < longest else None
    if query.is_cuda and query.dtype != torch.float32 and not dropout:
        return _varlen(query, key, value, scaling, bounds, longest, window)[None], None
    lengths = bounds.diff().tolist()
    samples = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    outputs = [_one_sample(q, k, v, scaling, dropout, window) for q, k, v in samples]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _one_sample(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> torch.Tensor:
    length = query.shape[2]
    mask = None
    if window is not None and window < length:
        ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
        mask = ones.tril() & ones.triu(1 - window)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    bounds: torch.Tensor,
    longest: int,
    window: int | None,
) -> torch.Tensor:
    """Unproven: written for a GPU, which none of the tests has."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    left = -1 if window is None else window - 1
    attended = varlen_attn(
        q,
        k,
        v,
        bounds,
        bounds,
        longest,
        longest,
        scale=scaling,
        window_size=(left, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(attended, torch.Tensor)  # a pair only where the sums of the softmax are asked for
    return attended
