"""What a text was read as."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal


@dataclass(frozen=True)
class Number:
    """``digits`` are the significant digits of a decimal, None for what is exact."""

    value: Fraction
    digits: int | None = None


@dataclass(frozen=True)
class Formula:
    """A mathematical expression, not yet evaluated, times a factor."""

    source: str
    factor: Fraction = Fraction(1)


@dataclass(frozen=True)
class Measure:
    """A number or formula with its unit; ``compound`` when it was given in several units (2 hours 30 minutes)."""

    amount: Number | Formula
    unit: str
    compound: bool = False


@dataclass(frozen=True)
class Words:
    text: str


@dataclass(frozen=True)
class Code:
    """An identifier, version, score or the like: it is itself, and not the number that its digits would make."""

    text: str


@dataclass(frozen=True)
class Moment:
    """A date or a time of day, in ISO form; ``half`` says that a time is known to be before or after noon."""

    iso: str
    half: bool = True


@dataclass(frozen=True)
class Ratio:
    parts: tuple[Fraction, ...]


@dataclass(frozen=True)
class Choice:
    letter: str
    content: "Value | None" = None


@dataclass(frozen=True)
class Items:
    """Several values; ``form`` says by which brackets, "" for none. A matrix' items are its rows."""

    values: tuple["Value", ...]
    form: Literal["", "()", "[]", "{}", "(]", "[)", "matrix"] = ""


@dataclass(frozen=True)
class Labelled:
    """``x = 5``: a value and what it is said to be the value of."""

    label: str
    value: "Value"


@dataclass(frozen=True)
class Relation:
    """A chain of sides and the signs between them: ``-2 < x <= 3``, ``3x - y = 13``."""

    sides: tuple["Value", ...]
    signs: tuple[str, ...]


@dataclass(frozen=True)
class Union:
    """Sets or relations of which one must hold (or, for ``every``, all)."""

    parts: tuple["Value", ...]
    every: bool = False


@dataclass(frozen=True)
class Nonsense:
    """What says nothing, such as 41 = 42; it equals nothing."""


Value = (
    Number | Formula | Measure | Words | Code | Moment | Ratio | Choice | Items | Labelled | Relation | Union | Nonsense
)


def needs_mathematics(value: Value) -> bool:
    match value:
        case Formula() | Relation() | Union():
            return True
        case Measure(amount=part) | Labelled(value=part):
            return needs_mathematics(part)
        case Choice(content=part):
            return part is not None and needs_mathematics(part)
        case Items(values=values, form=form):
            return form in ("(]", "[)") or any(map(needs_mathematics, values))
    return False


def formulas(value: Value) -> list[Formula]:
    """Every formula in a value."""
    match value:
        case Formula():
            return [value]
        case Measure(amount=part) | Labelled(value=part):
            return formulas(part)
        case Choice(content=part):
            return formulas(part) if part is not None else []
        case Items(values=parts) | Relation(sides=parts) | Union(parts=parts):
            return [found for part in parts for found in formulas(part)]
    return []
