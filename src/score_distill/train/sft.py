"""Supervised fine-tuning over a file of token rows, from wherever the last process stopped.

The order of the rows is a function of (rows, config): a step is found again from its number alone.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from score_distill.train import packing
from score_distill.train.checkpoints import Checkpoints
from score_distill.train.config import TrainConfig
from score_distill.train.engine import Engine, Outcome, Pack, start
from score_distill.train.launch import Process
from score_distill.train.losses import SftLoss
from score_distill.train.model import limits
from score_distill.train.rows import Rows, read_rows
from score_distill.train.stopping import Stop, Stopped

OnProgress = Callable[[Outcome, int], None]


@dataclass(frozen=True)
class SftSummary:
    rows: int
    too_long: int  # rows dropped: longer than a pack or the model's context
    nothing_to_learn: int  # rows dropped: no masked token
    tokens: int  # of one epoch, context included
    learnt_tokens: int  # of one epoch, in the loss
    steps: int
    packing_efficiency: float
    resumed_at: int
    last_loss: float | None  # None when the run had already ended


def train_sft(
    model_dir: Path,
    rows_path: Path,
    config: TrainConfig,
    checkpoints: Checkpoints,
    me: Process,
    on_progress: OnProgress = lambda outcome, steps: None,
) -> tuple[Engine, SftSummary]:
    """Train to the last step; the engine then holds the trained weights.

    `on_progress` is called on every rank after each step with its outcome and the number of steps. SIGTERM on any
    rank, while the steps go on, ends all of them after a checkpoint (`stopping`).
    """
    known = limits(model_dir)
    rows = read_rows(rows_path, min(config.pack_tokens, known.context), known.vocabulary)
    first_epoch = packing.epoch_plan(rows.lengths, config, epoch=0)
    steps = config.steps or len(first_epoch) * config.epochs
    epochs = -(-steps // len(first_epoch))
    engine = start(model_dir, config, steps, me)
    identity = _identity(rows, config)
    engine.resume(checkpoints, identity)
    resumed_at, outcome = engine.step_done, None
    with Stop() as stop:
        for epoch in range(engine.step_done // len(first_epoch), epochs):
            plan = packing.epoch_plan(rows.lengths, config, epoch)
            before = epoch * len(plan)
            for packs in plan[engine.step_done - before : steps - before]:
                outcome = engine.step(_packs(rows, packs))
                on_progress(outcome, steps)
                stopped = stop.agreed(engine.device)
                if stopped or _due(engine.step_done, steps, config):
                    engine.save(checkpoints, identity)
                if stopped:
                    raise Stopped
    return engine, SftSummary(
        rows=len(rows),
        too_long=rows.too_long,
        nothing_to_learn=rows.nothing_to_learn,
        tokens=len(rows.ids),
        learnt_tokens=sum(rows[i].learnt for i in range(len(rows))),
        steps=steps,
        packing_efficiency=packing.efficiency(len(rows.ids), sum(map(len, first_epoch)), config.pack_tokens),
        resumed_at=resumed_at,
        last_loss=outcome.loss if outcome else None,
    )


def _packs(rows: Rows, packs: list[packing.Pack]) -> list[Pack]:
    samples = [[rows[row] for row in pack] for pack in packs]
    loss = SftLoss(tokens=sum(sample.learnt for pack in samples for sample in pack))
    return [Pack(pack, loss) for pack in samples]


def _due(step: int, steps: int, config: TrainConfig) -> bool:
    """At the end as well: what comes after training may be interrupted too."""
    return config.checkpoint_every > 0 and (step % config.checkpoint_every == 0 or step == steps)


def _identity(rows: Rows, config: TrainConfig) -> str:
    """Of everything that the order of the rows and the shape of a checkpoint depend on."""
    essence = replace(config, checkpoint_every=0, keep_checkpoints=1)
    digest = hashlib.sha256(repr(sorted(asdict(essence).items())).encode())
    for part in (rows.ids, rows.mask, rows.offsets):
        digest.update(part.tobytes())
    return digest.hexdigest()
