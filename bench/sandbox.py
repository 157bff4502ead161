"""Branching G = 16 rollouts at step k against replaying the prefix 16 times, in the real sandbox.

Prints one JSON line.  python bench/sandbox.py
"""

import asyncio
import json
import time
from statistics import median

from score_distill.sandbox.client import Branch, Sandbox
from score_distill.sandbox.local import start

G, K, ROUNDS = 16, 8, 5
STEP = "total = globals().get('total', 0) + sum(n * n for n in range(20_000))"


async def prefix(sandbox: Sandbox) -> Branch:
    branch = await sandbox.open()
    for _ in range(K):
        after = (await branch.run(STEP)).branch
        await branch.close()
        branch = after
    return branch


async def branched(base: Branch) -> None:
    for result in await asyncio.gather(*(base.run("print(total)") for _ in range(G))):
        await result.branch.close()


async def replayed(sandbox: Sandbox) -> None:
    async def one() -> None:
        base = await prefix(sandbox)
        result = await base.run("print(total)")
        await result.branch.close()
        await base.close()

    await asyncio.gather(*(one() for _ in range(G)))


async def measure() -> dict[str, object]:
    forks, replays = [], []
    async with start() as sandbox:
        base = await prefix(sandbox)
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await branched(base)
            forks.append(time.perf_counter() - began)
            began = time.perf_counter()
            await replayed(sandbox)
            replays.append(time.perf_counter() - began)
    fork, replay = median(forks), median(replays)
    return {
        "what": f"branching G = {G} rollouts at step {K}",
        "against": f"replaying the prefix {G} times",
        "target": ">= 10 x faster",
        "measured": f"{replay / fork:.1f} x",
        "detail": f"{1000 * fork:.0f} ms against {1000 * replay:.0f} ms",
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))
