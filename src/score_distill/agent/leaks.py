"""Whether a text gives a task's answer away that nothing before it has stated.

Numbers are compared by value, formulas by math-verify, other answers as whole phrases. An answer that is the letter of
a choice, or a word such as "no", stands in many texts that do not state it: there it must be said to be the answer.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from score_distill.agent.answers import bare, math_equal
from score_distill.agent.quantities import DIGITS, Quantity, quantities, quantity
from score_distill.agent.scripts import tokens

_ARTICLES = {"a", "an", "the"}
_COMMON = {
    "yes",
    "no",
    "true",
    "false",
    "none",
    "not",
    "all",
    "both",
    "neither",
    "same",
    "other",
    "it",
    "是",
    "否",
    "不",
}
_FORMULA = re.compile(r"[\\^*/+√π]")
_SPANS = re.compile(
    r"\$([^$\n]{1,200})\$|\\boxed\{([^\n]{1,200})\}|final_answer_print\(([^\n]{1,200})\)|\"([^\"\n]{1,200})\""
    r"|'([^'\n]{1,200})'|(?<![=!<>])=(?!=)([^=\n<]{1,200})"
)
_MOST_SPANS = 20

_IS = r"(?:\s*(?:\bis\b|\bwas\b|\bare\b|\bmust\b|\bshould\b|\bwill\b|\bto\b|\bbe\b|[:=是为]))+\s*"
_SAID = (
    rf"(?i:\b(?:answer|result|option|choice|conclusion)\b{_IS}|答案{_IS}|\\boxed\{{(?:\\text\{{)?"
    r"|\b(?:choose|pick|select|correct)\s+(?:(?:option|choice|answer)\s+)?|final_answer_print\(\s*"
    r"|(?:(?<![=!<>+*/-])=\s*|\breturn\s+|\bprint\(\s*)(?=[\"']))"
)
_OPEN, _CLOSED = r"[\"'(\[*${]*", r"(?=\W*(?:$|\n|<|because\b|since\b)|\s*[\"').,;!\]}*])"


def leaks_answer(reference: str, text: str, seen: Iterable[str]) -> bool:
    """Whether ``text`` states the reference answer while nothing of what was ``seen`` does. May block for seconds."""
    if gold := quantity(bare(reference)):
        return _tells_number(gold, text, list(seen))
    tells = _said(reference)
    if tells is None:
        phrase = _phrase(bare(reference))
        tells = (lambda one: phrase in _phrase(one)) if phrase.strip() else (lambda _: False)
    if tells(text):
        return not any(map(tells, seen))
    return bool(_FORMULA.search(reference)) and _tells_formula(reference, text, seen)


def _tells_number(gold: Quantity, text: str, seen: list[str]) -> bool:
    """By value. A quotient or power of numbers that were seen is a computation, and "one" alone states nothing."""
    known = {value for part in seen for one in quantities(part) for value in one.values if not one.idle or value != 1}
    if gold.values & known:
        return False
    for one in quantities(text):
        if not one.values & gold.values or (one.parts and one.parts <= known):
            continue
        if not one.idle or any(_stated(DIGITS[int(value)])(text) for value in one.values):
            return True
    return False


def _tells_formula(reference: str, text: str, seen: Iterable[str]) -> bool:
    def tells(one: str) -> bool:
        return any(math_equal(f"${span}$", reference) is True for span in islice(_spans(one), _MOST_SPANS))

    return tells(text) and not any(map(tells, seen))


def _said(reference: str) -> Callable[[str], bool] | None:
    """For answers that are a letter or a common word: whether a text says that this is the answer."""
    core = re.sub(r"[\W_]", "", reference.replace(r"\boxed", "").replace(r"\text", ""))
    if re.fullmatch("[A-Za-z]", core):
        return _stated(core.upper(), letter=True)
    return _stated(core) if core.casefold() in _COMMON else None


def _stated(word: str, *, letter: bool = False) -> Callable[[str], bool]:
    if letter:
        said = rf"{_SAID}{_OPEN}{word}(?!\w|'\w)|\b{word}\)? is (?:the )?(?:correct|right|answer)\b"
    else:
        said = rf"(?i:{_SAID}{_OPEN}{word}{_CLOSED})"
    pattern = re.compile(rf"{said}|\A\W*{word if letter else f'(?i:{word})'}\W*\Z")
    return lambda text: pattern.search(text) is not None


def _spans(text: str) -> Iterator[str]:
    """What may be a formula: marked as one, quoted, assigned or given as the answer."""
    for found in _SPANS.finditer(text):
        yield (found[found.lastindex or 0] or "").strip().strip("\"'").replace("**", "^")


def _phrase(text: str) -> str:
    """Words, numbers and operators, each between spaces, without articles."""
    found = tokens(text)
    return f" {' '.join([word for word in found if word not in _ARTICLES] or found)} "
