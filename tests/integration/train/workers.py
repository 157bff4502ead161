"""Run by the tests as one rank of a training step whose checkpoints are in a store: SFT, with a curve.

Arguments: model folder, rows, store, work folder, zero stage, step to pause at (0 for none). Says each step that it
has done; at the pause it waits for a line.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from score_distill.artifacts.checkpoints import StoredCheckpoints
from score_distill.artifacts.store import open_store
from score_distill.train import launch
from score_distill.train.checkpoints import Checkpoints


def main(model: Path, rows: Path, store: str, work: Path, zero_stage: int, pause: int) -> None:
    me = launch.join()
    from test_train_sft import CONFIG

    from score_distill.train.export import export
    from score_distill.train.sft import train_sft

    work.mkdir(parents=True, exist_ok=True)
    curve = work / "curve.jsonl"

    def on_progress(outcome: object, steps: int) -> None:
        if me.leads:
            with curve.open("a") as file:
                file.write(json.dumps({"step": outcome.step, "loss": outcome.loss}) + "\n")
        print(outcome.step, flush=True)
        if pause and outcome.step == pause:
            sys.stdin.readline()

    config = replace(CONFIG, zero_stage=zero_stage, checkpoint_every=3)
    depot = StoredCheckpoints(open_store(store, {}), "run", "sft")
    place = Checkpoints(work / "checkpoints", depot, {"curve.jsonl": curve})
    engine, summary = train_sft(model, rows, config, place, me, on_progress)
    export(engine, work / "model")
    print("resumed at", summary.resumed_at, flush=True)
    launch.leave()


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:5]]
    main(paths[0], paths[1], sys.argv[3], paths[3], int(sys.argv[5]), int(sys.argv[6]))
