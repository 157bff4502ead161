"""Names and other words: their form for a comparison, and how much of one is in another."""

import re
import unicodedata
from collections import Counter

from score_distill.agent.grading.text import plain
from score_distill.agent.scripts import tokens

_ARTICLES = {"a", "an", "the"}
_MEANT = set("#%&@*-/\\+=<>~^|$€£₹¥")  # signs that belong to the word that they stand at


def normal(text: str) -> str:
    """Case, width, typography, articles, spaces at signs and the punctuation around words do not matter.

    That of numbers and intervals does.
    """
    text = bare(text)
    if re.search(r"[\[({].*[,:]", text):
        text = re.sub(r"\s*([,:;\[\](){}])\s*", r"\1", text)
    words = [_unquoted(word) for word in text.split()]
    words = [word for word in words if word]
    return " ".join([word for word in words if word not in _ARTICLES] or words) or text


def bare(text: str) -> str:
    """Case, width, spacing, thousands separators, \\boxed{}, $...$ and a full stop do not matter."""
    return typeset(text).casefold()


def typeset(text: str) -> str:
    """What of a text is not only typography."""
    text = plain(text).strip().removesuffix(".").strip()
    boxed = re.fullmatch(r"\$*\s*\\boxed\{(.*)\}\s*\$*", text, re.DOTALL)
    text = boxed[1] if boxed else text
    if len(text) > 1 and text[0] == text[-1] == "$":
        text = text.strip("$")
    text = re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over normalised words, as in SQuAD; without spaces, over characters.

    Nought where a number of the reference is missing, or one of the two denies.
    """
    given, gold = _words(answer), _words(reference)
    if {word for word in gold if _is_telling(word)} - set(given) or _DENIALS & (set(given) ^ set(gold)):
        return 0.0
    common = sum((Counter(given) & Counter(gold)).values())
    return 2 * common / (len(given) + len(gold)) if common else 0.0


def _words(text: str) -> list[str]:
    return [part for word in normal(text).split() for part in (tokens(word) if not word.isascii() else [word])]


def equal_names(one: str, other: str) -> bool | None:
    """Whether two texts say the same; None when the one has every word of the other and more."""
    first, second = normal(one), normal(other)
    if first == second:
        return True
    words, others = set(first.split()), set(second.split())
    if _DENIALS & (words ^ others):
        return False
    if list(filter(_is_telling, first.split())) != list(filter(_is_telling, second.split())):
        return False
    return None if len(first) > 1 and len(second) > 1 and (words <= others or others <= words) else False


def _is_telling(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


_DENIALS = {
    "isn't",
    "aren't",
    "wasn't",
    "weren't",
    "doesn't",
    "didn't",
    "not",
    "no",
    "never",
    "neither",
    "nor",
    "non",
    "or",
}


def _is_punctuation(letter: str) -> bool:
    return letter in "$`´" or unicodedata.category(letter)[0] == "P"


def _unquoted(word: str) -> str:
    core = word
    while (
        core
        and _is_punctuation(core[0])
        and not re.match(r"!\w", core)
        and core[0] not in _MEANT - {"$"}
        and core[:2] != f".{core[1:2] if core[1:2].isalpha() else ''}"
    ):
        core = core[1:]
    while core and _is_punctuation(core[-1]) and core[-1] not in _MEANT - {"$"}:
        core = core[:-1]
    letters = core.replace("-", "").replace(".", "").replace("'", "")
    if letters.isalpha() or not core:
        initials = re.fullmatch(r"(?:[^\W\d]{1,2}\.)+[^\W\d]{0,2}", core + "." if "." in core else "")
        return core.replace(".", "") if initials else core
    if core and not any(one.isdigit() for one in core):
        return core
    return word.rstrip(".,;:?!\"'").lstrip("\"'$") if not re.search(r"\d!$", word) else word.lstrip("\"'$")
