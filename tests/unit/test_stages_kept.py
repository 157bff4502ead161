"""Rows of updates after a kill, a curve whose last line is torn, and work that ends together."""

import asyncio
import json
from pathlib import Path

import pytest

from score_distill.artifacts.folder import FolderStore
from score_distill.artifacts.steps import StepWriter
from score_distill.artifacts.store import ArtifactCorrupt
from score_distill.stages.kept import Kept
from score_distill.stages.together import together
from score_distill.stages.training import trim


def test_an_update_that_was_made_again_counts_as_it_was_last(tmp_path: Path) -> None:
    writer = StepWriter(FolderStore(tmp_path), "run", "rl")
    for attempt, updates in (("killed", (0, 1, 2)), ("again", (1, 2, 3))):
        with Kept(writer, "rollouts") as kept:
            for update in updates:
                kept.add(update, [{"by": attempt, "n": n} for n in range(2)])
    with Kept(writer, "rollouts") as kept:
        kept.add(4, [])
        kept.flush()
    by = [(0, "killed"), (1, "again"), (2, "again"), (3, "again")]
    assert list(kept.rows()) == [{"update": update, "by": one, "n": n} for update, one in by for n in range(2)]


@pytest.mark.parametrize("torn", ["", "{", '{"update": 9', "\u00fc"])
def test_a_torn_last_line_of_a_curve_is_left_out(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "curve.jsonl"
    lines = [json.dumps({"update": n}) + "\n" for n in range(4)]
    path.write_text("".join(lines) + torn, encoding="utf-8")
    trim(path, "update", 3)
    assert path.read_text() == "".join(lines[:3])
    trim(tmp_path / "none.jsonl", "update", 0)
    assert (tmp_path / "none.jsonl").read_text() == ""


def test_any_other_broken_line_is_said(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text('{"update": 0}\n{"upd\n{"update": 2}\n')
    with pytest.raises(ArtifactCorrupt, match=r"curve\.jsonl:2: not a line of JSON"):
        trim(path, "update", 3)


async def test_what_runs_beside_a_failure_has_ended_before_the_error_is_raised() -> None:
    running, ended = asyncio.Event(), []

    async def sibling() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("sibling")

    async def failing() -> None:
        await running.wait()
        raise KeyError("one")

    with pytest.raises(KeyError, match="one"):
        await together([sibling(), failing()])
    assert ended == ["sibling"]


async def test_results_come_in_order() -> None:
    async def one(n: int) -> int:
        for _ in range(3 - n):
            await asyncio.sleep(0)
        return n

    assert await together(map(one, range(3))) == [0, 1, 2]
