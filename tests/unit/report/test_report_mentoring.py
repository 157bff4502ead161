"""Folding mentored tasks: histograms by hand, and samples that are bounded, spread and independent of the order."""

import random
from typing import Any

from score_distill.agent.trajectory import Correction, Mentored, Step, Task, Trajectory
from score_distill.report.mentoring import PREFIX_STEPS, SAMPLES, TEXT_CHARS, MentorFold


def turn(text: str = "x = 1", **more: Any) -> Step:
    return Step(author="student", text=text, thought="", code=text, observation="None", **more)


def correction(k: int, **more: Any) -> Correction:
    chosen = Step(author="teacher", text="x = 2", thought="", code="x = 2", observation="None")
    return Correction(k=k, prefix=(turn(),) * (k - 1), rejected=(turn("x = 0"),), chosen=chosen, **more)


def mentored(name: str, outcome: Any, *corrections: Correction, leaks: int = 0, note: str = "") -> Mentored:
    return Mentored(
        task=Task(id=name, question="?", answer="1"),
        split="sft",
        outcome=outcome,
        trajectory=Trajectory(task=name, steps=(turn(),), ending="answered"),
        corrections=corrections,
        leaks=leaks,
        note=note,
    )


def folded(rows: list[Mentored]) -> MentorFold:
    fold = MentorFold()
    for row in rows:
        fold.add(row)
    return fold


ROWS = [
    mentored("a", "solved"),
    mentored("b", "corrected", correction(2)),
    mentored("c", "corrected", correction(2), correction(5), leaks=2),
    mentored("d", "unsolved", correction(1), leaks=1),
    mentored("e", "unfinished"),
    mentored("f", "set_aside", note="no JSON"),
]


def test_histograms_and_leaks() -> None:
    found = folded(ROWS)
    assert found.first_errors == {1: 1, 2: 2, 5: 1}
    per_task = found.corrections_per_task()
    assert per_task.right_after == {0: 1, 1: 1, 2: 1}
    assert (per_task.unsolved, per_task.unfinished, per_task.set_aside) == (1, 1, 1)
    assert (found.leaks().repairs, found.leaks().tasks) == (3, 2)
    assert found.set_aside == {"mentor": {"no JSON": 1}}


def test_unknown_states_are_counted() -> None:
    lost = Trajectory(task="a", steps=(turn(), turn().model_copy(update={"state": None})), ending="answered")
    found = folded([*ROWS, ROWS[0].model_copy(update={"attempts": (lost,)})]).states()
    assert (found.steps, found.unknown) == (len(ROWS) + 3, 1)


def test_samples_are_few_spread_over_k_and_the_same_in_any_order() -> None:
    rows = [mentored(f"t{i}", "corrected", correction(1 if i < 900 else i % 5 + 1)) for i in range(1000)]
    found = folded(rows).samples()
    assert len(found) == SAMPLES
    assert {one.k for one in found} == {1, 2, 3, 4, 5}
    assert [one.k for one in found] == sorted(one.k for one in found)
    assert folded(random.Random(5).sample(rows, len(rows))).samples() == found


def test_samples_prefer_tasks_that_ended_right() -> None:
    rows = [mentored(f"wrong{i}", "unsolved", correction(2)) for i in range(50)]
    rows += [mentored(f"right{i}", "corrected", correction(2)) for i in range(SAMPLES)]
    assert {one.outcome for one in folded(rows).samples()} == {"corrected"}


def test_memory_of_the_samples_is_bounded() -> None:
    fold = folded([mentored(f"t{i}", "corrected", correction(3)) for i in range(500)])
    assert sum(len(held) for held in fold.candidates.values()) == SAMPLES


def test_a_correction_that_no_longer_stands_is_not_shown() -> None:
    (found,) = folded([mentored("a", "corrected", correction(4, kept=False), correction(2))]).samples()
    assert found.k == 2


def test_long_prefixes_and_texts_are_cut() -> None:
    long = correction(20).model_copy(update={"advice": "z" * 10_000_000})
    (found,) = folded([mentored("a", "corrected", long)]).samples()
    assert (len(found.prefix), found.hidden) == (PREFIX_STEPS, 19 - PREFIX_STEPS)
    assert len(found.advice) < TEXT_CHARS + 100


def test_a_turn_that_could_not_be_taken_apart_is_shown_whole() -> None:
    loose = Step(author="student", text="I do not know.", thought="", code=None, observation="No code.")
    (found,) = folded([mentored("a", "corrected", correction(1).model_copy(update={"rejected": (loose,)}))]).samples()
    assert (found.rejected.thought, found.rejected.code) == ("I do not know.", None)
