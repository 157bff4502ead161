"""Peak memory of stages over 10,000 tasks against themselves over 100: they stream, or they do not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from score_distill import manifest
from score_distill.api import DistillationRun
from score_distill.contract import StageConfig

QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart.yaml"
SMALL, LARGE = 100, 10_000
CHILD = """
import os, resource, sys
from pathlib import Path
from score_distill.artifacts.store import open_store
from score_distill.contract import StageConfig
from score_distill.stages.prepare import run
config = StageConfig.model_validate_json(Path(sys.argv[1]).read_text())
run(config, open_store(config.store, os.environ))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure() -> dict[str, Any]:
    small, large = peak(SMALL), peak(LARGE)
    return {
        "what": f"memory of prepare, {LARGE:,} tasks",
        "against": f"itself at {SMALL} tasks",
        "target": "<= 1.5 x",
        "measured": f"{large / small:.2f} x",
        "detail": f"{large / 1024:.0f} MiB against {small / 1024:.0f} MiB",
    }


def peak(count: int) -> int:
    """KiB that prepare had at most, in a process of its own."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file, first, tasks in (("train.jsonl", 0, count), ("eval.jsonl", 10**6, 100)):
            rows = (json.dumps(_task(n)) for n in range(first, first + tasks))
            (folder / file).write_text("\n".join(rows) + "\n")
        config = StageConfig(
            run="bench", step="prepare", verb="prepare", spec=_manifest().spec, base=name, store=name, work=name
        )
        (folder / "stage.json").write_text(config.model_dump_json())
        command = [sys.executable, "-c", CHILD, str(folder / "stage.json")]
        return int(subprocess.run(command, env=os.environ, check=True, capture_output=True, text=True).stdout)


def _task(number: int) -> dict[str, str]:
    words = " ".join(str((number * 7919 + n * n) % 9973) for n in range(60))
    return {"id": str(number), "question": f"What is the sum of {words}?", "answer": str(number)}


def _manifest() -> DistillationRun:
    run = manifest.read(QUICKSTART)
    sets = {"uri": "train.jsonl"}, {"name": "held-out", "uri": "eval.jsonl"}
    tasks = type(run.spec.tasks).model_validate({"train": sets[0], "eval": [sets[1]]})
    return run.model_copy(update={"spec": run.spec.model_copy(update={"tasks": tasks})})
