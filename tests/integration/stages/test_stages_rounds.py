"""Rounds of mentoring: each has its own tasks and the student of the round before; SFT has the rows of all."""

import json
from pathlib import Path

import pytest
from tests.integration.stages.conftest import MakePlace, Place, ledger, prepared

from score_distill.agent.chat import ChatFormat
from score_distill.errors import BadInput
from score_distill.stages.context import StageContext
from score_distill.stages.pools import pools
from score_distill.stages.sft import write_rows

SECOND = ("demonstrate", "mentor", "mentor-2", "warmup")


async def test_each_round_mentors_its_own_tasks_with_the_student_of_the_round_before(make_place: MakePlace) -> None:
    place = await prepared(await make_place(ledger(100), method={"rounds": 2, "sft": {"keep_solved": 0.0}}))
    await place.run("demonstrate", ("prepare",))
    await place.run("mentor", ("prepare", "warmup"))
    assert pushed(place) == 0.3
    await place.run("mentor-2", ("prepare", "sft"), verb="mentor")
    assert pushed(place) == 0.15

    first, second = (place.rows(step, "mentored.jsonl") for step in ("mentor", "mentor-2"))
    halves = [{row["task"]["id"] for row in rows if row["split"] == "sft"} for rows in (first, second)]
    split = {row["id"]: row["split"] for row in place.rows("prepare", "mentor.jsonl")}
    assert halves[0] and halves[1] and not halves[0] & halves[1]
    assert halves[0] | halves[1] == {task for task, part in split.items() if part == "sft"}
    rest = {row["task"]["id"] for row in second if row["split"] == "rl"}
    assert {row["split"] for row in first} == {"sft"}
    assert rest == {task for task, part in split.items() if part == "rl"}

    right = {
        f"{step}/{row['task']['id']}"
        for step, rows in (("mentor", first), ("mentor-2", second))
        for row in rows
        if row["split"] == "sft" and row["outcome"] == "corrected"
    }
    assert {name.split("/")[0] for name in right} == {"mentor", "mentor-2"}
    assert set(trained_on(place, "sft-2", SECOND)) == right
    assert set(trained_on(place, "sft", ("demonstrate", "mentor", "warmup"))) == {
        name for name in right if name.startswith("mentor/")
    }

    frame = StageContext(place.config("rl", inputs=("prepare", "mentor-2", "sft-2")), place.store)
    prefixed, full = pools(frame)
    drawn = {item.task.id for pool in (prefixed, full) for item in pool.draw(0, 0, len(pool))}
    assert drawn and drawn <= rest
    for control in ("full-horizon", "distil-on-policy"):
        whole = StageContext(place.config(control, verb="rl", inputs=("prepare", "mentor-2", "sft-2")), place.store)
        none, alone = pools(whole)
        assert len(none) == 0
        assert alone.draw(0, 0, len(alone)) == full.draw(0, 0, len(full))


def pushed(place: Place) -> float:
    """How often the student errs that the server computes with."""
    return float(json.loads((place.models.pushed[-1] / "errs.json").read_text())["share"])


def trained_on(place: Place, step: str, inputs: tuple[str, ...]) -> list[str]:
    path = Path(place.config(step, verb="sft").work) / "rows.jsonl"
    frame = StageContext(place.config(step, verb="sft", inputs=inputs), place.store)
    write_rows(frame, ChatFormat(place.folder / "base"), path)
    return [json.loads(line)["row"] for line in path.read_text().splitlines()]


async def test_more_rounds_than_the_tasks_allow_are_refused_before_anything_is_paid(make_place: MakePlace) -> None:
    place = await make_place(ledger(12), method={"rounds": 5})
    with pytest.raises(BadInput, match=r"spec\.method\.rounds: 5; of the \d tasks .* none fell into round \d"):
        await place.run("prepare")
