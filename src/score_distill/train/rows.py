"""Token rows of a training file, held as flat arrays: 5 bytes a token, whatever the row count.

A row is `{"row": str, "ids": [int], "mask": [0|1]}`; mask 1 marks a token to learn. A token is
learnt from those before it, so the first of a row never is. What a row means is not known here.
"""

import json
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from score_distill.train.errors import DataError


@dataclass(frozen=True)
class Sample:
    """Token ids with a mask; for RL also what the sampling policy said and how good it was."""

    ids: np.ndarray  # int32 [T]
    mask: np.ndarray  # bool [T], True = learn this token
    logprobs: np.ndarray | None = None  # float, one per learnt token, from the sampling server
    advantage: float | np.ndarray = 0.0  # of the whole sample, or one per learnt token

    @property
    def learnt(self) -> int:
        return int(np.count_nonzero(self.mask[1:]))


@dataclass(frozen=True)
class Rows:
    """Rows one after another; row i is the slice offsets[i]:offsets[i + 1]."""

    ids: np.ndarray  # int32 [total]
    mask: np.ndarray  # bool [total]
    offsets: np.ndarray  # int64 [rows + 1]
    too_long: int = 0  # rows left out
    nothing_to_learn: int = 0  # rows left out

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Sample:
        span = slice(self.offsets[index], self.offsets[index + 1])
        return Sample(self.ids[span], self.mask[span])

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def read_rows(path: Path, longest: int, vocabulary: int) -> Rows:
    """Rows of at most `longest` tokens; longer ones are counted, never cut.

    Raises DataError with the line of the first malformed row, or when no row is left.
    """
    with path.open("rb") as lines:
        return collect(_parse(path, lines, vocabulary), longest, source=str(path))


def collect(rows: Iterable[tuple["array[int]", bytes]], longest: int, source: str) -> Rows:
    """Join rows given as (ids, mask bytes of 0 and 1)."""
    ids, mask, offsets = array("i"), bytearray(), [0]
    too_long = nothing_to_learn = 0
    for row_ids, row_mask in rows:
        if len(row_ids) > longest:
            too_long += 1
        elif 1 not in row_mask[1:]:
            nothing_to_learn += 1
        else:
            ids.extend(row_ids)
            mask.extend(row_mask)
            offsets.append(len(ids))
    if len(offsets) == 1:
        raise DataError(
            f"{source}: no row to train on ({too_long} longer than {longest} tokens, "
            f"{nothing_to_learn} with nothing to learn)"
        )
    return Rows(
        np.frombuffer(ids, dtype=np.int32),
        np.frombuffer(mask, dtype=np.bool_),
        np.asarray(offsets, dtype=np.int64),
        too_long,
        nothing_to_learn,
    )


def _parse(path: Path, lines: Iterable[bytes], vocabulary: int) -> Iterable[tuple["array[int]", bytes]]:
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            ids, mask = array("i", row["ids"]), bytes(row["mask"])
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise DataError(f'{path}:{number}: not a row {{"ids": [int], "mask": [0|1]}}: {error!r}') from error
        if len(ids) != len(mask):
            raise DataError(f"{path}:{number}: {len(ids)} ids but {len(mask)} mask entries")
        if ids and not (min(ids) >= 0 and max(ids) < vocabulary):
            raise DataError(
                f"{path}:{number}: token ids from {min(ids)} to {max(ids)}; the model knows 0 to {vocabulary - 1}"
            )
        if mask.translate(None, b"\x00\x01"):
            raise DataError(f"{path}:{number}: mask entries must be 0 or 1")
        yield ids, mask
