"""sft: fine-tune the student on trajectories; the verb of three steps.

warmup: the base student on the teacher's demonstrations. sft: the warmed-up student on the corrected trajectories of
the SFT half from all rounds so far, a share of those solved alone, and the demonstrations again when the manifest says
so; in a later round it starts from the warmed-up student again. imitate, the
control: as sft and in as many optimizer steps, but on demonstrations in place of the corrected trajectories. Runs on
every rank of the trainer; rank 0 reads and writes artifacts.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from score_distill.agent.chat import ChatFormat, trained
from score_distill.agent.seeds import share_of
from score_distill.agent.trajectory import Mentored, Task, Trajectory
from score_distill.api import Sft, Training
from score_distill.artifacts.store import Store
from score_distill.contract import StageConfig, Summary
from score_distill.stages.context import StageContext
from score_distill.stages.openings import opening_ids
from score_distill.stages.training import Curve, checkpoints_of, on_trainer, stored_checkpoints, train_config
from score_distill.whole_file import replacing


def run(config: StageConfig, store: Store) -> Summary:
    return on_trainer(StageContext(config, store), _run)


def _run(frame: StageContext, lead: bool) -> Summary:
    from score_distill.train import launch
    from score_distill.train.errors import DataError
    from score_distill.train.export import export
    from score_distill.train.sft import train_sft

    step = frame.config.step
    me = launch.join(os.environ)
    source = frame.model("base" if step == "warmup" else "warmup")
    rows = frame.work / f"rows-{me.rank}.jsonl"  # the ranks may share no disk
    write_rows(frame, ChatFormat(source, frame.day), rows)
    steps = frame.input(frame.inputs_of("sft")[-1]).manifest.counts["steps"] if step == "imitate" else None
    settings = train_config(frame.config.spec, training(frame), steps)
    curve = Curve(frame, "steps") if lead else None
    try:
        engine, summary = train_sft(
            source, rows, settings, checkpoints_of(frame), me, lambda *told: curve.step(*told) if curve else None
        )
    except DataError as error:
        if step != "imitate":
            raise
        return without_student(frame, str(error)) if lead else Summary(step=step, succeeded=True)
    exported = frame.work / "model"
    export(engine, exported)
    if not lead or curve is None:
        return Summary(step=step, succeeded=True)
    frame.writer.add_tree("model", exported)
    frame.writer.add_file("curve.jsonl", curve.path)
    frame.writer.add_file("rows.jsonl", rows)
    counts = {
        "rows": summary.rows,
        "dropped_long": summary.too_long,
        "dropped_empty": summary.nothing_to_learn,
        "tokens": summary.tokens,
        "steps": summary.steps,
    }
    metrics = {name: value for name, value in asdict(summary).items() if isinstance(value, float)}
    problems = [f"{summary.too_long} rows longer than packTokens dropped"] if summary.too_long else []
    done = frame.finish(counts, metrics=metrics, problems=problems)
    stored_checkpoints(frame).clear()
    return done


def without_student(frame: StageContext, why: str) -> Summary:
    """The control could not be trained: the run goes on without it, and its report says so."""
    return frame.finish({"rows": 0, "steps": 0}, problems=[f"no student by imitation alone: {why}"])


def training(frame: StageContext) -> Training:
    method = frame.config.spec.method
    return method.warmup if frame.config.step == "warmup" else method.sft


def write_rows(frame: StageContext, chat: ChatFormat, path: Path) -> int:
    """The token rows of the step, in the order of its inputs; returns how many."""
    count = 0
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        for count, (name, task, trajectory) in enumerate(sources(frame), 1):  # noqa: B007
            encoded = trained(chat, opening_ids(chat, frame, task), trajectory.steps)
            file.write(json.dumps({"row": name, "ids": encoded.ids, "mask": encoded.mask}) + "\n")
    return count


def sources(frame: StageContext) -> Iterator[tuple[str, Task, Trajectory]]:
    """Name, task and trajectory of every row of the step."""
    spec = frame.config.spec
    if frame.config.step == "warmup" or spec.method.sft.replay_demonstrations:
        for row in frame.input("demonstrate").open_rows("demonstrations.jsonl"):
            yield f"demonstrate/{row['task']['id']}", *_read(row)
    if frame.config.step == "imitate":
        for row in frame.input("more-demos").open_rows("demonstrations.jsonl"):
            yield f"more-demos/{row['task']['id']}", *_read(row)
        return
    for step in frame.inputs_of("mentor"):
        for row in frame.input(step).open_rows("mentored.jsonl"):
            mentored = Mentored.model_validate(row)
            if mentored.split == "sft" and _wanted(mentored, spec.method.sft, spec.seed):
                yield f"{step}/{mentored.task.id}", mentored.task, mentored.trajectory


def _wanted(mentored: Mentored, settings: Sft, seed: int) -> bool:
    if mentored.outcome == "solved":
        return share_of(seed, "solved", mentored.task.id) < settings.keep_solved
    return mentored.outcome == "corrected"


def _read(row: dict[str, Any]) -> tuple[Task, Trajectory]:
    return Task.model_validate(row["task"]), Trajectory.model_validate(row["trajectory"])
