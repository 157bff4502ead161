"""A model folder that transformers and vLLM load: weights, tokenizer, chat template, and a probe.

The probe is a fixed list of token ids with the trainer's own log-probability of each next token:
whoever serves the weights asks the server for the same numbers and compares. Nothing here trains.
"""

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from score_distill.train.config import LoraConfig
from score_distill.train.engine import Engine
from score_distill.train.errors import ModelError
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
        torso = folder.with_name(f"unfinished-{folder.name}")
        shutil.rmtree(torso, ignore_errors=True)
        model = engine.scorer.model
        if engine.config.lora is not None:
            weights, model = merged(weights, engine.config.lora), model.get_base_model()
        model.save_pretrained(torso, state_dict=weights)
        copy_files(engine.model_dir, torso, COMPANIONS)
        (torso / PROBE).write_text(json.dumps(asdict(probe)))
        shutil.rmtree(folder, ignore_errors=True)
        torso.rename(folder)
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


def untie(source: Path, target: Path) -> Path:
    """A copy of a model folder whose output head is a weight of its own.

    vLLM reloads tied embeddings wrongly and says nothing. Weights that need no change are linked, not copied.
    """
    from transformers import AutoConfig

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=_link)
    config = AutoConfig.from_pretrained(source)
    if not config.get_text_config().tie_word_embeddings:
        return target
    head, embedding = _tied_names(config)
    _add_weight(target, head, embedding)
    path = target / "config.json"
    path.write_text(json.dumps(_everywhere_untied(json.loads(path.read_text())), indent=2))
    return target


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


def _link(source: str, target: str) -> None:
    """Weights by hard link where the disk allows it; what may be edited by copy."""
    if source.endswith(".safetensors"):
        try:
            return os.link(source, target)
        except OSError:
            pass
    shutil.copyfile(source, target)


def _tied_names(config: object) -> tuple[str, str]:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        tied = AutoModelForCausalLM.from_config(config).all_tied_weights_keys
    if len(tied) != 1:
        raise ModelError(f"cannot untie: {len(tied)} tied weights ({', '.join(tied)}), not one")
    return next(iter(tied.items()))


def _add_weight(folder: Path, name: str, like: str) -> None:
    """Add weight `name` with the values of `like`, in a file of its own, listed in the index."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    shards = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            shards |= dict.fromkeys(file.keys(), path.name)
    if like not in shards:
        raise ModelError(f"cannot untie: {folder} has no weight {like}")
    with safe_open(folder / shards[like], framework="pt") as file:
        tensor = file.get_tensor(like)
    single, first, extra = "model.safetensors", "model-00001-of-00002.safetensors", "model-untied.safetensors"
    if (folder / single).exists():  # a file of this name is loaded without looking at the index
        (folder / single).rename(folder / first)
        shards = dict.fromkeys(shards, first)
    save_file({name: tensor}, folder / extra, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    settings = json.loads(index.read_text()) if index.exists() else {"metadata": {}}
    index.write_text(json.dumps(settings | {"weight_map": shards | {name: extra}}, indent=2))


def _everywhere_untied(settings: dict[str, object]) -> dict[str, object]:
    inner = {key: _everywhere_untied(value) for key, value in settings.items() if isinstance(value, dict)}
    outer = {"tie_word_embeddings": False} if "tie_word_embeddings" in settings or "model_type" in settings else {}
    return settings | inner | outer
