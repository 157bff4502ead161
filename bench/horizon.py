"""Wall time of an RL update from verified prefixes against the same tasks from their start.

Uses the corrections and the SFT student of a small run without RL, which is made first and kept in ./runs. An update is
what it is in a run: groups rolled out, the policy updated once. Rounds alternate; both start from the same student.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from bench.servers import QUICKSTART, Servers

from score_distill import manifest
from score_distill.agent.rl_starts import Item, items
from score_distill.agent.trajectory import Mentored
from score_distill.api import DistillationRun
from score_distill.artifacts.store import open_store
from score_distill.contract import StageConfig
from score_distill.serving.weights import model_server
from score_distill.stages.acting import floor
from score_distill.stages.context import StageContext
from score_distill.stages.learner import Learner
from score_distill.stages.rollouts import roll_out
from score_distill.train.stopping import Stop

GROUPS, ROUNDS = 12, 3
ROW = {
    "what": "RL wall time per update, prefix start",
    "against": "full-horizon start, same tasks",
    "target": "<= .6 x",
}


def small_run() -> DistillationRun:
    """The run that the figure is taken from; on a second time it is there already."""
    given = yaml.safe_load(QUICKSTART.read_text())
    spec = given["spec"]
    given["metadata"]["name"] = "bench-horizon"
    for place, name in (
        *((spec[role], "model") for role in ("student", "teacher")),
        *((one, "uri") for one in (spec["tasks"]["train"], *spec["tasks"]["eval"], spec["artifacts"])),
    ):
        place[name] = str((QUICKSTART.parent / place[name]).resolve())
    spec["tasks"]["train"]["limit"] = 200
    spec["tasks"]["eval"][0]["limit"] = 20
    split = {"coldStart": 0.4, "dev": 0.05, "sft": 0.7}
    spec["method"] |= {"rounds": 1, "split": split, "evaluation": {"models": ["sft"]}}
    without_rl = {**spec, "method": {**spec["method"], "rl": {"enabled": False}}}
    file = Path(spec["artifacts"]["uri"], "bench-horizon.yaml")
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({**given, "spec": without_rl}))
    subprocess.run([Path(sys.executable).with_name("score-distill"), "run", file], check=True, stdout=sys.stderr)
    return manifest.parse(given)


async def measure(servers: Servers, run: DistillationRun) -> dict[str, Any]:
    """``run`` is what `small_run` made, with the settings of RL."""
    uri = run.spec.artifacts.uri
    store = open_store(uri, os.environ)
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
        learner = Learner(frame, Stop())
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
        if len(found) < GROUPS:
            found += [one for one in items(mentored, "last", frame.config.spec.seed) if one.prefix]
    return found[:GROUPS]
