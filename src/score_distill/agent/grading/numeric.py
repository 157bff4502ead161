"""What SymPy says of formulas, relations and sets. Runs in the child of `score_distill.agent.mathematics`."""

import random
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy  # type: ignore[import-untyped]
from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]

from score_distill.agent.grading.expressions import Unreadable, expression
from score_distill.agent.grading.precision import FLOAT_DIGITS, NOISE
from score_distill.agent.grading.values import Formula, Items, Labelled, Measure, Number, Relation, Union, Value, Words

PRECISION = 60  # digits
_EXACT = sympy.Rational(1, 10**40)
_POINTS, _LEAST_POINTS = 12, 3
_OPPOSITE = {"<": ">", "<=": ">="}
_RELATIONS = {"<": sympy.StrictLessThan, "<=": sympy.LessThan, ">": sympy.StrictGreaterThan, ">=": sympy.GreaterThan}


class SymPyNumeric:
    """Implements `comparing.Numeric`."""

    def number(self, formula: Formula) -> Number | None:
        found = _evaluated(formula)
        if found.free_symbols or not found.is_number or not found.is_finite:
            return None
        if found.is_Rational:
            return Number(Fraction(int(found.p), int(found.q)), _digits(formula.source))
        value = sympy.N(found, PRECISION)
        if not value.is_Float:
            return None
        return Number(Fraction(str(value)), _digits(formula.source))

    def equal(self, one: Formula, other: Formula) -> bool:
        noisy = any((_digits(formula.source) or 0) >= FLOAT_DIGITS for formula in (one, other))
        return _equal(_evaluated(one), _evaluated(other), sympy.Rational(NOISE) if noisy else _EXACT)

    def same_relation(self, one: Relation, other: Relation) -> bool | None:
        if len(one.signs) != 1 or len(other.signs) != 1:
            return None
        (first, sign), (second, another) = _normal(one), _normal(other)
        ratio = _constant_ratio(first, second)
        if sign == another == "=":
            return ratio is not None
        if len(first.free_symbols | second.free_symbols) < 2 and "=" not in (sign, another):
            return None
        return ratio is not None and bool(ratio > 0) and sign == another

    def same_set(self, one: Value, other: Value) -> bool | None:
        try:
            first, second = _set(one), _set(other)
        except (Unreadable, NotImplementedError, TypeError, ValueError):
            return False
        if first == second or first.symmetric_difference(second) == sympy.S.EmptySet:
            return True
        pieces, others = _pieces(first), _pieces(second)
        if pieces is None or others is None:
            return None
        return len(pieces) == len(others) and all(
            a[2:] == b[2:] and all(_equal(x, y, sympy.Rational(NOISE)) for x, y in zip(a[:2], b[:2], strict=True))
            for a, b in zip(pieces, others, strict=True)
        )


@lru_cache(maxsize=1024)
def _evaluated(formula: Formula) -> Any:
    return expression(formula.source) * sympy.Rational(formula.factor.numerator, formula.factor.denominator)


def _digits(source: str) -> int | None:
    """Of the least exact decimal in a formula; those of a few digits are taken as exact, as in 0.5x."""
    digits = [len(found.replace(".", "").lstrip("0")) for found in re.findall(r"\d*\.\d+", source)]
    long = [count for count in digits if count >= FLOAT_DIGITS]
    return min(long) if long else None


def _equal(one: Any, other: Any, tolerance: Any) -> bool:
    if one == other:
        return True
    if any(part.has(sympy.oo, sympy.zoo, sympy.nan) for part in (one, other)):
        return False
    one, other = _without_calls(one), _without_calls(other)
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    if not symbols:
        return bool(_alike(one, other, tolerance))
    verdicts = [_alike(one.subs(point), other.subs(point), tolerance) for point in _points(symbols)]
    decided = [verdict for verdict in verdicts if verdict is not None]
    if len(decided) < _LEAST_POINTS:
        return bool(sympy.simplify(one - other) == 0)
    return all(decided)


def _without_calls(found: Any) -> Any:
    """Functions that nobody defined stand for unknowns."""
    return found.replace(lambda one: isinstance(one, AppliedUndef), lambda one: sympy.Symbol(f"call {one}"))


def _points(symbols: list[Any]) -> list[dict[Any, Any]]:
    """Places to compare at: positive ones, and ones of either sign. The same ones each time."""
    draw = random.Random(len(symbols))
    return [
        {
            symbol: sympy.Rational(draw.randint(1, 4000), 997) * (1 if number % 2 else draw.choice((1, -1)))
            for symbol in symbols
        }
        for number in range(_POINTS)
    ]


def _alike(one: Any, other: Any, tolerance: Any) -> bool | None:
    """Whether two constants are equal; None where one has no value."""
    if one.is_Rational and other.is_Rational and tolerance == _EXACT:
        return bool(one == other)
    first, second = sympy.N(one, PRECISION), sympy.N(other, PRECISION)
    if not all(part.is_number and part.is_finite for part in (first, second)):
        return None
    return bool(abs(first - second) <= tolerance * max(abs(first), abs(second)))


def _constant_ratio(one: Any, other: Any) -> Any:
    """The constant that the one is of the other; None when there is none."""
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    ratios = []
    for point in _points(symbols) if symbols else [{}]:
        first, second = sympy.N(one.subs(point), PRECISION), sympy.N(other.subs(point), PRECISION)
        if first.is_finite and second.is_finite and first.is_real and second.is_real and first != 0 and second != 0:
            ratios.append(first / second)
    if len(ratios) < (_LEAST_POINTS if symbols else 1):
        return None
    return ratios[0] if all(abs(ratio / ratios[0] - 1) < _EXACT for ratio in ratios) else None


def _normal(relation: Relation) -> tuple[Any, str]:
    """The difference of the sides, and the sign that it has towards nought: =, !=, > or >=."""
    left, right = map(_side, relation.sides)
    sign = relation.signs[0]
    return (right - left, _OPPOSITE[sign]) if sign in _OPPOSITE else (left - right, "=" if sign == "≈" else sign)


def _side(value: Value) -> Any:
    match value:
        case Number(value=number):
            return sympy.Rational(number.numerator, number.denominator)
        case Formula():
            return _evaluated(value)
        case Measure(amount=amount):
            return _side(amount)
    raise Unreadable(str(value))


def _set(value: Value) -> Any:
    match value:
        case Words(text="∅"):
            return sympy.S.EmptySet
        case Words(text="ℝ"):
            return sympy.S.Reals
        case Union(parts=parts, every=every):
            return (sympy.Intersection if every else sympy.Union)(*map(_set, parts))
        case Labelled(value=part):
            return _set(part)
        case Items(values=(low, high), form="()" | "[]" | "(]" | "[)" as form):
            return sympy.Interval(_side(low), _side(high), form[0] == "(", form[1] == ")")
        case Items(values=values) if values and all(isinstance(one, Relation | Union) for one in values):
            return sympy.Union(*map(_set, values))
        case Items(values=values):
            return sympy.FiniteSet(*map(_side, values))
        case Relation(sides=sides, signs=signs):
            pairs = zip(sides, signs, sides[1:], strict=False)
            return sympy.Intersection(*(_solutions(_side(left), sign, _side(right)) for left, sign, right in pairs))
    return sympy.FiniteSet(_side(value))


def _solutions(left: Any, sign: str, right: Any) -> Any:
    symbols = left.free_symbols | right.free_symbols
    if len(symbols) != 1:
        raise Unreadable(f"{left} {sign} {right}")
    (symbol,) = symbols
    real = sympy.Symbol("x", real=True)
    left, right = left.subs(symbol, real), right.subs(symbol, real)
    if sign in ("=", "≈"):
        return sympy.solveset(left - right, real, sympy.S.Reals)
    if sign == "!=":
        return sympy.S.Reals - sympy.solveset(left - right, real, sympy.S.Reals)
    return _RELATIONS[sign](left, right).as_set()


def _pieces(found: Any) -> list[tuple[Any, Any, Any, Any]] | None:
    """The intervals and points of a set, from left to right."""
    parts = found.args if isinstance(found, sympy.Union) else (found,)
    pieces = []
    for part in parts:
        if isinstance(part, sympy.Interval):
            pieces.append((part.start, part.end, part.left_open, part.right_open))
        elif isinstance(part, sympy.FiniteSet):
            pieces += [(point, point, sympy.false, sympy.false) for point in part]
        else:
            return None
    return sorted(pieces, key=lambda piece: float(piece[0]))
