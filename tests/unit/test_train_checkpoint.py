from pathlib import Path

from score_distill.train import checkpoint


def write(folder: Path, step: int) -> None:
    unfinished = checkpoint.unfinished(folder, step)
    unfinished.mkdir(parents=True)
    (unfinished / "weights").write_text(f"of step {step}")


def test_a_checkpoint_is_there_only_once_it_is_complete(tmp_path: Path):
    assert checkpoint.steps(tmp_path / "nowhere") == []
    write(tmp_path, 7)
    assert checkpoint.steps(tmp_path) == []
    checkpoint.complete(tmp_path, 7)
    assert checkpoint.steps(tmp_path) == [7]
    assert (tmp_path / checkpoint.name(7) / "weights").read_text() == "of step 7"


def test_steps_are_in_order_of_number(tmp_path: Path):
    for step in (100, 20, 3):
        write(tmp_path, step)
        checkpoint.complete(tmp_path, step)
    assert checkpoint.steps(tmp_path) == [3, 20, 100]


def test_a_step_done_again_replaces_what_was_there(tmp_path: Path):
    write(tmp_path, 7)
    checkpoint.complete(tmp_path, 7)
    write(tmp_path, 7)
    (checkpoint.unfinished(tmp_path, 7) / "weights").write_text("again")
    checkpoint.complete(tmp_path, 7)
    assert (tmp_path / checkpoint.name(7) / "weights").read_text() == "again"


def test_sweeping_leaves_the_newest_and_what_is_not_a_checkpoint(tmp_path: Path):
    for step in (1, 2, 3):
        write(tmp_path, step)
        checkpoint.complete(tmp_path, step)
    write(tmp_path, 4)
    (tmp_path / "notes.txt").write_text("mine")
    checkpoint.sweep(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", checkpoint.name(2), checkpoint.name(3)]
