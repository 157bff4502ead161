"""What the RL step keeps beside the student: rollouts, attempts at dev tasks and items, with what they were made by."""

import asyncio
from pathlib import Path
from typing import Any

from tests.integration.stages.conftest import RUN, ledger, write_spec

from score_distill.agent.prompts import PROMPT_VERSION
from score_distill.agent.rewards import Judged
from score_distill.agent.rl_starts import Item
from score_distill.agent.trajectory import Step, Task
from score_distill.artifacts.folder import FolderStore
from score_distill.artifacts.steps import StepReader
from score_distill.contract import StageConfig
from score_distill.stages.context import StageContext
from score_distill.stages.reinforcement import Reinforcement
from score_distill.stages.rl import Files, finish
from score_distill.stages.rollouts import Rollout, group
from score_distill.stages.schedule import look
from score_distill.train.stopping import Stopped

STEP = Step(author="student", text="<code>1</code>", thought="", code="1", observation="None", tokens=(1, 2))
ITEM = Item(id="t#1", task=Task(id="t", question="q", answer="7"))


def frame_in(folder: Path) -> StageContext:
    work = folder / "work" / "rl"
    work.mkdir(parents=True)
    spec = write_spec(folder, ledger(4), ledger(2, "eval"))
    config = {"run": RUN, "step": "rl", "verb": "rl", "spec": spec, "base": str(folder), "store": str(folder / "store")}
    return StageContext(StageConfig.model_validate({**config, "work": str(work)}), FolderStore(folder / "store"))


def test_every_rollout_and_attempt_is_in_the_result_with_what_it_was_made_by(tmp_path: Path) -> None:
    frame = frame_in(tmp_path)
    for name in ("prefixed.jsonl", "full.jsonl"):
        (frame.work / name).write_text(ITEM.model_dump_json() + "\n")
    judged = Judged(answered=True, correct=False, key="chosen")
    made = [Rollout(n, 0, (STEP,), (1, 2), (0, 1), (-0.5,), 0.5, judged, "too_long" if n else "") for n in range(2)]
    made_of = group(ITEM, made)
    record = Files(frame)
    work: Any = Reinforcement(
        frame.config.spec.method.rl,
        0,
        Unused(),  # type: ignore[arg-type]
        Unused(),  # type: ignore[arg-type]
        record,
        lambda _: [ITEM],
        [],
        frame.work / "exported",
        frame.work / "best",
        asyncio.Event(),
        Stopped,
    )
    work.looks = [look(0, [True, None]), look(2, [True, True])]
    work.lost = made_of.lost
    (work.kept(0)).mkdir(parents=True)
    (work.kept(0) / "weights").write_text("0")
    with record:
        record.rollouts(0, [{"item": made_of.item.id, **one.row()} for one in made_of.made])
        record.attempts(2, [{"task": "d", "correct": True}])
        record.curve(0, {"reward": 0.5}, "")
        record.flush()
    summary = finish(frame, work, record, 1, [])
    assert summary.counts == {
        "updates": 1,
        "rollout_tokens": 0,
        "lost_too_long": 1,
        "best_update": 0,
        "dev_unjudged": 1,
    }
    assert summary.metrics == {"dev_start": 1.0, "dev_best": 1.0}
    assert "beyond chance" in summary.message

    result = StepReader(frame.store, RUN, "rl")
    rows = list(result.open_rows("rollouts.jsonl"))
    assert [(row["update"], row["item"], row["seed"], row["lost"], row["reward"]) for row in rows] == [
        (0, "t#1", 0, "", 0.5),
        (0, "t#1", 1, "too_long", None),
    ]
    assert {(row["prompts"], row["model"], row["key"], row["drawn"]) for row in rows} == {
        (PROMPT_VERSION, "rl", "chosen", 0)
    }
    assert all(row["parents"] == {} and row["steps"][0]["text"] == STEP.text for row in rows)
    [attempt] = result.open_rows("attempts.jsonl")
    assert (attempt["update"], attempt["task"], attempt["correct"]) == (2, "d", True)
    assert [row["outcomes"] for row in result.open_rows("dev.jsonl")] == ["1?", "11"]
    assert [row["id"] for row in result.open_rows("items/prefixed.jsonl")] == ["t#1"]


class Unused:
    """A trainer and a student that nobody asks for anything."""
