import json
from pathlib import Path

import numpy as np
import pytest

from score_distill.train.errors import DataError
from score_distill.train.rows import read_rows


def write(tmp_path: Path, *rows: object) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def row(ids: list[int], mask: list[int]) -> dict[str, object]:
    return {"row": "r", "ids": ids, "mask": mask}


def test_rows_come_back_as_they_were_written(tmp_path: Path):
    rows = read_rows(write(tmp_path, row([5, 6, 7], [0, 1, 1]), row([8, 9], [0, 1])), longest=10, vocabulary=10)
    assert len(rows) == 2
    assert rows.lengths.tolist() == [3, 2]
    assert rows[0].ids.tolist() == [5, 6, 7]
    assert rows[1].mask.tolist() == [False, True]
    assert [rows[0].learnt, rows[1].learnt] == [2, 1]


def test_five_bytes_a_token(tmp_path: Path):
    rows = read_rows(write(tmp_path, row([1] * 1000, [1] * 1000)), longest=1000, vocabulary=2)
    assert rows.ids.nbytes + rows.mask.nbytes == 5000


def test_long_rows_are_left_out_whole_and_counted(tmp_path: Path):
    rows = read_rows(write(tmp_path, row([1] * 9, [1] * 9), row([1] * 4, [1] * 4)), longest=8, vocabulary=2)
    assert (len(rows), rows.too_long, rows.lengths.tolist()) == (1, 1, [4])


def test_rows_with_nothing_to_learn_are_counted(tmp_path: Path):
    only_first = row([1, 2, 3], [1, 0, 0])
    rows = read_rows(write(tmp_path, only_first, row([1, 2], [0, 1])), longest=8, vocabulary=4)
    assert (len(rows), rows.nothing_to_learn) == (1, 1)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("not json", ":2: not a row"),
        ({"ids": [1]}, ":2: not a row"),
        (row([1, 2], [0]), ":2: 2 ids but 1 mask"),
        (row([1, 10], [0, 1]), ":2: token ids from 1 to 10; the model knows 0 to 9"),
        (row([1, -1], [0, 1]), ":2: token ids from -1"),
        (row([1, 2], [0, 2]), ":2: mask entries"),
        (row([1, 2], [0, 300]), ":2: not a row"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, bad: object, reason: str):
    with pytest.raises(DataError, match=reason):
        read_rows(write(tmp_path, row([1, 2], [0, 1]), bad), longest=8, vocabulary=10)


def test_no_row_left_is_an_error_that_says_why(tmp_path: Path):
    with pytest.raises(DataError, match="1 longer than 2 tokens"):
        read_rows(write(tmp_path, row([1, 2, 3], [0, 1, 1])), longest=2, vocabulary=10)


def test_rows_are_arrays_and_not_lists(tmp_path: Path):
    rows = read_rows(write(tmp_path, row([1, 2], [0, 1])), longest=8, vocabulary=10)
    assert rows.ids.dtype == np.int32 and rows.mask.dtype == np.bool_
