"""The contract between executor and stage: summaries that always fit, and the files of a work folder."""

from pathlib import Path

import pytest

from score_distill.api import Score
from score_distill.contract import TERMINATION_BYTES, Progress, Summary
from score_distill.work_folder import WorkFolder, worker_of

LONG = ["x" * 10_000, "\x00\x1b[31m" * 3000, "\U0001f600" * 5000, '"\\' * 5000, "é" * 1499 + "\ud800"]


@pytest.mark.parametrize("message", LONG)
@pytest.mark.parametrize("size", [0, 40, 400])
def test_a_summary_fits_a_termination_message_and_can_be_read_again(message: str, size: int) -> None:
    scores = tuple(Score(model=f"m{n}", eval="e" * 30, score=0.5, low=0.4, high=0.6, n=500) for n in range(size))
    counts = {f"a count with a long name {n}": n for n in range(size)}
    summary = Summary(step="rl", succeeded=False, reason="MODEL", message=message, counts=counts, scores=scores)
    told = summary.bounded()
    assert len(told) <= TERMINATION_BYTES
    read = Summary.model_validate_json(told)
    assert (read.step, read.succeeded, read.reason) == ("rl", False, "MODEL")
    assert size or read.message.rstrip(".")[:400] in "".join(c if c.isprintable() else "?" for c in message)


def test_what_fits_is_told_whole() -> None:
    summary = Summary(step="sft", succeeded=True, message="two\nlines", counts={"rows": 3}, tokens={"teacher": 5})
    assert Summary.model_validate_json(summary.bounded()) == summary


def test_the_progress_of_all_workers_adds_up(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path)
    assert folder.read_progress() is None
    folder.write_progress(0, Progress(done=3, total=10, unit="tasks", message="first"))
    folder.write_progress(2, Progress(done=4, total=10, unit="tasks"))
    assert folder.read_progress() == Progress(done=7, total=20, unit="tasks", message="first")
    folder.write_progress(1, Progress(done=0, total=None, unit="tasks"))
    assert folder.read_progress() == Progress(done=7, total=None, unit="tasks", message="first")


def test_summaries_are_read_in_the_order_of_workers_and_forgotten_by_the_next_attempt(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path)
    for worker in (10, 0, 2):
        folder.write_summary(worker, Summary(step="sft", succeeded=True, message=str(worker)))
    (tmp_path / "summary-3.json").write_text("torn")
    assert [one.message for one in folder.read_summaries()] == ["0", "2", "10"]
    folder.begin()
    assert folder.read_summaries() == []


@pytest.mark.parametrize(
    ("environ", "worker"),
    [({}, 0), ({"RANK": "2"}, 2), ({"SCORE_WORKER": "3"}, 3), ({"SCORE_WORKER": "", "RANK": "1"}, 1)],
)
def test_a_worker_is_a_shard_or_a_rank(environ: dict[str, str], worker: int) -> None:
    assert worker_of(environ) == worker
