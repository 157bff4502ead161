"""Run under torchrun by the tests: one curve for each ZeRO stage, and the exported weights.

Arguments: model folder, rows, folder for the results. Writes curve-STAGE.json and export-STAGE/.
"""

import json
import sys
from pathlib import Path

from score_distill.train import launch
from score_distill.train.config import TrainConfig


def main(model: Path, rows: Path, results: Path) -> None:
    me = launch.join()
    from score_distill.train.export import export
    from score_distill.train.sft import train_sft

    for stage in (0, 2, 3):
        curve: list[float] = []
        config = TrainConfig(
            learning_rate=3e-3, pack_tokens=128, tokens_per_step=384, epochs=2, zero_stage=stage, weight_decay=0.1
        )
        engine, _ = train_sft(
            model,
            rows,
            config,
            results / f"checkpoints-{stage}",
            me,
            lambda outcome, steps, curve=curve: curve.extend([outcome.loss, outcome.gradient_norm]),
        )
        export(engine, results / f"export-{stage}")
        if me.leads:
            (results / f"curve-{stage}.json").write_text(json.dumps(curve))
    launch.leave()


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
