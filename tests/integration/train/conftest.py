"""Tiny random Llamas with a tiny tokenizer, as the model folders that training starts from."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from score_distill.train import launch
from score_distill.train.launch import Process

WORDS = 97
TEMPLATE = "{% for m in messages %}{{ m.content }} </s> {% endfor %}"

MakeModel = Callable[..., Path]


def write_model(folder: Path, tied: bool = False, context: int = 256, dropout: float = 0.0) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        attention_dropout=dropout,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {"<s>": 0, "</s>": 1, "<pad>": 2} | {f"w{i}": i for i in range(3, WORDS)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    def make(name: str = "model", **options: object) -> Path:
        return write_model(tmp_path / name, **options)

    return make


def write_rows(path: Path) -> Path:
    """40 rows of 5 to 60 tokens, a learnable rule in them (each token is near the last one plus 3)."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for i in range(40):
            length = int(rng.integers(5, 60))
            begin = int(rng.integers(WORDS))
            ids = [(begin + 3 * j + int(rng.integers(2))) % WORDS for j in range(length)]
            mask = [0, 0, *(int(rng.random() < 0.7) for _ in range(length - 3)), 1]
            file.write(json.dumps({"row": f"r{i}", "ids": ids, "mask": mask}) + "\n")
    return path


@pytest.fixture
def rows_path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl")


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Model, rows and results of one run of ranks.py: starting two processes is what costs."""
    folder = tmp_path_factory.mktemp("ranks")
    paths = write_model(folder / "model"), write_rows(folder / "rows.jsonl"), folder
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = Path(__file__).with_name("ranks.py")
    subprocess.run([*launcher, str(script), *map(str, paths)], check=True, timeout=500)
    return paths


@pytest.fixture(scope="session")
def me() -> Iterator[Process]:
    """The one process of the tests, in a group of its own."""
    torch.set_num_threads(1)
    yield launch.join()
    launch.leave()
