"""Whether an answer is right, by rules.

Rules come before any judge: they cost nothing and do not change their mind. They say None where they cannot decide.
"""

import re

from score_distill.agent.grading.comparing import same
from score_distill.agent.grading.kinds import read_as
from score_distill.agent.grading.names import bare, normal, token_f1, typeset
from score_distill.agent.grading.values import Code, Words, needs_mathematics
from score_distill.agent.mathematics import verifier
from score_distill.agent.trajectory import Verdict
from score_distill.api import AnswerType, Metric

F1_RIGHT = 0.8
LONGEST_MATHEMATICS = 1000


def check(metric: Metric, answer: str | None, reference: str, kind: AnswerType | None = None) -> Verdict:
    """The rules' verdict; ``correct`` is None when they cannot decide. May block for seconds under ``math``.

    exact: equal after `normal`. math: equal as what the reference is (``kind``; found when not given). f1: token F1 of
    at least 0.8.
    """
    if answer is None:
        return Verdict(correct=False, by="exact", detail="no answer")
    if metric == "math":
        if typeset(answer) == typeset(reference):
            return Verdict(correct=True, by="exact")
        equal = math_equal(answer, reference, kind)
        return Verdict(correct=equal, by="none" if equal is None else "math")
    if normal(answer) == normal(reference):
        return Verdict(correct=True, by="exact")
    if metric == "exact":
        return Verdict(correct=False, by="exact")
    score = token_f1(answer, reference)
    return Verdict(correct=score >= F1_RIGHT, by="f1", detail=f"{score:.3f}")


def math_equal(answer: str, reference: str, kind: AnswerType | None = None) -> bool | None:
    """Whether both are the same value; None when the reference cannot be read, or when careful people would argue.

    What needs no mathematics is compared here, in microseconds.
    """
    if len(answer) > LONGEST_MATHEMATICS + len(reference):
        return False
    gold, given = read_as(reference, kind), read_as(answer, kind)
    if isinstance(gold, Words) and not re.search(r"[\w∅]", gold.text):
        return None
    if needs_mathematics(gold) or needs_mathematics(given):
        return verifier().equal(answer, reference, kind)
    equal = same(gold, given)
    return False if equal is None and isinstance(gold, Code) else equal


__all__ = ["F1_RIGHT", "bare", "check", "math_equal", "normal", "token_f1"]
