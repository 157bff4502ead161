"""A file is as it was or as it was to become, and nothing is left beside it."""

from pathlib import Path

import pytest

from score_distill import whole_file


def test_a_file_is_replaced_at_the_end_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert whole_file.write(path, "é") == path
    with whole_file.replacing(path) as part:
        part.write_bytes(b"new")
        assert path.read_text("utf-8") == "é"
    assert path.read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [path]


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = whole_file.write(tmp_path / "a.json", b"old")
    with pytest.raises(ZeroDivisionError), whole_file.replacing(path) as part:
        part.write_bytes(b"ha")
        _ = 1 / 0
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]
