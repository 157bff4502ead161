"""The jailed sandbox beside four ways to run code that confine nothing, and its branches beside its own replays.

Contenders take turns, batch by batch, so that a busy machine spoils none of them. The peers (`bench/peers.py`) live in
a venv of their own, which is made below .venv with what PEERS pins: nothing of the product needs them.
Prints JSON lines.  python -m bench.sandbox
"""

import asyncio
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median, quantiles

from bench.steps import BRANCHES, MEASURES, PAUSE, PREFIX, SESSIONS, WORK, Samples, timed, together

from score_distill.sandbox.client import Branch, Sandbox
from score_distill.sandbox.local import start

ROOT = Path(__file__).parent.parent
VENV = ROOT / ".venv" / "bench-peers"
PEERS = ("smolagents==1.26.0", "jupyter-client==8.10.0", "ipykernel==7.4.0")
NAMES = ("exec", "subprocess", "smolagents", "kernel")
ROUNDS = {"trivial": 15, "paused": 10, "large": 4, "open": 5, "fork": 2, "many": 1}


class Ours:
    """A session of the sandbox as that of an evaluation: it never goes back, and nobody compares its states."""

    def __init__(self, branch: Branch) -> None:
        self.branch = branch

    async def run(self, code: str) -> str:
        result = await self.branch.run(code, keep=False, digest=False)
        if result.error:
            raise RuntimeError(f"a step of the sandbox failed: {result.output}")
        self.branch = result.branch
        return result.output

    async def close(self) -> None:
        await self.branch.close()


async def prefix(sandbox: Sandbox) -> Ours:
    session = Ours(await sandbox.open())
    for _ in range(PREFIX):
        await session.run(WORK)
    return session


async def probe(branch: Branch) -> None:
    await (await branch.run("print(total > 0)")).branch.close()


async def branched(sandbox: Sandbox) -> Samples:
    """Branches of one state, whose prefix was run once and is not counted: a rollout has run it anyway."""
    base = await prefix(sandbox)
    seconds = await timed(together(probe(base.branch) for _ in range(BRANCHES)))
    await base.close()
    return {"fork": [seconds]}


async def replayed(sandbox: Sandbox) -> float:
    async def one() -> None:
        session = await prefix(sandbox)
        await probe(session.branch)
        await session.close()

    return await timed(together(one() for _ in range(BRANCHES)))


async def measured(sandbox: Sandbox, peers: "subprocess.Popen[str]") -> dict[str, Samples]:
    """By contender, the samples of each row."""
    found: dict[str, Samples] = defaultdict(lambda: defaultdict(list))

    def add(contender: str, samples: Samples) -> None:
        for name, values in samples.items():
            found[contender][name] += values

    async def opened() -> Ours:
        return Ours(await sandbox.open())

    for measure, rounds in ROUNDS.items():
        for _ in range(rounds):
            add("ours", await (branched(sandbox) if measure == "fork" else MEASURES[measure](opened)))
            for peer in NAMES:
                add(peer, ask(peers, peer, measure))
        print(f"{measure}: done", file=sys.stderr, flush=True)
    for _ in range(5):
        add("ours", await branched(sandbox))
        add("ours", {"replay": [await replayed(sandbox)]})
    return found


def ask(peers: "subprocess.Popen[str]", peer: str, measure: str) -> Samples:
    assert peers.stdin and peers.stdout
    print(peer, measure, file=peers.stdin, flush=True)
    if not (line := peers.stdout.readline()):
        raise SystemExit(f"the peers' process ended at {peer} {measure}; standard error says why")
    return dict(json.loads(line))


def began() -> "subprocess.Popen[str]":
    uv, python = ROOT / ".venv/tools/bin/uv", VENV / "bin/python"
    subprocess.run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, VENV], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *PEERS], check=True)
    pipe = subprocess.PIPE
    return subprocess.Popen([python, "-m", "bench.peers"], cwd=ROOT, text=True, stdin=pipe, stdout=pipe)


def p99(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[-1]


def told(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value >= 0.01 else "< 0.01"


def rows(found: dict[str, Samples]) -> list[dict[str, str]]:
    ours = found["ours"]
    fork, replay = median(ours["fork"]), median(ours["replay"])
    first = {
        "what": f"branching {BRANCHES} rollouts at step {PREFIX}",
        "against": f"replaying the prefix {BRANCHES} times",
        "target": ">= 10 x faster",
        "measured": f"{replay / fork:.1f} x",
        "detail": f"{1000 * fork:.0f} ms against {1000 * replay:.0f} ms",
    }
    wanted = (
        ("trivial step, median", "trivial", median, 1000, "ms"),
        ("trivial step, p99", "trivial", p99, 1000, "ms"),
        (f"trivial step {1000 * PAUSE:.0f} ms after the one before, median", "paused", median, 1000, "ms"),
        ("step with a state of 100 MB, median", "large", median, 1000, "ms"),
        ("new session and its first step", "open", median, 1000, "ms"),
        (f"{BRANCHES} branches at step {PREFIX} (peers replay)", "fork", median, 1000, "ms"),
        (f"{SESSIONS} sessions at once, time a step", "many", median, 1000, "ms"),
        ("memory of an idle session (PSS)", "memory", median, 2**-20, "MiB"),
    )
    beside = []
    for what, name, figure, unit, word in wanted:
        values = {contender: unit * figure(samples[name]) for contender, samples in found.items()}
        mine = values.pop("ours")
        against = [f"{peer} {told(value)} {word} ({told(value / mine)} x)" for peer, value in values.items()]
        beside.append(
            {
                "what": f"sandbox, jailed: {what}",
                "against": "unconfined peers, peer / ours",
                "target": "none",
                "measured": f"{told(mine)} {word}",
                "detail": "; ".join(against),
            }
        )
    return [first, *beside]


async def main() -> None:
    peers = began()
    try:
        async with start() as sandbox:
            found = await measured(sandbox, peers)
    finally:
        peers.communicate()
    for row in rows(found):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
