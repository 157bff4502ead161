"""`make bench`: every figure against its peer in the same run on this machine, as one table.

Figures are ratios: absolute times say more about the neighbours.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import horizon, memory, rollout
from bench.servers import QUICKSTART, started
from rich.console import Console
from rich.table import Table

from score_distill.agent.formats import read_tasks
from score_distill.api import DistillationRun

ROOT = Path(__file__).parent.parent
COLUMNS = ("what", "against", "target", "measured", "detail")
APART = ("bench.training", "bench.sandbox", "bench.operator", "bench.fleet")


def main() -> None:
    rows = [row for module in APART for row in apart(module)]
    rows.append(memory.measure())
    rows += asyncio.run(with_servers(horizon.small_run()))
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*(str(row.get(name, "")) for name in COLUMNS))
    Console(width=max(160, Console().width)).print(table)


def apart(module: str) -> list[dict[str, Any]]:
    """The rows of a benchmark that wants a process of its own."""
    done = subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [
        {**row, "measured": f"{row['ratio']} x", "detail": f"{row['ours']} against {row['peer']}"}
        if "ratio" in row
        else row
        for row in rows
    ]


async def with_servers(run: DistillationRun) -> list[dict[str, Any]]:
    data = QUICKSTART.parent / "ledger" / "data" / "eval.jsonl"
    tasks = list(read_tasks(data.read_bytes().splitlines(), "qa", str(data)))[: rollout.TASKS]
    async with started() as servers:
        return [await rollout.measure(servers, tasks), await horizon.measure(servers, run)]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
