import pytest

from score_distill.agent.answers import LONGEST_MATHEMATICS, check, math_equal, normal, token_f1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The  Beatles!", "beatles"),
        ('"Paris"', "paris."),
        ("1,234,567", "1234567"),
        ("$1,000", "1000"),
        (r"\boxed{42}", "42"),
        (r"$\boxed{42}$", "42"),
        ("４２", "42"),
        ("Jean-Luc", "jean-luc."),
        ("(New York)", "new york"),
    ],
)
def test_form_does_not_matter(one, other):
    assert normal(one) == normal(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(".5", "5"), ("5!", "5"), ("(0,1]", "[0,1)"), ("A", "an"), ("A", ""), ("-5", "5"), ("1,23", "123"), ("50%", "50")],
)
def test_content_matters(one, other):
    assert normal(one) != normal(other)


def test_token_f1():
    # given: barack, obama, jr; gold: barack, obama: 2 * 2 / (3 + 2)
    assert token_f1("Barack Obama Jr.", "the Barack Obama") == pytest.approx(0.8)
    # a word counts as often as it stands in both
    assert token_f1("no no no", "no") == pytest.approx(0.5)
    assert token_f1("", "x") == token_f1("y", "x") == 0.0


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "correct", "by"),
    [
        ("exact", None, "42", False, "exact"),
        ("exact", "42.", "42", True, "exact"),
        ("exact", "42.0", "42", False, "exact"),
        ("math", "42.0", "42", True, "math"),
        ("math", "(0,1]", "(0,1]", True, "exact"),
        ("f1", "Barack Obama Jr", "Barack Obama", True, "f1"),
        ("f1", "Obama", "Barack Obama", False, "f1"),
        ("f1", "The Barack Obama", "Barack Obama", True, "exact"),
    ],
)
def test_check(metric, answer, reference, correct, by):
    verdict = check(metric, answer, reference)
    assert (verdict.correct, verdict.by) == (correct, by)


@pytest.mark.parametrize(
    ("answer", "reference", "equal"),
    [
        ("72", "72.0", True),
        ("72 dollars", "72", True),
        ("$1,200.50", "1200.5", True),
        (".5", "1/2", True),
        ("2 / 4", "1/2", True),
        ("-3", "3", False),
        ("73", "72", False),
        ("0.6", "1/2", False),
        ("9" * 40, "9" * 39 + "8", False),
        ("x" * (LONGEST_MATHEMATICS + 1), "72", False),
    ],
)
def test_numbers_are_compared_without_math_verify(answer, reference, equal):
    # math-verify takes over a second to start: this test would show it
    assert math_equal(answer, reference) is equal
