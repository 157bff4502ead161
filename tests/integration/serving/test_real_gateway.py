"""A real vLLM behind a real gateway: weights over the network, a killed vLLM, and never its base weights again."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.integration.serving.tied import write_tied

from score_distill.agent.completer import OpenAIClient
from score_distill.agent.refusals import EndpointUnavailable
from score_distill.api import Serving
from score_distill.contract import Served
from score_distill.machine import detect, environment
from score_distill.serving import vllm
from score_distill.serving.probe import difference, read_probe
from score_distill.serving.untie import copy, untie
from score_distill.serving.weights import model_server

pytestmark = pytest.mark.timeout(1800)


def changed(base: Path, target: Path) -> Path:
    """The model with other numbers, and the probe that transformers computes of it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * weight.std() * torch.randn_like(weight)
        ids = list(range(20, 60))
        logits = model(torch.tensor([ids])).logits[0]
    logprobs = torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(base).save_pretrained(target)
    (target / "probe.json").write_text(json.dumps({"ids": ids, "logprobs": logprobs.tolist()}))
    return target


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def running(command: list[str], environ: dict[str, str], log: Path) -> AsyncIterator[int]:
    """A process group of its own, killed at the end."""
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, 9)
        await process.wait()


async def ready(url: str, status: int = 200) -> None:
    async with asyncio.timeout(900), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{url}/ready") as response:
                    if response.status == status:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.3)


async def test_a_killed_vllm_serves_the_loaded_weights_again_and_never_its_base(tmp_path: Path) -> None:
    base, home, port, front = tmp_path / "base", tmp_path / "home", free_port(), free_port()
    untie(write_tied(tmp_path / "tied"), base, copy)
    home.mkdir()
    trained = changed(base, tmp_path / "trained")
    key = tmp_path / "key"
    key.write_text("sk-secret")
    serving = Serving(dtype="float32", context_length=512)
    start = vllm.command(base, "student", serving, port, detect())
    environ = {"VLLM_API_KEY": "sk-secret"} | vllm.environ(
        environment(os.environ, detect()), detect(), home, managed=True
    )
    gateway = [sys.executable, "-m", "score_distill.serving.gateway", "--host", "127.0.0.1", "--port", str(front)]
    gateway += ["--upstream", f"http://127.0.0.1:{port}", "--model", "student", "--key-file", str(key)]
    gateway += ["--dtype", "float32", "--managed", "--weights", str(tmp_path / "weights"), "--base", str(base)]
    url = f"http://127.0.0.1:{front}"
    served = Served(url=f"{url}/v1", model="student", key_file=str(key), weights_url=url, model_dir=str(base))
    probe = read_probe(trained)
    heard: list[float] = []

    async def listen() -> None:
        async with OpenAIClient(served, attempts=1) as client:
            while True:
                try:
                    heard.append(await difference(client, probe))
                except Exception as error:
                    assert isinstance(error.__cause__, EndpointUnavailable), error
                await asyncio.sleep(0.1)

    async with running(gateway, dict(os.environ), tmp_path / "gateway.log"):
        async with running(start, environ, tmp_path / "vllm.log"):
            await ready(url)
            async with OpenAIClient(served) as client:
                assert await difference(client, probe) > 0.1
            loaded = await model_server(served, "float32").load(trained)
            assert loaded.difference < 1e-4
            listener = asyncio.create_task(listen())
        await ready(url, status=503)
        async with running(start, environ, tmp_path / "vllm.log"):
            await ready(url)
            before = len(heard)
            while len(heard) < before + 5 and not listener.done():
                await asyncio.sleep(0.1)
            listener.cancel()
            assert max(heard) < 1e-4
            assert (await model_server(served, "float32").load(base)).version == "base"
