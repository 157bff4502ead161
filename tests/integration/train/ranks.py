"""Run under torchrun by the tests, in two processes: an SFT curve for each ZeRO stage, and two RL updates.

Arguments: model folder, rows, folder for the results. Writes curve-STAGE.json, export-STAGE/, updates.json, policy/.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from score_distill.train import launch
from score_distill.train.launch import Process


def fine_tune(model: Path, rows: Path, results: Path, me: Process) -> None:
    from test_train_sft import CONFIG

    from score_distill.train.checkpoints import Checkpoints
    from score_distill.train.export import export
    from score_distill.train.sft import train_sft

    for stage in (0, 2, 3):
        curve: list[float] = []
        engine, _ = train_sft(
            model,
            rows,
            replace(CONFIG, zero_stage=stage),
            Checkpoints(results / f"checkpoints-{stage}"),
            me,
            lambda outcome, steps, curve=curve: curve.extend([outcome.loss, outcome.gradient_norm]),
        )
        export(engine, results / f"export-{stage}")
        if me.leads:
            (results / f"curve-{stage}.json").write_text(json.dumps(curve))


def reinforce(model: Path, results: Path, me: Process) -> None:
    from test_train_policy import CONFIG, rollouts

    from score_distill.train.checkpoints import Checkpoints
    from score_distill.train.engine import start
    from score_distill.train.policy import Policy, PolicyConfig

    policy = Policy(start(model, CONFIG, 10, me), PolicyConfig(), checkpoints=Checkpoints(results / "checkpoints"))
    if not me.leads:
        return policy.follow()
    updates = [policy.update(rollouts(), rollouts(4, seed=1)), policy.update(rollouts(seed=2))]
    policy.export(results / "policy")
    policy.save("test", {"version": 2})
    policy.stop()
    (results / "updates.json").write_text(json.dumps([asdict(update) for update in updates]))


if __name__ == "__main__":
    model, rows, results = map(Path, sys.argv[1:])
    process = launch.join()
    fine_tune(model, rows, results, process)
    reinforce(model, results, process)
    launch.leave()
