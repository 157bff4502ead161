"""How a correction is put into a trajectory."""

import pytest

from score_distill.agent.mentor import splice
from score_distill.agent.trajectory import Correction, Step


def step(name: str, author: str = "student") -> Step:
    return Step(author=author, text=name, thought="", code=name, observation="")


STUDENT = [step(name) for name in "abcd"]
FIX = step("fix", "teacher")


@pytest.mark.parametrize("k", [1, 2, 4])
def test_splice_puts_the_step_after_what_stood_before_it(k: int):
    (one,) = splice([], STUDENT, k, FIX, "why")
    assert one == Correction(k=k, prefix=STUDENT[: k - 1], rejected=(STUDENT[k - 1],), chosen=FIX, advice="why")


def test_an_earlier_correction_overwrites_and_keeps_what_was_rejected():
    first = splice([], STUDENT, 3, FIX, "")
    steps = [*STUDENT[:2], FIX, step("e")]
    later = splice(first, steps, 2, FIX, "")
    assert [(one.k, one.kept) for one in later] == [(3, False), (2, True)]
    assert [each.text for each in later[1].rejected] == ["b", "c"]


def test_a_correction_of_a_correction_rejects_the_students_step():
    first = splice([], STUDENT, 2, FIX, "")
    later = splice(first, [STUDENT[0], FIX, step("e")], 2, step("better", "teacher"), "")
    assert [(one.k, one.kept) for one in later] == [(2, False), (2, True)]
    assert [each.text for each in later[1].rejected] == ["b"]


def test_a_later_correction_leaves_the_earlier_ones_standing():
    first = splice([], STUDENT, 1, FIX, "")
    later = splice(first, [FIX, step("e"), step("f")], 3, FIX, "")
    assert [(one.k, one.kept, [each.text for each in one.rejected]) for one in later] == [
        (1, True, ["a"]),
        (3, True, ["f"]),
    ]
