"""Folding scored tasks: shares, pairs, lengths and endings against counts made by hand."""

import random
from typing import Any

import pytest

from score_distill.agent.trajectory import Scored
from score_distill.report.scores import EvalFold, pairs


def scored(model: str, task: str, correct: bool | None, steps: int = 3, ending: str = "answered") -> Scored:
    row: dict[str, Any] = {"eval": "gsm8k", "model": model, "task": task, "correct": correct, "by": "math"}
    return Scored(**row, answer="1", reference="1", steps=steps, ending=ending, tokens=9)


def folded(rows: list[Scored]) -> EvalFold:
    fold = EvalFold("gsm8k")
    for row in rows:
        fold.add(row)
    return fold


ROWS = [
    scored("teacher", "a", True, 4),
    scored("teacher", "b", True, 6),
    scored("teacher", "c", None, 6),
    scored("sft", "a", True, 9),
    scored("sft", "b", False, 9, "out_of_steps"),
    scored("sft", "c", True, 9),
    scored("init", "a", False, 2),
    scored("init", "b", None, 2),
    scored("init", "c", False, 2),
]


def test_unjudged_tasks_are_in_neither_side_of_a_share() -> None:
    found = {one.model: (one.right, one.n, one.unjudged) for one in folded(ROWS).scores()}
    assert found == {"init": (0, 2, 1), "sft": (2, 3, 0), "teacher": (2, 2, 1)}


def test_models_come_in_the_order_of_the_pipeline() -> None:
    assert [one.model for one in folded(ROWS).scores()] == ["init", "sft", "teacher"]


def test_a_model_that_nobody_could_judge_has_no_score() -> None:
    (found,) = folded([scored("base", "a", None)]).scores()
    assert (found.score, found.low, found.high, found.n, found.unjudged) == (None, None, None, 0, 1)


def test_pairs_are_compared_on_the_tasks_judged_for_both() -> None:
    found = {(one.new, one.old): (one.n, one.only_new, one.only_old) for one in folded(ROWS).comparisons()}
    assert found == {("sft", "init"): (2, 2, 0), ("teacher", "sft"): (2, 1, 0)}


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (["base"], []),
        (["base", "teacher"], [("teacher", "base")]),
        (["base", "init"], [("init", "base")]),
        (
            ["base", "init", "sft", "rl", "teacher"],
            [("init", "base"), ("sft", "init"), ("rl", "sft"), ("rl", "base"), ("teacher", "rl")],
        ),
        (
            ["base", "init", "imitation", "sft", "rl"],
            [("sft", "imitation"), ("init", "base"), ("sft", "init"), ("rl", "sft"), ("rl", "base")],
        ),
        (["imitation", "rl"], []),
    ],
)
def test_which_models_are_compared(models: list[str], expected: list[tuple[str, str]]) -> None:
    assert list(pairs(models)) == expected


def test_length_is_that_of_the_teachers_attempt() -> None:
    found = {(one.model, one.length): (one.score, one.n) for one in folded(ROWS).by_length()}
    assert found == {
        ("init", 4): (0, 1),
        ("init", 6): (0, 1),
        ("sft", 4): (1, 1),
        ("sft", 6): (0.5, 2),
        ("teacher", 4): (1, 1),
        ("teacher", 6): (1, 1),
    }
    assert {one.length_of for one in folded(ROWS).by_length()} == {"teacher"}


def test_without_a_teacher_length_is_that_of_the_models_own_attempt() -> None:
    found = list(folded([row for row in ROWS if row.model != "teacher"]).by_length())
    assert [(one.model, one.length, one.n, one.length_of) for one in found] == [
        ("init", 2, 2, "model"),
        ("sft", 9, 3, "model"),
    ]


def test_endings_count_every_attempt() -> None:
    found = {one.model: one.counts for one in folded(ROWS).all_endings()}
    assert found["sft"] == {"answered": 2, "out_of_steps": 1}
    assert found["init"] == {"answered": 3}


def test_the_order_of_the_rows_does_not_matter() -> None:
    mixed = random.Random(3).sample(ROWS, len(ROWS))
    assert list(folded(mixed).scores()) == list(folded(ROWS).scores())
    assert list(folded(mixed).comparisons()) == list(folded(ROWS).comparisons())
    assert list(folded(mixed).by_length()) == list(folded(ROWS).by_length())
