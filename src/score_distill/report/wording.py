"""How numbers, times and shares are written for people, on the page and in the terminal alike. Pure."""

import re
from datetime import UTC, datetime


def count(value: int) -> str:
    return f"{value:,}"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def span(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f} %"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def rounded(count: int) -> str:
    """A count of which two digits mean something."""
    return f"{float(f'{count:.2g}'):,.0f}"


def tokens(count: int) -> str:
    """A count of tokens with three digits: 950, 12.3 k, 4.56 M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 999.5 * size else f"{count / size:,.0f} {unit}"
    return str(count)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 0.4 s, 42 s, 3 min 05 s, 2 h 07 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def unbroken(text: str) -> str:
    """The same words with no line break inside a number: before its unit, around "=", within its interval."""
    text = re.sub(r"(?<=\d) (?=(?:[%kMGsh]|min|UTC|points)(?!\w))| (?=[=<] )|(?<= [=<]) ", "\u00a0", text)
    return re.sub(r"\[[^]]*\]", lambda found: found[0].replace(" ", "\u00a0"), text)


def moment(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
