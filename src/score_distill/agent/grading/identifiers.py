"""Codes and moments: what is written with digits and is no number."""

import re
from datetime import datetime
from fractions import Fraction

from score_distill.agent.grading.values import Code, Moment, Ratio

_DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d %B %Y",
    "%d %b %Y",
    "%B %d, %Y",
    "%b %d, %Y",
    "%B %d %Y",
    "%d.%m.%Y",
    "%Y年%m月%d日",
)
_DAYS = ("%d %B %Y", "%d %b %Y", "%B %d %Y", "%b %d %Y")  # with a year put behind them
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(?:([ap])\.?\s?m\b\.?)?", re.IGNORECASE)
_RATIO = re.compile(r"\d{1,20}(?:\.\d{1,20})?(?:\s*:\s*\d{1,20}(?:\.\d{1,20})?){1,9}")
_CODE = re.compile(
    r"""0\d{3,}|[vV]\.?\s?\d+(?:\.\d+)*|\d+(?:\.\d+){2,}|\+?\d+(?:-\d+)+|0[xX][0-9a-fA-F]+|0[bB][01]+
    |[A-Z][A-Za-z]*[-_./]?\d[A-Za-z\d]*(?:[-_./][A-Za-z\d]+)*|[a-z]{2,}[-_]?\d[\w.-]*|\d{2,}(?:-[A-Za-z\d]+)*-[A-Za-z]+(?:-[A-Za-z\d]+)*
    |(?:1[5-9]|20)\d0s|\d{1,4}/\d{1,2}/\d{1,4}|\d+_\{?\d{1,2}\}?|(?=\w*\d)(?=\w*[A-Fa-f])(?!\d+[eE]\d+$)[0-9A-Fa-f]{6,}""",
    re.VERBOSE,
)

_MOLECULE = re.compile(r"(?:[A-Z][a-z]?(?:_?\{?\d{1,3}\}?)?){2,}")
_WEEKDAY = re.compile(r"(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+", re.IGNORECASE)
_NAMED_TIMES = {"noon": "12:00:00", "midnight": "00:00:00"}


def moment(text: str) -> Moment | Ratio | None:
    """A date, a time of day, or a ratio."""
    if named := _NAMED_TIMES.get(text.casefold()):
        return Moment(named)
    if found := _TIME.fullmatch(text):
        hour, minute, second, half = int(found[1]), int(found[2]), int(found[3] or 0), found[4]
        if half and 1 <= hour <= 12:
            hour = hour % 12 + (12 if half.casefold() == "p" else 0)
        if (hour < 25 and minute < 60 and second < 60) and (half or len(found[2]) == 2):
            return Moment(f"{hour:02}:{minute:02}:{second:02}", half=bool(half) or not 1 <= hour <= 12)
    if _RATIO.fullmatch(text):
        return Ratio(tuple(Fraction(part) for part in text.split(":")))
    if 6 <= len(text) <= 40 and re.search(r"\d", text):
        tidy = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", re.sub(r"^(?:on|the)\s+", "", _WEEKDAY.sub("", text))).replace(
            " of ", " "
        )
        if made := re.fullmatch(r"(?:datetime\.)?date(?:time)?\((\d+), (\d+), (\d+)\)", tidy):
            tidy = "-".join(made.groups())
        tidy = re.sub(r"(?<=\d-\d\d)[ T]00:00(?::00)?", "", tidy)
        if (slashed := re.fullmatch(r"(\d\d?)/(\d\d?)/(\d{4})", tidy)) and max(int(slashed[1]), int(slashed[2])) > 12:
            tidy = "-".join((slashed[3], *sorted(slashed.groups()[:2], key=int)))
        for form, year in (*((form, "") for form in _DATES), *((form, " 2000") for form in _DAYS)):
            try:
                day = datetime.strptime(re.sub(r"(?<=[A-Za-z]{3})\.", "", tidy) + year, form).date().isoformat()
                return Moment(day[4:] if year else day)
            except ValueError:
                continue
    return None


def code(text: str) -> Code | None:
    """An identifier, version, score, padded or based number."""
    if _MOLECULE.fullmatch(text):
        text = text.replace("_", "")
    return (
        Code(re.sub("[{}]", "", text.casefold()))
        if _CODE.fullmatch(text) and not re.fullmatch("[A-Za-z]_?[0-9]", text)
        else None
    )
