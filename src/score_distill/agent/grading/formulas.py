"""Whether a text is a formula."""

import re

from score_distill.agent.grading.vocabulary import CONSTANTS, FUNCTIONS, GREEK

_TOKEN = re.compile(
    r"(?P<name>[^\W\d_]+(?:_\{?\w+\}?|\d+)?'*)|(?P<number>[\d.]+)|(?P<space>\s+)|(?P<other>.)", re.DOTALL
)


def is_formula(text: str) -> bool:
    """Whether every word of a text is one of mathematics: a name alone, an identifier or prose is none."""
    big = re.search(r"\\(?:int|sum|prod|lim)(?![A-Za-z])", text)
    allowed = "+-*/^()[]{}|!√°∞\\,._&'" + ("=→" if big else "")
    tokens = [(found.lastgroup or "", found[0]) for found in _TOKEN.finditer(re.sub(r"\\[A-Za-z]+", _command, text))]
    solid = [one for one in tokens if one[0] != "space"]
    if not solid or any(kind == "other" and one not in allowed for kind, one in solid):
        return False
    if len(solid) == 1 and solid[0][0] == "name":
        return _is_symbol(solid[0][1]) or solid[0][1].casefold() in CONSTANTS or solid[0][1] in GREEK
    if "\\" in text and re.search(r"\\(?:int|sum|prod|lim|frac|sqrt|binom)(?![A-Za-z])", text):
        return not any(kind == "name" and len(one) > 3 and not _is_known(one) for kind, one in solid)
    for at, (kind, one) in enumerate(tokens):
        if kind == "name" and not _is_known(one) and not _is_symbol(one):
            around = (tokens[at - 1 : at] or [("", "")])[0], (tokens[at + 1 : at + 2] or [("", "")])[0]
            if (
                len(one) > 3
                or not one.islower()
                or (any(kind == "space" for kind, _ in around) and not _glued(tokens, at))
            ):
                return False
    names = [one for kind, one in solid if kind == "name"]
    return any(kind != "name" for kind, _ in solid) or names[0].casefold() in FUNCTIONS


def _glued(tokens: list[tuple[str, str]], at: int) -> bool:
    """Whether the next solid neighbours of a token are operators, so that it stands alone between them."""
    before = [one for one in tokens[:at] if one[0] != "space"][-1:]
    after = [one for one in tokens[at + 1 :] if one[0] != "space"][:1]
    return all(kind == "other" and one in "+-*/^()|," for kind, one in [*before, *after])


def _command(found: re.Match[str]) -> str:
    name = found[0][1:]
    return f" {name} " if name in GREEK or name in FUNCTIONS or name in CONSTANTS else " " * len(found[0])


def _is_known(name: str) -> bool:
    return name in GREEK or name.casefold() in FUNCTIONS | CONSTANTS


def _is_symbol(name: str) -> bool:
    return re.fullmatch(r"[^\W\d_](?:_\{?\w{1,6}\}?|\d{1,2})?'*", name) is not None
