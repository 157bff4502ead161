"""`FakeVllm`: the routes of vLLM that a gateway uses, with "weights" that decide its log-probabilities."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

KEY = "sk-secret"
IDS = (5, 6, 7, 8)
_starts = itertools.count(1)


def logprob(token: int, value: float) -> float:
    return -(token % 7) / 10 - value


def write_weights(folder: Path, value: float, *, probe: bool = True) -> Path:
    """A model folder as far as the fake reads it: its log-probabilities are those of ``value``."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"vocab_size": 100, "tie_word_embeddings": false}')
    (folder / "model.safetensors").write_bytes(json.dumps(value).encode())
    if probe:
        given = {"ids": IDS, "logprobs": [logprob(token, value) for token in IDS[1:]]}
        (folder / "probe.json").write_text(json.dumps(given))
    return folder


class FakeVllm:
    """``restart`` makes it a new process that computes with base weights. ``deaf`` reloads nothing and says 200.

    ``answering`` is waited for by every sampled completion; ``admin`` are the management calls, in order.
    """

    def __init__(self, base: Path) -> None:
        self.base, self.deaf, self.blind = base, False, False
        self.admin: list[str] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answering, self.got = asyncio.Event(), asyncio.Event()
        self.answering.set()
        self.runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        self.loaded, self.paused, self.started = self.base, False, float(next(_starts))
        app = web.Application(client_max_size=1 << 26)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_post("/v1/completions", self.completions)
        for route in ("pause", "collective_rpc", "reset_prefix_cache", "resume"):
            app.router.add_post(f"/{route}", self.manage)
        self.runner = web.AppRunner(app, shutdown_timeout=0.05)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=f"# HELP x\nprocess_start_time_seconds {self.started}\nother 1.0\n")

    async def manage(self, request: web.Request) -> web.Response:
        name = request.path[1:]
        self.admin.append(name)
        if name == "collective_rpc" and not self.deaf:
            assert self.paused, "weights are reloaded while requests run"
            path = Path((await request.json())["kwargs"]["weights_path"])
            assert (path / "model.safetensors").exists()
            self.loaded = path
        self.paused = {"pause": True, "resume": False}.get(name, self.paused)
        return web.json_response({})

    async def completions(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.Response(status=401)
        body = await request.json()
        self.asked.append((request.path, body))
        value = json.loads((self.loaded / "model.safetensors").read_bytes())
        ids: Sequence[int] = body["prompt"]
        if "prompt_logprobs" in body:
            if self.blind:
                return web.Response(status=500)
            given = [{str(one): {"logprob": logprob(one, value)}} for one in ids[1:]]
            return web.json_response({"choices": [{"prompt_logprobs": [None, *given], "finish_reason": "length"}]})
        if body["max_tokens"] > 1:
            self.got.set()
            await self.answering.wait()
            value = json.loads((self.loaded / "model.safetensors").read_bytes())
        usage = {"prompt_tokens": len(ids), "completion_tokens": 2}
        text = f'{value} "completion_tokens": 999'
        choice = {"text": text, "token_ids": [3, 4], "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": usage})
