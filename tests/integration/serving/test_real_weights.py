"""A real vLLM that is given tied weights: it computes what the trainer does, or the load is refused."""

import json
import os
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
import torch
from tests.integration.serving.test_real_gateway import free_port, running
from tests.integration.serving.tied import write_tied
from tests.integration.train.conftest import write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from score_distill.agent.completer import OpenAIClient
from score_distill.api import Sampling, Serving
from score_distill.contract import Served
from score_distill.errors import ModelFailure
from score_distill.machine import detect, environment
from score_distill.serving import vllm
from score_distill.serving.probe import MEAN_DIFFERENCE, accept, difference, read_probe
from score_distill.serving.reload import reload
from score_distill.serving.untie import copy, untie
from score_distill.serving.weights import model_server
from score_distill.train import launch
from score_distill.train.checkpoints import Checkpoints
from score_distill.train.config import TrainConfig
from score_distill.train.export import export
from score_distill.train.sft import train_sft

pytestmark = pytest.mark.timeout(900)

Dtype = Literal["float32", "bfloat16"]
IDS = [(7919 * n + 13) % 90 for n in range(64)]


def trained(base: Path, target: Path, dtype: Dtype, scale: float) -> Path:
    """The model with other numbers and the probe of them that transformers gives, embeddings tied as they were."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += scale * weight.std() * torch.randn_like(weight)
        logits = model(torch.tensor([IDS])).logits[0].float()
    logprobs = torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor(IDS[1:])[:, None])[:, 0]
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(base).save_pretrained(target)
    (target / "probe.json").write_text(json.dumps({"ids": IDS, "logprobs": logprobs.tolist()}))
    return target


@asynccontextmanager
async def serving(base: Path, dtype: Dtype, folder: Path) -> AsyncIterator[Served]:
    home, port, key = folder / "home", free_port(), folder / "key"
    home.mkdir()
    key.write_text("sk-secret")
    start = vllm.command(base, "student", Serving(dtype=dtype, context_length=512), port, detect())
    environ = {"VLLM_API_KEY": "sk-secret"} | vllm.environ(
        environment(os.environ, detect()), detect(), home, managed=True
    )
    root = f"http://127.0.0.1:{port}"
    served = Served(url=f"{root}/v1", model="student", key_file=str(key), admin_url=root)
    async with running(start, environ, folder / "vllm.log"):
        async with OpenAIClient(served, attempts=600, timeout=600, wait=0.01) as client:
            await client.prompt_logprobs([1, 2])
        yield served


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 0.3), ("bfloat16", 0.08)])
async def test_tied_weights_are_computed_with_or_refused(tmp_path: Path, dtype: Dtype, scale: float) -> None:
    tied = write_tied(tmp_path / "tied", getattr(torch, dtype))
    base, new = tmp_path / "base", trained(tied, tmp_path / "new", dtype, scale)
    untie(tied, base, copy)
    assert "lm_head" not in str((new / "model.safetensors").read_bytes()[:10000])
    probe = read_probe(new)
    async with serving(base, dtype, tmp_path) as served, OpenAIClient(served) as client, aiohttp.ClientSession() as own:
        before = await difference(client, probe)
        await reload(own, str(served.admin_url), new)
        half = await difference(client, probe)
        with pytest.raises(ModelFailure):
            accept(half, before, dtype, served.url, new)
        assert half < (1 if dtype == "float32" else MEAN_DIFFERENCE[dtype])  # in bfloat16 no bound alone would tell
        await reload(own, str(served.admin_url), base)
        loaded = await model_server(served, dtype).load(new)
        assert loaded.before == pytest.approx(before, abs=1e-3)
        assert loaded.difference < (1e-4 if dtype == "float32" else 0.03)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".untied")] == []
        if dtype == "float32":
            await what_was_sampled_is_told_of_after_temperature_and_top_p(client, new)


async def what_was_sampled_is_told_of_after_temperature_and_top_p(client: OpenAIClient, folder: Path) -> None:
    sampling, prompt = Sampling(temperature=0.5, top_p=0.8), [5, 6, 7]
    reply = await client.generate(prompt, max_tokens=16, sampling=sampling, seed=3, stop_token=0, logprobs=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([*prompt, *reply.tokens])
    with torch.no_grad():
        tempered = torch.softmax(model(ids[None]).logits[0, len(prompt) - 1 : -1] / sampling.temperature, -1)
    for probabilities, token, said in zip(tempered, reply.tokens, reply.logprobs, strict=True):
        most, order = probabilities.sort(descending=True)
        nucleus = order[most.cumsum(0) - most < sampling.top_p]
        assert token in nucleus
        expected = (probabilities[token] / probabilities[nucleus].sum()).log()
        assert said == pytest.approx(float(expected), abs=1e-4)


async def test_vllm_computes_with_what_the_trainer_made_of_a_tied_student(tmp_path: Path) -> None:
    tied, base = write_tied(tmp_path / "tied"), tmp_path / "base"
    with ProcessPoolExecutor(1, get_context("spawn")) as trainer:
        exported = trainer.submit(fine_tuned, tied, tmp_path).result()
    untie(tied, base, copy)
    probe = read_probe(exported)
    async with serving(base, "float32", tmp_path) as served, OpenAIClient(served) as client:
        loaded = await model_server(served, "float32").load(exported)
        assert await client.prompt_logprobs(probe.ids) == pytest.approx(probe.logprobs, abs=1e-4)
    assert loaded.before > 0.1
    assert loaded.difference < 1e-4


def fine_tuned(model: Path, folder: Path) -> Path:
    """A few steps of the real trainer, in a process of its own, and its export."""
    rows = write_rows(folder / "rows.jsonl")
    config = TrainConfig(learning_rate=1e-2, pack_tokens=128, tokens_per_step=384, checkpoint_every=0)
    engine, _ = train_sft(model, rows, config, Checkpoints(folder / "checkpoints"), launch.join())
    return export(engine, folder / "exported")
