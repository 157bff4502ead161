"""A model folder that transformers and vLLM load: weights, tokenizer, chat template, and a probe.

The probe is a fixed list of token ids with the trainer's own log-probability of each next token:
whoever serves the weights asks the server for the same numbers and compares. Nothing here trains.
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from score_distill.train.config import LoraConfig
from score_distill.train.engine import Engine
from score_distill.train.model import ADAPTER
from score_distill.train.rows import Sample

PROBE = "probe.json"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
COMPANIONS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
    "generation_config.json",
    "LICENSE*",
)


@dataclass(frozen=True)
class Probe:
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # of ids[1:], each given the ids before it
    dtype: str  # what the trainer computed in; the softmax is float32 always


def export(engine: Engine, folder: Path) -> Path:
    """Write the engine's weights as a model folder, whole or not at all; call it on every rank."""
    probe = _probe(engine)
    weights = engine.whole_weights()
    if engine.me.leads:
        unfinished = folder.with_name(f"unfinished-{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        model: Any = engine.scorer.model
        if engine.config.lora is not None:
            weights, model = merged(weights, engine.config.lora), model.get_base_model()
        model.save_pretrained(unfinished, state_dict=weights)
        copy_files(engine.model_dir, unfinished, COMPANIONS)
        (unfinished / PROBE).write_text(json.dumps(asdict(probe)))
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    torch.distributed.barrier()
    return folder


def merged(weights: Mapping[str, torch.Tensor], lora: LoraConfig) -> dict[str, torch.Tensor]:
    """The adapters added into the weights that they adapt: W + alpha / rank B A, in float32."""
    prefix, base = "base_model.model.", ".base_layer."
    plain: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if ".lora_A." in name or ".lora_B." in name:
            continue
        if name.endswith(f"{base}weight"):
            stem = name.removesuffix(f"{base}weight")
            low, high = (weights[f"{stem}.lora_{side}.{ADAPTER}.weight"].float() for side in "AB")
            tensor = (tensor.float() + lora.alpha / lora.rank * (high @ low)).to(tensor.dtype)
        plain[name.removeprefix(prefix).replace(base, ".")] = tensor
    return plain


def probe_ids(vocabulary: int, length: int) -> list[int]:
    """`length` ids spread over the vocabulary, by the golden ratio: the same for the same numbers."""
    return [int(vocabulary * math.modf(place * 0.6180339887498949)[0]) for place in range(1, length + 1)]


def copy_files(source: Path, target: Path, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        for path in source.glob(pattern):
            shutil.copyfile(path, target / path.name)


def _probe(engine: Engine) -> Probe:
    from tokenizers import Tokenizer

    known = Tokenizer.from_file(str(engine.model_dir / "tokenizer.json")).get_vocab_size()
    ids = probe_ids(min(known, engine.vocabulary), min(64, engine.longest))
    sample = Sample(np.array(ids), np.ones(len(ids), dtype=bool))
    (logprobs,) = engine.score([[sample]])
    return Probe(tuple(ids), tuple(logprobs.tolist()), engine.config.dtype)
