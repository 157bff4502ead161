"""The numbers that a text states, however they are written: 0.5, 1/2, \\frac{1}{2}, 50 %, 10**3, 1,000, eighteen."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from score_distill.agent.grading import text as text_forms

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    "ten",
    "eleven",
    "twelve",
    *(f"{digit}teen" for digit in ("thir", "four", "fif", "six", "seven", "eigh", "nine")),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SMALL = {word: n for n, word in enumerate(DIGITS + _TEENS)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_WORD = "|".join(sorted([*_SMALL, "hundred", *_SCALES], key=len, reverse=True))

_NUMBER = r"(?:\d{1,40}(?:\.\d{1,40})?|\.\d{1,40})"
_SUFFIX = r"(?:\s*(?P<percent>\\?%|per\s?cent\b)|[ -]?(?P<scale>hundred|thousand|million|billion|trillion|dozen)\b)?"
_WRITTEN = re.compile(
    rf"""(?P<sign>(?<![\w)\].])-[ ]?)?(?:
    \\[dt]?frac\s*(?:\{{\s*(?P<over>{_NUMBER})\s*\}}|(?P<over1>\d))\s*(?:\{{\s*(?P<under>{_NUMBER})\s*\}}|(?P<under1>\d))
    |(?:fraction|rational)\(\s*(?P<first>{_NUMBER})\s*,\s*(?P<second>{_NUMBER})\s*\)
    |(?<![\w.])(?P<number>{_NUMBER})(?:
        e(?P<exponent>[+-]?\d{{1,2}})(?!\d)
        |\s*(?:\*\*|\^)\s*\{{?\s*(?P<power>\d{{1,2}})(?!\d)
        |\s*/\s*(?P<divisor>{_NUMBER})
    )?(?!\d|\.\d)
    ){_SUFFIX}""",
    re.VERBOSE,
)
_SPOKEN = re.compile(rf"\b(?:{_WORD})(?:[\s-]+(?:and\s+)?(?:{_WORD}))*\b(?:\s*(?P<percent>%|per\s?cent\b))?")


class Quantity(NamedTuple):
    """What one place in a text may mean (50 % is 50 and 1/2), and the numbers that a quotient or power is made of.

    ``idle`` says that it is a word such as "one", which need not be a number at all.
    """

    values: frozenset[Fraction]
    parts: frozenset[Fraction] = frozenset()
    idle: bool = False


def plain(text: str) -> str:
    """Typography, case and thousands separators, brought into one form."""
    return re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", text_forms.plain(text).casefold())


def quantities(text: str) -> Iterator[Quantity]:
    """Every number in a text; of a quotient or power also its parts."""
    text = plain(text)
    for found in _WRITTEN.finditer(text):
        yield from _written(found)
    for found in _SPOKEN.finditer(text):
        words = re.findall(_WORD, found[0])
        value = Fraction(_counted(words))
        yield Quantity(
            _meant(value, found["percent"]), idle=not found["percent"] and len(words) == 1 and words[0] in DIGITS
        )


def quantity(text: str) -> Quantity | None:
    """The number of a text that says nothing else but a unit; None for any other text."""
    text = plain(text).strip().removesuffix(".").strip("$€£ ")
    written, spoken = _WRITTEN.match(text), _SPOKEN.fullmatch(text)
    if spoken or (written and re.fullmatch(r"\}?(?:\s*[^\W\d]+(?: per [^\W\d]+)?)?", text[written.end() :])):
        return next(quantities(text))
    return None


def spoken(text: str) -> tuple[Fraction, str] | None:
    """The value of a number in words that a text begins with, and what follows: "twelve apples", "forty-two"."""
    found = re.match(rf"(?:{_WORD})(?:[\s-]+(?:and\s+)?(?:{_WORD}))*(?![\w-])", text.casefold())
    return (Fraction(_counted(re.findall(_WORD, found[0]))), text[found.end() :]) if found else None


def _written(found: re.Match[str]) -> Iterator[Quantity]:
    sign = -1 if found["sign"] else 1
    over = found["over"] or found["over1"] or found["first"] or found["number"]
    under = found["under"] or found["under1"] or found["second"] or found["divisor"]
    value, parts = Fraction(over), [Fraction(over)]
    if under is not None and (divisor := Fraction(under)):
        value, parts = value / divisor, [value, divisor]
    elif found["power"]:
        value, parts = value ** int(found["power"]), [value, Fraction(found["power"])]
    elif found["exponent"]:
        value *= Fraction(10) ** int(found["exponent"])
    if found["scale"]:
        value *= {"hundred": 100, "dozen": 12, **_SCALES}[found["scale"]]
    yield Quantity(_meant(sign * value, found["percent"]), frozenset(parts) if len(parts) > 1 else frozenset())
    if len(parts) > 1:
        yield from (Quantity(frozenset([part])) for part in parts)


def _meant(value: Fraction, percent: str | None) -> frozenset[Fraction]:
    return frozenset([value, value / 100] if percent else [value])


def _counted(words: list[str]) -> int:
    total = current = 0
    for word in words:
        if word == "hundred":
            current = 100 * max(1, current)
        elif word in _SCALES:
            total, current = total + _SCALES[word] * max(1, current), 0
        else:
            current += _SMALL[word]
    return total + current
