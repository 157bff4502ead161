"""A fake stage: asks the servers it was given, commits an empty result to the real store, or misbehaves.

`behaviour/STEP` beside the run's folder has one line for each start: `exit N`, `kill`, `hang`. Each start
is noted in `starts`, which of how many workers it was in `workers`, and why a control is given up in `given_up`;
`stuck` ends as infrastructure without progress.
"""

import json
import os
import signal
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from score_distill.artifacts.steps import StepWriter
from score_distill.artifacts.store import open_store
from score_distill.contract import Progress, StageConfig, Summary
from score_distill.work_folder import WORKER

config = StageConfig.model_validate_json(Path(sys.argv[1]).read_text())
work = Path(config.work)
bench = work.parents[1].parent
with (bench / "starts").open("a") as file:
    file.write(f"{config.step} {config.attempt}\n")
with (bench / "workers").open("a") as file:
    file.write(f"{config.step} {os.environ.get(WORKER)} of {config.workers}\n")
if config.given_up:
    (bench / "given_up").write_text(f"{config.step}: {config.given_up}")
print(f"worker {os.environ.get(WORKER)}", flush=True)
(work / "progress.json").write_text(Progress(done=config.attempt, total=9, unit="things").model_dump_json())

script = bench / "behaviour" / config.step
lines = script.read_text().splitlines() if script.exists() else []
if lines:
    script.write_text("\n".join(lines[1:]))
match lines[:1]:
    case ["kill"]:
        os.kill(os.getpid(), signal.SIGKILL)
    case ["hang"]:
        (bench / "hanging").write_text(str(os.getpid()))
        time.sleep(600)
    case ["stuck"]:
        (work / "progress.json").write_text(Progress(done=0, total=9, unit="things").model_dump_json())
        sys.exit(3)
    case [line] if line.startswith("exit"):
        code = int(line.split()[1])
        summary = Summary(step=config.step, succeeded=False, message=f"asked to end with {code}")
        (work / "summary.json").write_text(summary.model_dump_json())
        sys.exit(code)

for served in (config.teacher, config.student):
    if served and served.key_file:
        key = Path(served.key_file).read_text()
        headers = {"Authorization": f"Bearer {key}"}
        urllib.request.urlopen(urllib.request.Request(f"{served.url}/completions", b"{}", headers), timeout=5)

store = open_store(config.store, os.environ)
now = datetime.now(UTC)
StepWriter(store, config.run, config.step).commit(
    verb=config.verb,
    inputs={},
    config_digest="fake",
    counts={},
    summary={"usage": json.loads(os.environ.get("FAKE_USAGE", "[]"))},
    started=now,
    finished=now,
    attempt=config.attempt,
    versions={},
)
