"""Whether an answer is right, by rules.

Rules come before any judge: they cost nothing and do not change their mind. They say None where they cannot decide.
"""

import re
import unicodedata
from collections import Counter
from fractions import Fraction

from score_distill.agent.mathematics import verifier
from score_distill.agent.trajectory import Verdict
from score_distill.api import Metric

F1_RIGHT = 0.8
LONGEST_MATHEMATICS = 1000
ROUNDING = Fraction(1, 1000)

_ARTICLES = {"a", "an", "the"}
_NUMBER = re.compile(r"[$€£]?\s*([+-]?(?:\d{1,40}(?:\.\d{1,40})?|\.\d{1,40}))(?:\s*/\s*(\d{1,40}))?((?:\s+[^\W\d_]+)*)")
_MULTIPLES = {"hundred", "thousand", "million", "billion", "trillion", "dozen", "percent", "k", "m"}


def check(metric: Metric, answer: str | None, reference: str) -> Verdict:
    """The rules' verdict; ``correct`` is None when they cannot decide. May block for seconds under ``math``.

    exact: equal after `normal`. math: equal numbers or expressions (math-verify). f1: token F1 of at least 0.8.
    """
    if answer is None:
        return Verdict(correct=False, by="exact", detail="no answer")
    if metric == "math":
        if bare(answer) == bare(reference):
            return Verdict(correct=True, by="exact")
        same = math_equal(answer, reference)
        return Verdict(correct=same, by="none" if same is None else "math")
    if normal(answer) == normal(reference):
        return Verdict(correct=True, by="exact")
    if metric == "exact":
        return Verdict(correct=False, by="exact")
    score = token_f1(answer, reference)
    return Verdict(correct=score >= F1_RIGHT, by="f1", detail=f"{score:.3f}")


def math_equal(answer: str, reference: str) -> bool | None:
    """Mathematical equality; None when math-verify cannot read the reference or not decide in time.

    Two numbers that are clearly equal or different are compared here, in microseconds.
    """
    given, gold = _quantity(bare(answer)), _quantity(bare(reference))
    if given and gold and (given[1] == gold[1] or not given[1] or not gold[1]):
        if given[0] == gold[0]:
            return True
        if abs(given[0] - gold[0]) > ROUNDING:
            return False
    if not re.search(r"\w", reference):
        return None
    if len(answer) > LONGEST_MATHEMATICS:
        return False
    return verifier().equal(answer, reference)


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over normalised words, as in SQuAD."""
    given, gold = normal(answer).split(), normal(reference).split()
    common = sum((Counter(given) & Counter(gold)).values())
    return 2 * common / (len(given) + len(gold)) if common else 0.0


def bare(text: str) -> str:
    """Case, width, spacing, thousands separators, \\boxed{}, $...$ and a full stop do not matter."""
    text = unicodedata.normalize("NFKC", text).strip().removesuffix(".")
    boxed = re.fullmatch(r"\$*\s*\\boxed\{(.*)\}\s*\$*", text, re.DOTALL)
    text = boxed[1] if boxed else text
    if len(text) > 1 and text[0] == text[-1] == "$":
        text = text.strip("$")
    return " ".join(_joined(text.casefold()).split())


def normal(text: str) -> str:
    """As `bare`; nor do articles and the punctuation around words. That of numbers and intervals does."""
    words = [_unquoted(word) for word in bare(text).split()]
    words = [word for word in words if word]
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def _quantity(text: str) -> tuple[Fraction, str] | None:
    """A plain number or fraction and the unit words behind it."""
    match = _NUMBER.fullmatch(text)
    if not match or (match[2] and not int(match[2])) or _MULTIPLES & set(match[3].split()):
        return None
    return Fraction(match[1]) / int(match[2] or 1), match[3].strip()


def _joined(text: str) -> str:
    return re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", text)


def _unquoted(word: str) -> str:
    core = word.strip(".,;:!?\"'()[]{}$")
    return core if core.replace("-", "").isalpha() or not core else word.rstrip(".,;:?\"'").lstrip("\"'$")
