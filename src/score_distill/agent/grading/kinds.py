"""What kind of thing a reference answer is. It is found once, or given, and decides how answers are compared."""

from fractions import Fraction

from score_distill.agent.grading.reading import read
from score_distill.agent.grading.text import answer_of
from score_distill.agent.grading.values import (
    Choice,
    Code,
    Formula,
    Items,
    Labelled,
    Measure,
    Moment,
    Number,
    Ratio,
    Relation,
    Union,
    Value,
    Words,
)
from score_distill.api import AnswerType

_KINDS: dict[type, AnswerType] = {
    Number: "number",
    Formula: "expression",
    Relation: "expression",
    Union: "expression",
    Choice: "choice",
    Code: "code",
    Ratio: "code",
    Moment: "date",
    Items: "list",
    Words: "name",
}


def kind_of(reference: str) -> AnswerType:
    """The kind that a reference reads as."""
    value = read(reference)
    while isinstance(value, Labelled):
        value = value.value
    if isinstance(value, Measure):
        return "number" if isinstance(value.amount, Number) else "expression"
    return _KINDS.get(type(value), "name")


def read_as(text: str, kind: AnswerType | None) -> Value:
    """A text as a value; of a name or a code nothing is read but its letters."""
    if kind == "name":
        return Words(answer_of(text))
    if kind == "code":
        return Code(answer_of(text).strip())
    value = read(text)
    if kind in ("number", "expression") and isinstance(value, Code):
        return Number(Fraction(value.text)) if value.text.isdigit() else Formula(value.text)
    return value
