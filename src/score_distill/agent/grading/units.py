"""Units that convert into each other, by the names people write; any other word is a unit of its own."""

import re
from fractions import Fraction

_LENGTH = {
    "mm millimeter millimetre": "1/1000",
    "cm centimeter centimetre": "1/100",
    "dm decimeter decimetre": "1/10",
    "m meter metre": "1",
    "km kilometer kilometre": "1000",
    "in inch inches": "254/10000",
    "ft foot feet": "3048/10000",
    "yd yard": "9144/10000",
    "mi mile": "1609344/1000",
}
_TABLE = {
    "length": _LENGTH,
    "time": {
        "ms millisecond": "1/1000",
        "s sec second": "1",
        "min minute": "60",
        "h hr hour": "3600",
        "day": "86400",
        "week": "604800",
    },
    "months": {"month": "1", "yr year": "12", "decade": "120", "century centuries": "1200"},
    "mass": {
        "mg milligram": "1/1000",
        "g gram": "1",
        "kg kilogram": "1000",
        "t ton tonne": "1000000",
        "oz ounce": "28349523125/1000000000",
        "lb pound": "45359237/100000",
    },
    "volume": {"ml milliliter millilitre": "1/1000", "cl": "1/100", "dl": "1/10", "l liter litre": "1"},
    "angle": {"° deg degree": "1"},
    "radians": {"rad radian": "1"},
    "dollars": {"$ usd dollar us$": "1", "cent ¢": "1/100"},
    "euros": {"€ eur euro": "1"},
    "pounds sterling": {"£ gbp": "1"},
    "rupees": {"₹ inr rupee rs": "1"},
    "yen": {"¥ jpy yen 円": "1"},
    "yuan": {"cny rmb yuan 元": "1"},
    "won": {"₩ krw won": "1"},
    "percent": {"% percent pct": "1"},
    "temperature C": {"°c celsius": "1"},
    "temperature F": {"°f fahrenheit": "1"},
    "temperature K": {"kelvin": "1"},
    "K": {"K": "1"},
    "M": {"M": "1"},
    "area": {"acre": "1", "ha hectare": "100000000000/40468564224"},
    "data": {
        "byte": "1",
        "kb kilobyte": "1000",
        "mb megabyte": "1000000",
        "gb gigabyte": "1000000000",
        "bit": "1/8",
        "kbit kilobit": "125",
        "Mb mbit megabit": "125000",
        "Gb gbit gigabit": "125000000",
    },
    "energy": {"joule": "1", "kj kilojoule": "1000", "MJ megajoule": "1000000"},
    "power": {"mW milliwatt": "1/1000", "watt": "1", "kw kilowatt": "1000", "MW megawatt": "1000000"},
    "force": {"newton": "1", "kn": "1000"},
    "frequency": {"mHz": "1/1000", "hz hertz": "1", "khz kilohertz": "1000", "MHz megahertz": "1000000"},
    "pressure": {"pascal": "1", "kpa": "1000", "MPa megapascal": "1000000"},
    "charge's energy": {"electronvolt": "1", "kev": "1000", "MeV": "1000000"},
}
_UNITS = {
    name: (dimension, Fraction(factor))
    for dimension, units in _TABLE.items()
    for names, factor in units.items()
    for name in names.split()
}
CURRENCIES = "$€£₹¥₩"
_LETTERS = {"N": "newton", "W": "watt", "J": "joule", "mph": "mi/h", "kph": "km/h", "kmh": "km/h", "kmph": "km/h"}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_ONE = re.compile(r"(?P<name>[^\s^*/]+)(?:\s*(?:\^|\*\*)\s*[{(]?(?P<power>-?\d)[})]?)?")


def known(unit: str) -> bool:
    """Whether every part of a unit is in the table."""
    dimension, _ = dimension_of(unit)
    return "?" not in dimension


def dimension_of(unit: str) -> tuple[str, Fraction]:
    """What a unit measures, and its size: "km/h" is ("length time^-1", 5/18). A word of no table measures itself."""
    found: dict[str, int] = {}
    size = Fraction(1)
    sign, power = 1, 1
    unit = re.sub(r"[A-Za-z]+", lambda found: _LETTERS.get(found[0], found[0]), unit)
    for word in re.sub(r"\bper\b|/", " / ", unit).split():
        if word == "/":
            sign = -1
            continue
        if word.casefold() in _POWERS:
            power = _POWERS[word.casefold()]
            continue
        part = _ONE.fullmatch(word)
        name = part["name"] if part else word
        times = sign * power * int((part and part["power"]) or 1)
        dimension, factor = _UNITS.get(_singular(name), (f"?{_singular(name)}", Fraction(1)))
        found[dimension] = found.get(dimension, 0) + times
        size *= factor**times
        power = 1
    return " ".join(f"{name}^{times}" for name, times in sorted(found.items()) if times), size


def _singular(word: str) -> str:
    """The name in the table; letters of a prefix keep their case where it matters, as in mW and MW."""
    if word in _UNITS or re.fullmatch("M[gms]?|[mM](?:eV|Hz|Pa)", word):
        return word
    word = word.casefold().rstrip(".")
    if word in _UNITS or len(word) < 3:
        return word
    for ending in ("es", "s"):
        if word.endswith(ending) and word.removesuffix(ending) in _UNITS:
            return word.removesuffix(ending)
    return word.removesuffix("ies") + "y" if word.endswith("ies") else word.removesuffix("s")
