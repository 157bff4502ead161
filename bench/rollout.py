"""Rollout throughput of the agent loop against a bare load generator that sends the same requests to the same vLLM.

The agent loop acts on held-out quickstart tasks: chat format, parsing, sandbox, tools, ledger. The generator sends the
recorded requests of each task one after another, as many tasks at once, and does nothing with the replies. The prefix
cache is emptied before each round, and rounds alternate.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from bench.servers import Servers

from score_distill.agent import prompts, tools
from score_distill.agent.chat import ChatFormat
from score_distill.agent.codeact import AgentState, StudentActor, act
from score_distill.agent.completer import Completion, OpenAIClient
from score_distill.agent.environment import EnvState, SnapshotPool
from score_distill.agent.ledger import Caller, Ledger
from score_distill.agent.trajectory import Task
from score_distill.api import Sampling
from score_distill.sandbox.client import Sandbox

TASKS, CONCURRENCY, ROUNDS = 200, 64, 3
GREEDY = Sampling(temperature=0)


async def measure(servers: Servers, tasks: list[Task]) -> dict[str, Any]:
    loops, bares, requests = [], [], 0
    for _ in range(ROUNDS):
        await servers.empty_cache()
        seconds, asked = await agent_loop(servers, tasks)
        loops.append(seconds)
        requests = sum(map(len, asked.values()))
        await servers.empty_cache()
        bares.append(await load(servers, asked))
    return {
        "what": "rollout throughput of the agent loop",
        "against": "a bare load generator, same requests",
        "target": ">= 90 %",
        "measured": f"{100 * median(bares) / median(loops):.0f} %",
        "detail": f"{requests} requests, {median(loops):.1f} s against {median(bares):.1f} s",
    }


async def agent_loop(servers: Servers, tasks: list[Task]) -> tuple[float, dict[str, list[dict[str, Any]]]]:
    asked: dict[str, list[dict[str, Any]]] = defaultdict(list)
    chat = ChatFormat(Path(servers.student.model_dir or ""))
    sandbox = await Sandbox.connect(servers.socket)
    ledger = Ledger(lambda _: None)
    rows = iter(tasks)
    async with OpenAIClient(servers.student, concurrency=CONCURRENCY) as client:

        async def worker() -> None:
            for task in rows:
                opening = chat.opening(prompts.opening(task, tools.words(("read",)), style="Bare", plan=False))
                actor = StudentActor(chat, opening, GREEDY, 64, 512)
                caller = Caller(Recording(client, asked[task.id]), ledger, "student", "bench", task.id, "act")
                async with SnapshotPool() as scope:
                    world = EnvState(task, tools.chosen(("read",)), await sandbox.open(), {})
                    await act(AgentState((), (scope.hold(world),)), actor, caller, max_steps=14, seed=0, scope=scope)

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
        seconds = time.perf_counter() - began
    await sandbox.close()
    return seconds, asked


@dataclass
class Recording:
    """A completer that keeps what one task asked."""

    client: OpenAIClient
    asked: list[dict[str, Any]]

    async def generate(self, prompt: Sequence[int], **request: Any) -> Completion:
        self.asked.append({"prompt": list(prompt), **request})
        return await self.client.generate(prompt, **request)

    async def chat(self, *_: Any, **__: Any) -> Completion:
        raise NotImplementedError("the student is asked by token ids")

    async def score(self, tokens: Sequence[int]) -> Completion:
        raise NotImplementedError("nothing is scored here")


async def load(servers: Servers, asked: dict[str, list[dict[str, Any]]]) -> float:
    chains = iter(asked.values())
    url = f"{servers.student.url}/completions"
    async with aiohttp.ClientSession(headers=servers.headers, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def worker() -> None:
            for chain in chains:
                for one in chain:
                    body = {
                        "model": servers.student.model,
                        "prompt": one["prompt"],
                        "max_tokens": one["max_tokens"],
                        "temperature": 0,
                        "top_p": 1.0,
                        "seed": one["seed"],
                        "stop_token_ids": [one["stop_token"]],
                        "return_token_ids": True,
                        "skip_special_tokens": False,
                    }
                    async with session.post(url, json=body) as response:
                        await response.read()

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
        return time.perf_counter() - began
