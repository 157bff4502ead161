"""What the engine exports is what it trained: transformers loads it and gives the probe's numbers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from score_distill.train.checkpoints import Checkpoints
from score_distill.train.config import LoraConfig, TrainConfig
from score_distill.train.export import export
from score_distill.train.launch import Process
from score_distill.train.sft import train_sft

MakeModel = Callable[..., Path]
CONFIG = TrainConfig(learning_rate=1e-2, pack_tokens=128, tokens_per_step=384, checkpoint_every=0)


def next_token_logprobs(folder: Path, ids: list[int]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    return torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def probe(folder: Path) -> tuple[list[int], torch.Tensor]:
    content = json.loads((folder / "probe.json").read_text())
    return content["ids"], torch.tensor(content["logprobs"])


@pytest.fixture
def trained(make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process):
    def train(config: TrainConfig, tied: bool) -> tuple[Path, Path]:
        model = make_model("source", tied=tied)
        (model / "generation_config.json").write_text('{"temperature": 0.25, "do_sample": true}')
        engine, _ = train_sft(model, rows_path, config, Checkpoints(tmp_path / "c"), me)
        return model, export(engine, tmp_path / "exported")

    return train


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4, alpha=16)], ids=["full", "lora"])
@pytest.mark.parametrize("stage", [0, 3])
def test_transformers_gives_the_trainers_logprobs(trained, tied: bool, lora: LoraConfig | None, stage: int):
    source, exported = trained(replace(CONFIG, lora=lora, zero_stage=stage), tied)
    ids, expected = probe(exported)
    assert len(ids) == 64 and len(expected) == 63
    torch.testing.assert_close(next_token_logprobs(exported, ids), expected, atol=1e-5, rtol=1e-5)
    assert (next_token_logprobs(source, ids) - expected).abs().max() > 0.1
    with safe_open(exported / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert ("lm_head.weight" in names) is not tied
    assert not [name for name in names if "lora" in name or "base_layer" in name]


def test_tokenizer_template_and_generation_settings_come_along(trained):
    source, exported = trained(CONFIG, tied=False)
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (source, exported))
    chat = [{"role": "user", "content": "w5 w6"}]
    assert after.apply_chat_template(chat, tokenize=False) == before.apply_chat_template(chat, tokenize=False)
    assert after("w5 w6 w7").input_ids == before("w5 w6 w7").input_ids
    assert json.loads((exported / "generation_config.json").read_text())["temperature"] == 0.25


def test_bfloat16_weights_are_exported_as_such(trained):
    source, exported = trained(replace(CONFIG, dtype="bfloat16"), tied=False)
    assert {tensor.dtype for tensor in load_file(exported / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((exported / "config.json").read_text())["dtype"] == "bfloat16"
    ids, expected = probe(exported)
    same, other = ((next_token_logprobs(one, ids) - expected).abs().mean() for one in (exported, source))
    assert same < 0.05 < other  # single values differ by more, as CPUs add in bfloat16 in ways of their own
