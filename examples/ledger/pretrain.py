"""Trains the ledger's teacher, or the student base, from nothing, and saves a Hugging Face folder.

    python -m examples.ledger.pretrain teacher examples/ledger/models/teacher

Both are Llama decoders of less than a million parameters, trained on an endless stream of perfect
trajectories (the student: of a part of the family only), with Muon on the matrices and AdamW on the
rest. The teacher also sees trajectories with mistakes in them, learning only from the right steps.
One thread; seeded; `measure.py` measures what comes out.
"""

import argparse
import random
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from examples.ledger.family import FACTS, STUDENT_PART, WHOLE, Part, solution, tasks
from examples.ledger.muon import Muon
from examples.ledger.tokenizer import CONTEXT, build
from examples.ledger.wandering import wander
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROPE_THETA = 1000.0
HEAD_SIZE = 32
IGNORED = -100
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Recipe:
    """How one model is made; `wandering` is the share of trajectories with mistakes in them.

    `facts`: the fewest and the most of a task; `context`: tokens that hold the longest trajectory.
    """

    layers: int
    width: int
    mlp: int
    part: Part
    wandering: float
    updates: int
    batch: int = 8
    facts: tuple[int, int] = FACTS
    context: int = CONTEXT
    muon_rate: float = 0.02
    adamw_rate: float = 3e-3
    warmup: int = 60
    decay_share: float = 0.4


RECIPES = {
    "teacher": Recipe(layers=4, width=128, mlp=352, part=WHOLE, wandering=0.3, updates=1800),
    "student": Recipe(layers=3, width=96, mlp=256, part=STUDENT_PART, wandering=0.0, updates=1600),
}
for name in tuple(RECIPES):  # the same for tasks of up to 40 steps, which are four times as long
    RECIPES[f"long-{name}"] = replace(RECIPES[name], batch=4, facts=(3, 38), context=2048)


@dataclass(frozen=True)
class Row:
    """Token ids of a trajectory and whether each is learnt (a token of a right assistant turn)."""

    ids: list[int]
    learnt: list[bool]


def rows(rng: random.Random, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterator[Row]:
    """Endless training rows of the recipe's part of the family."""
    assistant, end = tokenizer.convert_tokens_to_ids(["<|assistant|>", "<|end|>"])
    for task in tasks(rng, "pretrain", recipe.part, recipe.facts):
        if rng.random() < recipe.wandering:
            messages, right = wander(rng, task, rng.choice((0.1, 0.2, 0.4)))
        else:
            messages, right = solution(task), [True] * recipe.context
        ids = tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)
        learnt, turn, inside = [], -1, False
        for token in ids:
            learnt.append(inside and right[turn])
            if token == assistant:
                turn, inside = turn + 1, True
            elif token == end:
                inside = False
        yield Row(ids[: recipe.context], learnt[: recipe.context])


def batches(rng: random.Random, stream: Iterator[Row], size: int, pad: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids, labels), each [size, longest]; rows of like length go together."""
    while True:
        chunk = sorted(islice(stream, 32 * size), key=lambda row: len(row.ids))
        groups = [chunk[i : i + size] for i in range(0, len(chunk), size)]
        rng.shuffle(groups)
        for group in groups:
            longest = len(group[-1].ids)
            ids = torch.full((size, longest), pad)
            labels = torch.full((size, longest), IGNORED)
            for i, row in enumerate(group):
                tokens = torch.tensor(row.ids)
                ids[i, : len(tokens)] = tokens
                labels[i, : len(tokens)] = tokens.where(torch.tensor(row.learnt), IGNORED)
            yield ids, labels


def create(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.width,
            intermediate_size=recipe.mlp,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.width // HEAD_SIZE,
            num_key_value_heads=recipe.width // HEAD_SIZE,
            head_dim=HEAD_SIZE,
            max_position_embeddings=recipe.context,
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def schedule(update: int, recipe: Recipe) -> float:
    """Share of the peak rate at an update: linear warm-up, flat, linear decay to nothing."""
    left = (recipe.updates - update) / (recipe.decay_share * recipe.updates)
    return min(1.0, (update + 1) / recipe.warmup, left)


def train(model: LlamaForCausalLM, recipe: Recipe, stream: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Trains in place and prints loss and speed."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or ".layers." not in name]
    optimizers = [
        Muon(matrices, lr=recipe.muon_rate),
        torch.optim.AdamW(rest, lr=recipe.adamw_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda update: schedule(update, recipe)) for o in optimizers]
    started, tokens, total = time.monotonic(), 0, 0.0
    for update, (ids, labels) in enumerate(islice(stream, recipe.updates), 1):
        hidden = model.model(ids, use_cache=False).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        learnt = targets != IGNORED
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[learnt]), targets[learnt])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for optimizer, rate in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            rate.step()
        tokens += ids.numel()
        total += loss.item()
        if update % 25 == 0:
            seconds = time.monotonic() - started
            print(f"update {update} loss {total / 25:.4f} tokens {tokens} seconds {seconds:.0f}", flush=True)
            total = 0.0


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, probe: Tensor) -> None:
    """Writes bf16 weights and everything a server needs, and reads them back to compare log-probabilities."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())
    deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id).save_pretrained(folder)
    reloaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        difference = (model(probe).logits.log_softmax(-1) - reloaded(probe).logits.log_softmax(-1)).abs().max()
    if not difference < TOLERANCE:
        raise RuntimeError(
            f"{folder}: log-probabilities differ by {difference:.2e} after reloading, tolerance {TOLERANCE}"
        )
    print(f"saved {folder}, log-probabilities within {difference:.1e} after reloading", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=RECIPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.model]
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    rng = random.Random(f"{arguments.model} {arguments.seed}")
    tokenizer = build(recipe.context)
    model = create(recipe, tokenizer)
    print(f"{arguments.model}: {model.num_parameters()} parameters", flush=True)
    stream = batches(rng, rows(rng, tokenizer, recipe), recipe.batch, tokenizer.pad_token_id)
    train(model, recipe, stream)
    save(model, tokenizer, arguments.folder, probe=next(stream)[0])


if __name__ == "__main__":
    main()
