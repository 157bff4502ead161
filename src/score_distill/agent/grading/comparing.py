"""Whether two values are equal: yes, no, or None where careful people would argue.

Symmetric. ``Numeric`` is asked about formulas and may be absent where neither value holds one.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Protocol

from score_distill.agent.grading import units
from score_distill.agent.grading.names import equal_names
from score_distill.agent.grading.precision import close
from score_distill.agent.grading.values import (
    Choice,
    Code,
    Formula,
    Items,
    Labelled,
    Measure,
    Moment,
    Nonsense,
    Number,
    Ratio,
    Relation,
    Union,
    Value,
    Words,
)
from score_distill.agent.quantities import quantities


class Numeric(Protocol):
    """What mathematics says of formulas."""

    def number(self, formula: Formula) -> Number | None:
        """The value of a real constant; None when it is none."""

    def equal(self, one: Formula, other: Formula) -> bool: ...

    def same_relation(self, one: Relation, other: Relation) -> bool | None: ...

    def same_set(self, one: Value, other: Value) -> bool | None: ...


class NoMathematics(Exception):
    """A question about formulas where nobody can answer it."""


def same(one: Value, other: Value, numeric: Numeric | None = None) -> bool | None:
    """Whether they are equal; None where it is arguable. Raises NoMathematics when formulas meet without it."""
    if one == other and not isinstance(one, Nonsense):
        return True
    if isinstance(one, Nonsense) or isinstance(other, Nonsense):
        return False
    for a, b in ((one, other), (other, one)):
        for kind, compare in _COMPARE:
            if isinstance(a, kind):
                found = compare(a, b, numeric)
                if found is not NotImplemented:
                    return found  # type: ignore[no-any-return]
    return False


def _choices(one: Choice, other: Value, numeric: Numeric | None) -> Any:
    match other:
        case Choice(letter=letter, content=content):
            if one.letter == letter:
                if one.content is None or content is None:
                    return True
                return True if same(one.content, content, numeric) else None
            if one.content is not None and content is not None and same(one.content, content, numeric):
                return None
            return False
        case Items(values=(only,)):
            return same(one, only, numeric)
        case Formula(source=text) | Words(text=text) if text.strip().casefold() == one.letter.casefold():
            return True
        case Formula() if one.content is None and numeric:
            return numeric.equal(Formula(one.letter), other)
    return one.content is not None and same(one.content, other, numeric)


def _labelled(one: Labelled, other: Value, numeric: Numeric | None) -> Any:
    if isinstance(other, Labelled):
        equal = same(one.value, other.value, numeric)
        if _name(one.label) == _name(other.label):
            return equal
        if any(isinstance(part.value, Formula) for part in (one, other)) and numeric:
            return numeric.same_relation(_equation(one), _equation(other))
        return None if equal else equal
    if isinstance(other, Relation):
        if numeric is None:
            raise NoMathematics
        return numeric.same_relation(_equation(one), other)
    if isinstance(other, Items) and len(other.values) == 1:
        return NotImplemented
    return same(one.value, other, numeric)


def _name(label: str) -> str:
    """y(x) is y."""
    return re.sub(r"\([a-z]\)$", "", label.replace(" ", ""))


def _equation(one: Labelled) -> Relation:
    return Relation((Formula(one.label), one.value), ("=",))


def _sets(one: Value, other: Value, numeric: Numeric | None) -> Any:
    """Unions, intervals and inequalities."""
    if numeric is None:
        raise NoMathematics
    if isinstance(other, Labelled):
        return NotImplemented
    if isinstance(one, Relation) and set(one.signs) <= {"=", "≈"}:
        if isinstance(other, Relation) and set(other.signs) <= {"=", "≈"} and len(one.sides) == len(other.sides) == 2:
            return numeric.same_relation(one, other)
        value = chained(one, numeric)
        return same(value, other, numeric) if value is not None else False
    if (
        isinstance(one, Relation)
        and isinstance(other, Relation)
        and (found := numeric.same_relation(one, other)) is not None
    ):
        return found
    if isinstance(other, Number | Formula | Measure | Moment | Code | Choice | Ratio):
        return False
    return numeric.same_set(one, other)


def chained(relation: Relation, numeric: Numeric) -> Value | None:
    """The value of 6*7 = 42, whose sides are all the same number; None when they are not."""
    values = [
        side if isinstance(side, Number) else numeric.number(side) if isinstance(side, Formula) else None
        for side in relation.sides
    ]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None
    first = min(numbers, key=lambda number: (number.digits is not None, -(number.digits or 0)))
    for number in numbers:
        equal = close(first, number)
        if equal is False or (equal is None and "≈" not in relation.signs):
            return None
    return first


def _several(one: Items, other: Value, numeric: Numeric | None) -> Any:
    if not isinstance(other, Items):
        if len(one.values) == 1 and one.form != "matrix":
            return same(one.values[0], other, numeric)
        if isinstance(other, Union | Relation | Labelled):
            return NotImplemented
        return False
    one, other = _flat(one), _flat(other)
    if "matrix" in (one.form, other.form):
        return _in_order(one, other, numeric)
    if _labels(one) and _labels(other):
        return _in_order(_by_label(one), _by_label(other), numeric)
    one, other = _by_label(one), _by_label(other)
    if len(one.values) != len(other.values):
        return False
    if any(part == Words("…") for part in (*one.values, *other.values)):
        return all(same(a, b, numeric) for a, b in zip(one.values, other.values, strict=True))
    forms = {one.form, other.form}
    if (
        forms <= {"()", "[]"}
        and len(forms) == 2
        and len(one.values) == 2
        and any(map(_is_infinite, (*one.values, *other.values)))
    ):
        return False
    if forms == {"()"}:
        return _in_order(one, other, numeric)
    ordered = _in_order(one, other, numeric)
    if ordered:
        return None if forms == {"()", "[]"} and len(one.values) == 2 and not _same_class(one, other) else True
    permuted = _as_sets(one, other, numeric)
    if forms <= {"", "{}"} or ("()" not in forms and len(forms) > 1):
        return permuted
    return None if permuted else permuted


def _same_class(one: Items, other: Items) -> bool:
    """Whether a pair in round and one in square brackets can only be points: their ends do not rise."""
    return not all(
        isinstance(low, Number) and isinstance(high, Number) and low.value < high.value
        for low, high in (one.values, other.values)
    )


def _is_infinite(value: Value) -> bool:
    return isinstance(value, Formula) and value.source.strip(" +-\\") in ("oo", "inf", "infty", "∞", "infinity")


def _labels(one: Items) -> list[str]:
    names = [part.label.replace(" ", "") for part in one.values if isinstance(part, Labelled)]
    return names if len(names) == len(one.values) and len(set(names)) == len(names) > 1 else []


def _by_label(one: Items) -> Items:
    """x = 1, y = 2 as (1, 2); x = 1, x = 2 as 1, 2; any other as it is."""
    if names := _labels(one):
        pairs = sorted(zip(names, one.values, strict=True), key=lambda pair: pair[0])
        return Items(tuple(value.value for _, value in pairs if isinstance(value, Labelled)), "()")
    if one.values and all(isinstance(part, Labelled) for part in one.values):
        return Items(tuple(part.value for part in one.values if isinstance(part, Labelled)), one.form)
    return one


def _flat(one: Items) -> Items:
    """A matrix of one row or column as the vector that it is, and what alone is in brackets without them."""
    while len(one.values) == 1 and isinstance(one.values[0], Items) and one.form != "matrix":
        one = one.values[0]
    if one.form != "matrix":
        return one
    rows = [row for row in one.values if isinstance(row, Items)]
    if len(rows) == len(one.values) and (len(rows) == 1 or all(len(row.values) == 1 for row in rows)):
        return Items(tuple(value for row in rows for value in row.values), "matrix")
    return one


def _in_order(one: Items, other: Items, numeric: Numeric | None) -> bool | None:
    if len(one.values) != len(other.values):
        return False
    return _all(same(_row(a), _row(b), numeric) for a, b in zip(one.values, other.values, strict=True))


def _row(value: Value) -> Value:
    return Items(value.values, "()") if isinstance(value, Items) and value.form == "[]" else value


def _as_sets(one: Items, other: Items, numeric: Numeric | None) -> bool | None:
    left = list(other.values)
    unsure = False
    for value in one.values:
        verdicts = [same(value, candidate, numeric) for candidate in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            left.pop(verdicts.index(None))
            unsure = True
        else:
            return False
    return None if unsure else True


def _all(verdicts: Any) -> bool | None:
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _measures(one: Measure, other: Value, numeric: Numeric | None) -> Any:
    if isinstance(other, Measure):
        (dimension, size), (another, part) = units.dimension_of(one.unit), units.dimension_of(other.unit)
        if dimension == another:
            return same(_times(one.amount, size), _times(other.amount, part), numeric)
        equal = same(one.amount, other.amount, numeric)
        if units.known(one.unit) and units.known(other.unit):
            return False
        return None if equal else equal
    if not isinstance(other, Number | Formula):
        return NotImplemented if isinstance(other, Words | Items | Labelled | Relation | Choice) else False
    equal = same(one.amount, other, numeric)
    dimension, _ = units.dimension_of(one.unit)
    if dimension == "angle^1" and isinstance(one.amount, Number) and isinstance(other, Formula):
        return equal or same(Formula("pi", one.amount.value / 180), other, numeric)
    if dimension in _MULTIPLES:
        scaled = same(_times(one.amount, _MULTIPLES[dimension]), other, numeric)
        return scaled or (None if equal else scaled)
    if equal and one.compound:
        return None
    if isinstance(other, Formula) and not equal and numeric and isinstance(one.amount, Number) and len(one.unit) == 1:
        letter = Formula(one.unit, one.amount.value)  # 2m may be two metres or twice m
        return numeric.equal(letter, other) if numeric.number(other) is None and one.unit.isalpha() else False
    return equal


_MULTIPLES = {"percent^1": Fraction(1, 100), "K^1": Fraction(1000), "M^1": Fraction(10**6)}  # or kelvin, and molar


def _times(amount: Number | Formula, factor: Fraction) -> Number | Formula:
    if factor == 1:
        return amount
    if isinstance(amount, Number):
        return Number(amount.value * factor, amount.digits)
    return Formula(amount.source, amount.factor * factor)


def _numbers(one: Number, other: Value, numeric: Numeric | None) -> Any:
    match other:
        case Number():
            return close(one, other)
        case Formula():
            if numeric is None:
                raise NoMathematics
            value = numeric.number(other)
            return close(one, value) if value is not None else numeric.equal(Formula("1", one.value), other)
        case Ratio(parts=parts) if len(parts) == 2 and parts[1] and parts[0] / parts[1] == one.value:
            return None
        case Code(text=text):
            return _read_through(text, one, numeric)
        case Words(text=text):
            return _prose(text, one, numeric)
    return NotImplemented


def _read_through(code: str, number: Number, numeric: Numeric | None) -> bool | None:
    """A number beside something that may be a difference: 219 and 256-37 are arguably equal, 9 and 10-1-2 are not."""
    low, dash, high = code.partition("-")
    if dash and low.isdigit() and high.isdigit() and int(low) - int(high) == number.value:
        return None
    return None if code.startswith("0x") and int(code, 16) == number.value else False


def _prose(text: str, number: Number, numeric: Numeric | None) -> bool | None:
    """A sentence that holds the number and no other is somebody's to judge; a denial or hedge is wrong."""
    found = list(quantities(text))
    if (
        len(found) != 1
        or re.search("[<>]", re.sub("</?[A-Za-z].*?>", "", text))
        or _DENIED & set(text.casefold().replace("n't", " not").split())
    ):
        return False
    return None if number.value in found[0].values else False


_DENIED = {
    "not",
    "no",
    "never",
    "or",
    "maybe",
    "perhaps",
    "either",
    "neither",
    "wrong",
    "incorrect",
    "least",
    "most",
    "than",
}


def _formulas(one: Formula, other: Value, numeric: Numeric | None) -> Any:
    if not isinstance(other, Formula):
        return NotImplemented
    if numeric is None:
        raise NoMathematics
    first, second = numeric.number(one), numeric.number(other)
    if first is not None and second is not None:
        return close(first, second)
    return numeric.equal(one, other)


def _ratios(one: Ratio, other: Value, numeric: Numeric | None) -> Any:
    """6:4 is arguably 3:2."""
    if not isinstance(other, Ratio) or len(one.parts) != len(other.parts):
        return False
    first = next(((a, b) for a, b in zip(one.parts, other.parts, strict=True) if a or b), (Fraction(1), Fraction(1)))
    alike = all(a * first[1] == b * first[0] for a, b in zip(one.parts, other.parts, strict=True))
    return None if alike and all(first) else False


def _moments(one: Moment, other: Value, numeric: Numeric | None) -> Any:
    if isinstance(other, Moment) and ":" in one.iso and ":" in other.iso:
        (hour, *rest), (another, *others) = one.iso.split(":"), other.iso.split(":")
        if rest == others and int(hour) % 12 == int(another) % 12 and one.half != other.half:
            return None
    return False


def _texts(one: Words, other: Value, numeric: Numeric | None) -> Any:
    if isinstance(other, Words | Code):
        return equal_names(one.text, other.text)
    if isinstance(other, Formula) and numeric and re.fullmatch("[a-z]{2,3}", one.text):
        return numeric.equal(Formula("*".join(one.text)), other)
    return NotImplemented


_COMPARE: tuple[tuple[Any, Callable[[Any, Value, Numeric | None], Any]], ...] = (
    (Choice, _choices),
    (Labelled, _labelled),
    (Items, _several),
    (Union, _sets),
    (Relation, _sets),
    (Measure, _measures),
    (Number, _numbers),
    (Formula, _formulas),
    (Moment, _moments),
    (Ratio, _ratios),
    (Words, _texts),
)
