"""Numbers with their units: 1,200.50, 3 1/2, 1.2 million, $18.90, 5 km/h, 2 hours 30 minutes."""

import re
import unicodedata
from fractions import Fraction

from score_distill.agent.grading import units
from score_distill.agent.grading.formulas import is_formula
from score_distill.agent.grading.values import Formula, Measure, Number, Value
from score_distill.agent.grading.vocabulary import PROSE
from score_distill.agent.quantities import spoken

_INTEGER = r"\d{1,3}(?:,\d{3})+(?![\d,])|\d{1,3}(?:[ ]\d{3})+(?![ ]?\d)|\d{1,3}(?:_\d{3})+(?!\d)|\d{1,400}"
_DECIMAL = rf"(?:(?:{_INTEGER})(?:\.\d{{0,400}})?|\.\d{{1,400}})(?:[eE][+-]?\d{{1,4}}(?!\d))?"
_NUMBER = re.compile(
    rf"""(?P<sign>[+-]\s?)?(?P<money>[{units.CURRENCIES}]|(?:US|A|C)\$|(?:USD|EUR|GBP|INR|JPY|CNY|Rs\.?)(?![A-Za-z]))?\s*
    (?P<sign2>[+-])?(?:(?P<whole>\d{{1,40}})\s(?P<part>\d{{1,40}}/\d{{1,40}})|(?P<number>{_DECIMAL})(?:\s*/\s*(?P<under>\d{{1,40}}))?)
    (?![\d.]*\d)(?P<rest>.*)""",
    re.VERBOSE | re.DOTALL,
)
_PARTS = {2: "halves half", 3: "thirds third", 4: "quarters quarter fourths fourth", 5: "fifths fifth"}
_PARTS |= {6: "sixths", 7: "sevenths", 8: "eighths eighth", 9: "ninths", 10: "tenths tenth"}
_PARTS |= {100: "hundredths hundredth", 1000: "thousandths thousandth"}
_OPERATORS = frozenset(("minus", "plus", "times", "divided", "over", "point", "squared", "cubed", "factorial"))
_NEGATED = re.compile(r"(?:minus|negative)\s+(?!minus|negative)(?=\S)", re.IGNORECASE)
_ARTICLE = re.compile(
    r"an?\s+(?=(?:half|third|quarter|fourth|fifth|tenth|dozen|hundred|thousand|million|billion)\b)|^(?=half$)", re.I
)
_MIXED = re.compile(
    r"(.{1,60}?)\s+and\s+((?:an?|one|two|three)[\s-]+(?:half|thirds?|quarters?|fourths?))", re.IGNORECASE
)
_SCALES: dict[str, int | Fraction] = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
_SCALES |= {"百": 100, "千": 10**3, "万": 10**4, "亿": 10**8, "bn": 10**9}
_SCALES |= {name: Fraction(1, n) for n, names in _PARTS.items() for name in names.split()}
_SCALE = re.compile(rf"\s*(?:(?P<word>{'|'.join(_SCALES)})(?![A-Za-z])|(?P<k>k)(?![A-Za-z/^]))\s*")
_MONEY_SCALES = {"K": 10**3, "M": 10**6, "B": 10**9}
_UNIT_WORD = r"(?:[^\W\d_]+\.?|°\s?[CF]?|%|[$€£₹¥₩'\"])(?:(?:\^|\*\*)[{(]?-?\d[})]?)?"
_UNIT = re.compile(rf"{_UNIT_WORD}(?:(?:\s*/\s*|[\s-]+){_UNIT_WORD}){{0,4}}")
_AMOUNT = re.compile(rf"(.*[^\sA-Za-z^*/+\\-]|.*\S(?=\s))\s*({_UNIT.pattern})", re.DOTALL)


def quantity(text: str, units_left: int = 3) -> Value | None:
    """A number, alone or with a unit, or several of them: 2 hours 30 minutes."""
    if found := _NEGATED.match(text):
        less = quantity(text[found.end() :], units_left)
        return Number(-less.value, less.digits) if isinstance(less, Number) and less.value > 0 else None
    if found := _MIXED.fullmatch(text):
        whole, part = quantity(found[1], 0), quantity(found[2], 0)
        return Number(whole.value + part.value) if isinstance(whole, Number) and isinstance(part, Number) else None
    if counted := spoken(_ARTICLE.sub("one ", text)):
        return _scaled(Number(counted[0]), "", counted[1], units_left)
    found = _NUMBER.fullmatch(text)
    if not found or (found["under"] and not int(found["under"])) or (found["part"] and found["part"].endswith("/0")):
        return None
    number = _number(found)
    if number is None:
        return None
    rest = found["rest"].strip()
    if found["money"] and rest in _MONEY_SCALES:
        number, rest = Number(number.value * _MONEY_SCALES[rest], number.digits), ""
    elif found["rest"].startswith(" ") and rest == "K":
        rest = "kelvin"
    return _scaled(number, (found["money"] or "").casefold(), rest, units_left)


def _scaled(number: Number, money: str, rest: str, units_left: int) -> Value | None:
    """The number times the word behind it, such as million or thirds, and with its unit."""
    rest = rest.lstrip(" -") if rest[1:2].isalpha() else rest.lstrip()
    if scale := _SCALE.match(rest):
        factor = _SCALES[scale["word"].casefold()] if scale["word"] else 1000
        number, rest = Number(number.value * factor, number.digits), rest[scale.end() :]
    return _with_unit(number, money, rest, units_left)


def _number(found: re.Match[str]) -> Number | None:
    sign = -1 if "-" in f"{found['sign'] or ''}{found['sign2'] or ''}" else 1
    if found["whole"]:
        return Number(sign * (Fraction(found["whole"]) + Fraction(found["part"])))
    written = re.sub(r"[ ,_]", "", found["number"])
    if found["under"]:
        return Number(sign * Fraction(written) / int(found["under"]))
    exact = written.isdigit()
    mantissa = written.casefold().partition("e")[0]
    digits = len(mantissa.replace(".", "").lstrip("0")) or 1
    return Number(sign * Fraction(written), None if exact else digits)


def _with_unit(number: Number, money: str, rest: str, units_left: int) -> Value | None:
    """The number with what follows it as its unit; None when that is no unit."""
    rest = re.sub(r"^-(?=[^\W\d_])", "", rest.strip()).strip()
    if rest.startswith("(") and rest.endswith(")"):
        rest = rest[1:-1].strip()
        if spoken(rest) == (number.value, ""):
            rest = ""
    if not rest:
        return Measure(number, money) if money else number
    if units_left and (more := re.fullmatch(rf"({_UNIT_WORD})[\s,]*(?:and\s+)?(\d.*)", rest, re.DOTALL)):
        second = quantity(more[2], units_left - 1)
        if isinstance(second, Measure) and isinstance(second.amount, Number):
            (one, size), (other, part) = units.dimension_of(more[1]), units.dimension_of(second.unit)
            if one == other and units.known(more[1]) and size > part:
                total = number.value * size / part + second.amount.value
                return Measure(Number(total), second.unit, compound=True)
        return None
    rest = rest.removesuffix(".")
    if not _UNIT.fullmatch(rest) or PROSE & set(re.findall(r"[\w']+", rest.casefold())):
        return None
    if units.known(rest) or _is_word_unit(rest):
        return Measure(
            number, rest if not money or units.dimension_of(rest) == units.dimension_of(money) else f"{money} {rest}"
        )
    return None


def _is_word_unit(rest: str) -> bool:
    """Whether it is a word that can count something, and no letters of a product such as 2ab."""
    words = re.findall(r"[^\W\d_]+", rest)
    return (
        bool(words)
        and not any(word.casefold() in _OPERATORS or spoken(word) for word in words)
        and (len(words[0]) > 3 or unicodedata.category(words[0][0]) == "Lo")
        and "^" not in rest
        and "*" not in rest
    )


def measured_formula(text: str) -> Measure | None:
    """A formula with a unit behind it: 4\\pi cm."""
    found = _AMOUNT.fullmatch(text)
    if not found or not is_formula(found[1].strip()):
        return None
    unit = found[2].strip()
    apart = text[len(found[1]) :][:1] == " "
    if units.known(unit) or (apart and _is_word_unit(unit) and not PROSE & set(unit.casefold().split())):
        return Measure(Formula(found[1].strip()), unit)
    return None
