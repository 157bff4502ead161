"""Scores in few bytes, for a pod's last words: every model on every eval set fits into 4 KiB."""

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

from score_distill.api import Score

MOST_BYTES, MOST_SCORES = 65536, 384
Z = NormalDist().inv_cdf(0.975)


def packed(scores: Sequence[Score]) -> str:
    """Names, right answers and tasks; the shares and their intervals follow from these."""
    rows = [[one.model, one.eval, round(one.score * one.n), one.n] for one in scores]
    columns = [list(column) for column in zip(*rows, strict=True)]
    return b64encode(zlib.compress(json.dumps(columns, separators=(",", ":")).encode(), 9)).decode()


def unpacked(text: str) -> tuple[Score, ...]:
    """Raises ValueError for what ``packed`` did not make: a pod may say anything."""
    try:
        reader = zlib.decompressobj()
        content = reader.decompress(b64decode(text, validate=True), MOST_BYTES)
        columns = json.loads(content)
        rows = list(zip(*columns, strict=True))
        if not reader.eof or len(rows) > MOST_SCORES:
            raise ValueError("too many scores")
        return tuple(scored(str(model), str(name), int(right), int(n)) for model, name, right, n in rows)
    except (zlib.error, TypeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"no scores: {error}") from error


def scored(model: str, name: str, right: int, n: int) -> Score:
    """A share with its Wilson interval of 95 %."""
    if not 0 <= right <= n or n == 0:
        raise ValueError(f"{right} of {n} tasks are right")
    share, weight = right / n, Z**2 / n
    middle, half = (
        (share + weight / 2) / (1 + weight),
        Z * sqrt(share * (1 - share) / n + weight / 4 / n) / (1 + weight),
    )
    low, high = (0.0 if right == 0 else middle - half), (1.0 if right == n else middle + half)
    return Score(model=model, eval=name, score=share, low=max(0.0, low), high=min(1.0, high), n=n)
