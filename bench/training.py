"""Training tokens per second against TRL's SFTTrainer with packing, and how full the packs are.

Same weights, rows, precision, tokens per step and optimizer, one thread each. CPU seconds count: they are the wall
seconds of a quiet machine, and a busy neighbour spoils neither side. TRL goes first, before there is a process group:
with one it would wrap the model for data parallelism and be slower.
Prints one JSON line per table row.  python bench/training.py [--rounds 3]
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer, pack_dataset

from score_distill.train import launch, packing
from score_distill.train.config import TrainConfig
from score_distill.train.engine import Engine, Pack, start
from score_distill.train.losses import SftLoss
from score_distill.train.rows import Sample


@dataclass(frozen=True)
class Case:
    """A model and how much of it one step sees."""

    name: str
    layers: int
    width: int
    vocabulary: int
    pack_tokens: int
    packs_per_step: int
    steps: int  # in one round

    @property
    def config(self) -> TrainConfig:
        return TrainConfig(
            learning_rate=1e-3,
            pack_tokens=self.pack_tokens,
            tokens_per_step=self.pack_tokens * self.packs_per_step,
            checkpoint_every=0,
        )


CASES = (
    Case("quickstart student, 0.4 M parameters", 3, 96, 560, 2048, 2, 4),
    Case("15 M parameters, vocabulary 8,192", 6, 384, 8192, 2048, 1, 2),
)


def rows(case: Case, count: int) -> list[Sample]:
    """Corrected trajectories as in the quickstart: 170 to 290 tokens and a tail, half of them to learn."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.normal(230, 35, count), 60, 500).astype(int)
    lengths[:: count // 8] = rng.integers(500, 900, len(lengths[:: count // 8]))
    return [Sample(rng.integers(3, case.vocabulary, n).astype(np.int32), rng.random(n) < 0.5) for n in lengths]


def write_model(case: Case, folder: Path) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=case.width,
        intermediate_size=4 * case.width,
        num_hidden_layers=case.layers,
        num_attention_heads=case.width // 32,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {"<pad>": 0, "</s>": 1} | {f"w{i}": i for i in range(2, case.vocabulary)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", chat_template="x")
    tokenizer.save_pretrained(folder)
    return folder


def our_turn(case: Case, engine: Engine, data: list[Sample]) -> Callable[[int, int], float]:
    """CPU seconds a token, over steps begin .. begin + count of the plan."""
    plan = packing.epoch_plan([len(row.ids) for row in data], case.config, epoch=0)

    def turn(begin: int, count: int) -> float:
        tokens, before = 0, time.process_time()
        for step in range(begin, begin + count):
            samples = [[data[row] for row in pack] for pack in plan[step % len(plan)]]
            loss = SftLoss(sum(sample.learnt for pack in samples for sample in pack))
            engine.step([Pack(pack, loss) for pack in samples])
            tokens += sum(len(sample.ids) for pack in samples for sample in pack)
        return (time.process_time() - before) / tokens

    return turn


class Stopwatch(TrainerCallback):
    """CPU seconds of the steps after the first, the start-up left out."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        self.marks.append(time.process_time())


def their_turn(case: Case, folder: Path, data: list[Sample], scratch: Path) -> Callable[[int, int], float]:
    dataset = Dataset.from_list(
        [{"input_ids": row.ids.tolist(), "assistant_masks": row.mask.astype(int).tolist()} for row in data]
    )

    def turn(begin: int, count: int) -> float:
        seen = [0]
        watch = Stopwatch()
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        settings = SFTConfig(
            output_dir=str(scratch),
            packing=True,
            max_length=case.pack_tokens,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=case.packs_per_step,
            max_steps=count + 1,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=begin,
        )
        trainer = SFTTrainer(model, settings, train_dataset=dataset, callbacks=[watch])
        forward = model.forward

        def counting(*arguments: Any, **named: Any) -> Any:
            if watch.marks:
                seen[0] += named["input_ids"].numel()
            return forward(*arguments, **named)

        model.forward = counting
        trainer.train()
        return (watch.marks[-1] - watch.marks[0]) / seen[0]

    return turn


def measure_theirs(case: Case, folder: Path, rounds: int) -> float:
    turn = their_turn(case, folder, rows(case, 200), folder.with_name(f"{folder.name}-trl"))
    return 1 / median(turn(place, case.steps) for place in range(rounds))


def measure_ours(case: Case, folder: Path, rounds: int, me: launch.Process) -> float:
    turn = our_turn(case, start(folder, case.config, 1000, me), rows(case, 200))
    turn(0, 1)
    return 1 / median(turn(1 + place * case.steps, case.steps) for place in range(rounds))


def fullness(count: int) -> dict[str, object]:
    case = CASES[0]
    lengths = [len(sample.ids) for sample in rows(case, count)]
    plan = packing.epoch_plan(lengths, case.config, epoch=0)
    mine = packing.efficiency(sum(lengths), sum(map(len, plan)), case.pack_tokens)
    table = Dataset.from_dict({"input_ids": [[0] * n for n in lengths]})
    peer = packing.efficiency(sum(lengths), len(pack_dataset(table, case.pack_tokens, "bfd")), case.pack_tokens)
    return row("packing efficiency", mine, "TRL, best-fit decreasing", peer, 0.95)


def row(what: str, mine: float, against: str, peer: float, target: float) -> dict[str, object]:
    values = {"ours": round(mine, 4), "against": against, "peer": round(peer, 4), "ratio": round(mine / peer, 3)}
    return {"what": what} | values | {"target": target, "met": mine / peer >= target}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(json.dumps(fullness(2000)), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [write_model(case, Path(scratch) / f"model-{place}") for place, case in enumerate(CASES)]
        theirs = [measure_theirs(case, folder, rounds) for case, folder in zip(CASES, folders, strict=True)]
        me = launch.join()
        for case, folder, peer in zip(CASES, folders, theirs, strict=True):
            mine = measure_ours(case, folder, rounds, me)
            what = f"training tokens per CPU second, {case.name}"
            print(json.dumps(row(what, mine, "TRL SFTTrainer, packing", peer, 1.1)), flush=True)
    launch.leave()


if __name__ == "__main__":
    main()
