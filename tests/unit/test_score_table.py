"""Scores of many models on many eval sets in a pod's last words, and what a hostile pod says in their place."""

import json
import random
import zlib
from base64 import b64encode

import pytest
from pydantic import ValidationError
from scipy.stats import binomtest

from score_distill.contract import TERMINATION_BYTES, Summary
from score_distill.score_table import MOST_SCORES, packed, scored, unpacked

MODELS = ["base", "init", "imitation", "sft", *(f"sft-{n}" for n in range(2, 5)), "rl", "full-horizon", "teacher"]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


@pytest.mark.parametrize("message", ["", "x" * 5000])
def test_thirty_two_evals_of_all_models_fit_with_long_names_and_whatever_else_is_said(message: str) -> None:
    rng = random.Random(0)
    names = ["".join(rng.choices(LETTERS, k=40)) for _ in range(32)]
    scores = tuple(scored(model, name, rng.randint(0, 500), 500) for name in names for model in MODELS)
    counts, tokens = {f"count-{n}": 10**6 + n for n in range(10)}, {"teacher": 10**9, "student": 10**9}
    summary = Summary(step="evaluate", succeeded=True, scores=scores, counts=counts, tokens=tokens, digest="a" * 64)
    whole = summary.model_copy(update={"message": message}).bounded()
    assert len(whole) <= TERMINATION_BYTES
    found = Summary.model_validate_json(whole)
    assert found.scores == scores
    assert message or found == summary


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 500), (7, 500), (250, 500), (499, 500), (500, 500)])
def test_an_interval_is_wilsons(right: int, n: int) -> None:
    found, known = scored("rl", "test", right, n), binomtest(right, n).proportion_ci(method="wilson")
    assert (found.score, found.n) == (right / n, n)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-12)


@pytest.mark.parametrize(("count", "tasks"), [(MOST_SCORES, 2**50), (MOST_SCORES + 1, 2)])
def test_scores_that_do_not_fit_are_said_to_be_elsewhere(count: int, tasks: int) -> None:
    rng = random.Random(0)
    scores = tuple(scored("rl", f"eval-{n}", rng.randint(0, tasks), tasks + n) for n in range(count))
    told = Summary.model_validate_json(Summary(step="evaluate", succeeded=True, scores=scores).bounded())
    assert (told.scores, told.message) == ((), "its scores do not fit here; they are in the report")


def raw(value: object) -> str:
    return b64encode(zlib.compress(json.dumps(value).encode())).decode()


HOSTILE = {
    "no base64": "ä",
    "no zlib": b64encode(b"no").decode(),
    "no JSON": b64encode(zlib.compress(b"no")).decode(),
    "a bomb": b64encode(zlib.compress(b" " * 10**7)).decode(),
    "no columns": raw(7),
    "uneven columns": raw([["rl"], ["test"], [1], [1, 2]]),
    "more than all": raw([["rl"], ["test"], [3], [2]]),
    "of none": raw([["rl"], ["test"], [0], [0]]),
    "negative": raw([["rl"], ["test"], [-1], [2]]),
    "infinite": raw([["rl"], ["test"], [1], [1e999]]),
    "a bad name": raw([["rl"], ["a b"], [1], [2]]),
    "too many": raw(
        [["rl"] * (MOST_SCORES + 1), ["t"] * (MOST_SCORES + 1), [1] * (MOST_SCORES + 1), [2] * (MOST_SCORES + 1)]
    ),
    "deep": raw([["rl"], ["test"], [[1]], [2]]),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_table_is_no_summary(text: str) -> None:
    with pytest.raises(ValidationError):
        Summary.model_validate_json(json.dumps({"step": "evaluate", "succeeded": True, "scores": text}))


def test_none_are_none() -> None:
    assert unpacked(packed(())) == ()
