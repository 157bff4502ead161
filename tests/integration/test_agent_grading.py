"""Answers as people and programs write them, against what a careful person says of each (answers.jsonl)."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from score_distill.agent.answers import check, math_equal
from score_distill.agent.grading.kinds import kind_of

ROWS = [json.loads(line) for line in (Path(__file__).parent / "answers.jsonl").read_text("utf-8").splitlines()]

NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=8)
ANSWERS = st.one_of(
    st.sampled_from(sorted({row["gold"] for row in ROWS if row["metric"] == "math"})),
    st.integers(-(10**6), 10**6).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    NAMES,
)


def test_every_answer_is_graded_as_a_careful_person_grades_it():
    found = {
        (row["metric"], row["gold"], row["answer"]): check(row["metric"], row["answer"], row["gold"]).correct
        for row in ROWS
    }
    wanted = {(row["metric"], row["gold"], row["answer"]): row["right"] for row in ROWS}
    assert found == wanted


@settings(deadline=None, max_examples=150, derandomize=True)
@given(ANSWERS, ANSWERS)
def test_equality_is_symmetric(one, other):
    assert (check("math", one, other).correct is True) == (check("math", other, one).correct is True)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(ANSWERS)
def test_every_answer_equals_itself(answer):
    assert check("math", answer, answer).correct is True


@settings(deadline=None, max_examples=150, derandomize=True)
@given(NAMES.flatmap(lambda name: st.tuples(st.just(name), st.permutations(name).map("".join))))
def test_letters_in_another_order_are_another_name(names):
    one, other = names
    for metric in ("math", "exact", "f1"):
        assert (check(metric, one, other).correct is True) == (one.casefold() == other.casefold())


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("72", "number"),
        ("$18.90", "number"),
        ("1.2 million", "number"),
        ("15\\text{ cm}^2", "number"),
        ("\\frac{3\\pi}{4}", "expression"),
        ("x = \\sqrt{2}", "expression"),
        ("x > 5", "expression"),
        ("[0, \\infty)", "expression"),
        ("(B)", "choice"),
        ("\\textbf{(B)}\\ 12", "choice"),
        ("Paris", "name"),
        ("ABCD", "name"),
        ("2024-05-06", "date"),
        ("10:30 AM", "date"),
        ("1, 2, 3", "list"),
        ("(3, \\frac{\\pi}{2})", "list"),
        ("v1.10", "code"),
        ("01101", "code"),
        ("3-1", "code"),
    ],
)
def test_what_a_reference_is_is_found(reference, kind):
    assert kind_of(reference) == kind


@pytest.mark.parametrize(
    ("answer", "reference", "kind", "equal"),
    [
        ("1101", "01101", "number", True),
        ("1.10", "1.1", "code", False),
        ("2", "3-1", "number", True),
        ("1.10", "1.10", "code", True),
        ("6", "2*3", "name", False),
        ("CBA", "abc", "name", False),
        ("paris", "Paris", "name", True),
    ],
)
def test_a_kind_that_is_given_is_kept_to(answer, reference, kind, equal):
    assert math_equal(answer, reference, kind) is equal
