"""A model folder becomes the module that DeepSpeed trains: it takes a pack and gives scores.

Checks the folder before anything heavy is imported, and proves at the start that the model keeps
the samples of a pack apart: an architecture whose layers mix them is refused, not trained wrongly.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from score_distill.model_folder import faults
from score_distill.train import attention
from score_distill.train.batch import Batch, collate
from score_distill.train.config import LoraConfig, TrainConfig
from score_distill.train.errors import ModelError
from score_distill.train.losses import score
from score_distill.train.rows import Sample

ADAPTER = "default"


def check_folder(model_dir: Path) -> None:
    """Raises ModelError unless config, weights, tokenizer and chat template are all there."""
    if found := faults(model_dir):
        raise ModelError(f"{model_dir} is not a model folder that can be trained: {'; '.join(found)}")


class Scorer(torch.nn.Module):
    """The model, asked for the log-probabilities of the tokens to learn and for nothing else."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, entropy: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        output = self.model(
            input_ids=batch.ids_T[None],
            position_ids=batch.positions_T[None],
            bounds=batch.bounds,
            longest=batch.longest,
            logits_to_keep=batch.at_M,
            use_cache=False,
        )
        scores = score(output.logits[0], batch.targets_M, entropy)
        return scores.logprobs_M, scores.entropy_M


def load(model_dir: Path, config: TrainConfig) -> Scorer:
    """Weights in the precision of training; with LoRA the base is frozen and adapters are added."""
    check_folder(model_dir)
    attention.register()
    dtype = getattr(torch, config.dtype)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype, attn_implementation=attention.NAME)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{model_dir} does not load: {error}") from error
    if config.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if config.lora is not None:
        model = _with_adapters(model, config.lora)
        if config.activation_checkpointing:
            model.enable_input_require_grads()
    return Scorer(model)


def _with_adapters(model: torch.nn.Module, lora: LoraConfig) -> torch.nn.Module:
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    wanted = PeftConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, task_type="CAUSAL_LM")
    try:
        return get_peft_model(model, wanted, adapter_name=ADAPTER)
    except ValueError as error:
        raise ModelError(f"LoRA does not fit the model: {error}") from error


@dataclass(frozen=True)
class Limits:
    """What a sample must respect to be taken by the model."""

    vocabulary: int  # token ids are below this
    context: int  # tokens of the longest sample


def limits(model_dir: Path) -> Limits:
    check_folder(model_dir)
    try:
        config = AutoConfig.from_pretrained(model_dir).get_text_config()
        return Limits(int(config.vocab_size), int(config.max_position_embeddings))
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{model_dir}/config.json is not of a language model: {error}") from error


def check_isolation(scorer: torch.nn.Module, device: torch.device, words: int) -> None:
    """Raises ModelError when a sample's scores depend on its neighbour in the pack."""
    everything = np.ones(6, dtype=bool)
    kept, left, other = (
        Sample(np.array(ids) % words, everything)
        for ids in ([7, 3, 11, 5, 2, 13], [1, 4, 9, 16, 25, 36], [2, 3, 5, 7, 11, 13])
    )
    scorer.eval()
    with torch.no_grad():
        scored = [scorer(collate([neighbour, kept]).to(device))[0] for neighbour in (left, other)]
    gap = (scored[0][kept.learnt :] - scored[1][kept.learnt :]).abs().max().item()
    if gap > 1e-3:
        raise ModelError(f"the model mixes the samples of a pack (log-probabilities differ by {gap:.3g})")
