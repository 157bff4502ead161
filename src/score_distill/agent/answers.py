"""Whether an answer is right, by rules; and whether a text gives an answer away.

Rules come before any judge: they cost nothing and do not change their mind. They say None where they cannot decide.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from score_distill.agent.trajectory import Verdict
from score_distill.api import Metric

F1_RIGHT = 0.8


def check(metric: Metric, answer: str | None, reference: str) -> Verdict:
    """The rules' verdict; ``correct`` is None when they cannot decide.

    exact: equal after `normal`. math: equal numbers or expressions (math-verify). f1: token F1 of at least 0.8.
    """
    if answer is None:
        return Verdict(correct=False, by="exact", detail="no answer")
    if normal(answer) == normal(reference):
        return Verdict(correct=True, by="exact")
    if metric == "exact":
        return Verdict(correct=False, by="exact")
    if metric == "f1":
        score = token_f1(answer, reference)
        return Verdict(correct=score >= F1_RIGHT, by="f1", detail=f"{score:.3f}")
    same = math_equal(answer, reference)
    return Verdict(correct=same, by="none" if same is None else "math")


def math_equal(answer: str, reference: str) -> bool | None:
    """Mathematical equality; None when the reference is nothing that math-verify can read."""
    from math_verify import parse, verify

    gold = parse(_mathematical(reference))
    if not gold:
        return None
    given = parse(_mathematical(answer))
    return bool(given) and bool(verify(gold, given))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over normalised words, as in SQuAD."""
    given, gold = normal(answer).split(), normal(reference).split()
    common = sum((Counter(given) & Counter(gold)).values())
    return 2 * common / (len(given) + len(gold)) if common else 0.0


def normal(text: str) -> str:
    """Case, width, articles, thousands separators, \\boxed{} and outer punctuation do not matter."""
    text = unicodedata.normalize("NFKC", text).strip()
    boxed = re.fullmatch(r"\$*\s*\\boxed\{(.*)\}\s*\$*", text, re.DOTALL)
    text = (boxed[1] if boxed else text).casefold()
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    words = (word.strip(".,;:!?\"'()[]$") for word in text.split())
    return " ".join(word for word in words if word and word not in {"a", "an", "the"})


def gives_away(reference: str, text: str, seen: Iterable[str]) -> bool:
    """Whether ``text`` states the reference answer while nothing of what was ``seen`` does."""
    gold = normal(reference)
    if not gold:
        return False
    pattern = re.compile(rf"(?<![\w.]){re.escape(gold)}(?!\w|\.\d)")
    return bool(pattern.search(_spaced(text))) and not any(pattern.search(_spaced(one)) for one in seen)


def _spaced(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", re.sub(r"(?<=\d),(?=\d{3}\b)", "", text))


def _mathematical(text: str) -> str:
    return text if "$" in text or "\\" in text else f"${text}$"
