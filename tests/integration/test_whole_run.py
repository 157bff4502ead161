"""One whole distillation with the real vLLM, DeepSpeed and sandbox, killed once in the middle of RL."""

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from score_distill.executors.local import processes

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.yaml"
STEPS = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]
MODELS = ["base", "init", "sft", "rl", "teacher"]
UPDATES = 4


def shrunken(folder: Path) -> Path:
    """The quickstart with few tasks, epochs and updates."""
    manifest = yaml.safe_load(QUICKSTART.read_text())
    spec = manifest["spec"]
    for one in (spec["student"], spec["teacher"]):
        one["model"] = str(QUICKSTART.parent / one["model"])
    for one in (spec["tasks"]["train"], *spec["tasks"]["eval"]):
        one["uri"] = str(QUICKSTART.parent / one["uri"])
    spec["tasks"]["train"]["limit"] = 60
    spec["tasks"]["eval"][0]["limit"] = 30
    method = spec["method"]
    method |= {"rounds": 1, "split": {"coldStart": 0.2, "dev": 0.15, "sft": 0.5}}
    method["warmup"]["epochs"] = 2
    method["sft"]["epochs"] = 1
    method["rl"] |= {"groupSize": 4, "groupsPerUpdate": 4, "updates": UPDATES, "devEvery": 2, "devTasks": 8}
    method["rl"] |= {"checkpointEvery": 1}
    spec["resources"]["rollout"]["concurrency"] = 32
    spec["artifacts"]["uri"] = "runs"
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(manifest))
    return path


@asynccontextmanager
async def running(manifest: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """``score-distill run``, its words in a file beside the manifest; at the end it is over in any case."""
    command = [sys.executable, "-m", "score_distill.cli", "run", str(manifest)]
    with manifest.with_suffix(".log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await process.wait()


async def seen(path: Path, lines: int, process: asyncio.subprocess.Process) -> None:
    """Return when a file has that many lines."""
    while not (path.exists() and len(path.read_bytes().splitlines()) >= lines):
        assert process.returncode is None, "the run ended before it was killed"
        await asyncio.sleep(0.05)


def rows(folder: Path, step: str, name: str) -> list[dict[str, Any]]:
    manifest = json.loads((folder / "steps" / step / "manifest.json").read_text())
    digest = manifest["files"][name]["sha256"]
    [blob] = [path for path in folder.rglob(f"*{digest}*") if path.is_file()]
    return [json.loads(line) for line in blob.read_text().splitlines()]


@pytest.mark.timeout(1800)
async def test_a_distillation_that_is_killed_in_rl_goes_on_to_its_report(tmp_path: Path) -> None:
    manifest = shrunken(tmp_path)
    folder = tmp_path / "runs" / "quickstart"
    async with running(manifest) as process:
        await seen(folder / "work" / "rl" / "curve.jsonl", 2, process)
        keys = [path.read_bytes() for path in (folder / "work" / "keys").iterdir()]
        arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes.writers(folder / "logs")]
        process.kill()
        await process.wait()
    assert len(keys) >= 2
    assert len(arguments) > 3
    assert not [one for one in arguments for key in keys if key in one]
    before = {step: (folder / "steps" / step / "manifest.json").read_bytes() for step in STEPS[:5]}
    assert not (folder / "steps" / "rl" / "manifest.json").exists()

    async with running(manifest) as process:
        assert await process.wait() == 0, manifest.with_suffix(".log").read_text()
    assert processes.writers(folder / "logs") == []
    assert {step: (folder / "steps" / step / "manifest.json").read_bytes() for step in before} == before
    assert [row["update"] for row in rows(folder, "rl", "curve.jsonl")] == list(range(UPDATES))
    assert [row["update"] for row in rows(folder, "rl", "dev.jsonl")] == [0, 2, 4]
    assert json.loads((folder / "steps" / "rl" / "manifest.json").read_text())["attempt"] == 2

    scored = Counter(row["model"] for row in rows(folder, "evaluate", "scored.jsonl"))
    assert scored == Counter(dict.fromkeys(MODELS, 30))
    report = json.loads((folder / "report" / "report.json").read_text())
    assert [one["model"] for one in report["scores"]] == MODELS
    assert all(one["n"] == 30 and one["low"] <= one["score"] <= one["high"] for one in report["scores"])
    assert [one["name"] for one in report["steps"]] == STEPS
    last = manifest.with_suffix(".log").read_text().splitlines()[-1]
    assert Path(last).is_file()
    assert Path(last).is_relative_to(folder / "report")

    assert not (folder / "work" / "keys").exists()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not any(key in content for key in keys), path

    logs = {path: path.stat().st_mtime_ns for path in (folder / "logs").iterdir()}
    async with running(manifest) as process:
        assert await process.wait() == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "logs").iterdir()} == logs
    assert manifest.with_suffix(".log").read_text().splitlines()[-1] == last
