"""Wall time of an RL update from verified prefixes against the same tasks from their start.

Uses the corrections and the SFT student of a finished quickstart (`make quickstart`). An update is what it is in a run:
groups rolled out, the policy updated once. Rounds alternate; both start from the same student.
"""

import asyncio
import os
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.servers import QUICKSTART, Servers

from score_distill import manifest
from score_distill.agent.rl_starts import Item, items
from score_distill.agent.trajectory import Mentored
from score_distill.artifacts.steps import completed_steps
from score_distill.artifacts.store import open_store
from score_distill.contract import StageConfig
from score_distill.serving.weights import model_server
from score_distill.stages.acting import floor
from score_distill.stages.context import StageContext
from score_distill.stages.learner import Learner
from score_distill.stages.rollouts import roll_out

GROUPS, ROUNDS = 12, 3
ROW = {
    "what": "RL wall time per update, prefix start",
    "against": "full-horizon start, same tasks",
    "target": "<= .6 x",
}


async def measure(servers: Servers) -> dict[str, Any]:
    run = manifest.read(QUICKSTART)
    uri = str((QUICKSTART.parent / run.spec.artifacts.uri).resolve())
    store = open_store(uri, os.environ)
    if "sft" not in completed_steps(store, run.metadata.name):
        return ROW | {"measured": "not measured", "detail": "needs a finished `make quickstart` in ./runs"}
    with TemporaryDirectory() as work:
        config = StageConfig(
            run=run.metadata.name,
            step="rl",
            verb="rl",
            spec=run.spec,
            base=str(QUICKSTART.parent),
            store=uri,
            inputs=("prepare", "mentor", "sft"),
            work=str(Path(work, "rl")),
            student=servers.student,
            sandbox=str(servers.socket),
        )
        Path(config.work).mkdir()
        frame = StageContext(config, store)
        await model_server(servers.student, run.spec.student.serving.dtype).load(frame.model("sft"))
        prefixed = _items(frame)
        whole = [Item(id=f"{one.task.id}#0", task=one.task) for one in prefixed]
        learner = Learner(frame)
        seconds: dict[str, list[float]] = {"prefix": [], "whole": []}
        async with floor(frame, frozenset(), durable=False) as here:
            for update in range(ROUNDS):
                for name, chosen in (("prefix", prefixed), ("whole", whole)):
                    await servers.empty_cache()
                    began = time.perf_counter()
                    groups = await asyncio.gather(*(roll_out(here, one, update, learner.longest) for one in chosen))
                    learner.update(groups)
                    seconds[name].append(time.perf_counter() - began)
    prefix, full = median(seconds["prefix"]), median(seconds["whole"])
    steps = sum(len(one.prefix) for one in prefixed) / len(prefixed)
    return ROW | {
        "measured": f"{prefix / full:.2f} x",
        "detail": f"{prefix:.1f} s against {full:.1f} s; prefixes of {steps:.1f} steps in the mean",
    }


def _items(frame: StageContext) -> list[Item]:
    found: list[Item] = []
    for row in frame.input("mentor").open_rows("mentored.jsonl"):
        mentored = Mentored.model_validate(row)
        if mentored.split == "rl" and len(found) < GROUPS:
            found += [one for one in items(mentored, "last", frame.config.spec.seed) if one.prefix]
    return found[:GROUPS]
