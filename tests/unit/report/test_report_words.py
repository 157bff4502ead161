"""What people read: legible text of models, numbers with units, and the answer in one sentence."""

import pytest

from score_distill.report.answer import answer, costs
from score_distill.report.facts import Comparison, Control, Effort, Score, StepFact
from score_distill.report.sanitize import legible, one_line
from score_distill.report.significance import Paired, compare, sentence
from score_distill.report.wording import duration, number, percent, rounded, span, tokens, unbroken


def test_a_short_text_stays_as_it_is() -> None:
    assert legible("x = 1\n\tprint('naïve 数学 👩‍🔬')", 100) == "x = 1\n\tprint('naïve 数学 👩‍🔬')"


def test_a_text_of_megabytes_is_cut_in_the_middle() -> None:
    found = legible("a" * 5_000_000 + "b" * 5_000_000, 100)
    assert found == "a" * 50 + "\n[... 9,999,900 characters left out ...]\n" + "b" * 50


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "⟨U+001B⟩[31mred"),
        ("\x00\x07\r", "⟨U+0000⟩⟨U+0007⟩⟨U+000D⟩"),
        ("\u202egnp.exe", "⟨U+202E⟩gnp.exe"),
        ("\ud800", "⟨U+D800⟩"),
        ("\u2028", "⟨U+2028⟩"),
    ],
)
def test_what_acts_or_hides_is_shown_by_its_code_point(text: str, shown: str) -> None:
    assert legible(text, 100) == shown
    legible(text, 100).encode()


def test_one_line_has_no_line_end_and_a_bound() -> None:
    assert one_line("a\n b\x1b", 10) == "a b⟨U+001B⟩"
    assert one_line("word " * 1_000_000, 12) == "word word w…"


def test_numbers() -> None:
    assert [tokens(n) for n in (0, 950, 12_345, 999_600, 4_560_000, 12_000_000_000)] == [
        "0",
        "950",
        "12.3 k",
        "1,000 k",
        "4.56 M",
        "12 G",
    ]
    assert [duration(s) for s in (0.04, 9.94, 42, 59.6, 185, 7620)] == [
        "0.0 s",
        "9.9 s",
        "42 s",
        "1 min 00 s",
        "3 min 05 s",
        "2 h 07 min",
    ]
    assert (percent(0.1234), percent(None), span(0.1, 0.2), span(None, None)) == ("12.3 %", "–", "10.0 to 20.0 %", "–")
    assert (number(0.123456), number(None), rounded(219_769), rounded(343)) == ("0.1235", "–", "220,000", "340")


def test_lines_do_not_break_inside_a_number() -> None:
    assert unbroken("rose 12.3 % by +1.1 points [-1.0, 3.2], p = 0.31 and 5 more") == (
        "rose 12.3\u00a0% by +1.1\u00a0points [-1.0,\u00a03.2], p\u00a0=\u00a00.31 and 5 more"
    )


def score(model: str, right: int, n: int = 1000) -> Score:
    share = right / n if n else None
    return Score(model=model, eval="ledger", score=share, low=share, high=share, right=right, n=n, unjudged=0)


def comparison(new: str, old: str, table: Paired) -> Comparison:
    found = compare(table)
    assert found is not None
    return Comparison(
        eval="ledger",
        new=new,
        old=old,
        n=table.n,
        only_new=table.only_new,
        only_old=table.only_old,
        sentence=sentence(new, old, found, table.n),
        **vars(found),
    )


def test_the_answer_of_a_whole_run() -> None:
    scores = [score("base", 130), score("rl", 432), score("teacher", 973)]
    assert answer(scores, [comparison("rl", "base", Paired(100, 332, 30, 538))], []) == (
        "The student rose from 13.0 % (base) to 43.2 % (rl) of 1,000 ledger tasks; the teacher stands at 97.3 %."
    )


def test_the_answer_says_when_nothing_was_shown_and_when_it_got_worse() -> None:
    scores = [score("base", 130), score("sft", 135)]
    assert "cannot be told from chance" in answer(scores, [comparison("sft", "base", Paired(100, 35, 30, 835))], [])
    scores = [score("base", 430), score("sft", 130)]
    assert "The student fell from 43.0 %" in answer(scores, [comparison("sft", "base", Paired(100, 30, 330, 540))], [])


CONTROL = Control(
    correction=Effort(teacher_tokens=1_210_000, steps=340, rows=900),
    imitation=Effort(teacher_tokens=1_190_000, steps=340, rows=2100),
)
STUDENTS = [score("base", 130), score("imitation", 400), score("sft", 430)]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (Paired(100, 332, 30, 538), "Correction paid: 43.0 % (sft) against 40.0 % (imitation)."),
        (Paired(100, 30, 332, 538), "Correction did not pay, plain imitation did better: 43.0 % (sft) against 40.0 %"),
        (Paired(100, 33, 30, 837), "Whether correction paid cannot be told from chance: 43.0 % (sft) against 40.0 %"),
    ],
)
def test_the_answer_of_a_run_with_a_control_says_whether_correction_paid(table: Paired, said: str) -> None:
    came = comparison("sft", "base", Paired(100, 332, 30, 538))
    found = answer(STUDENTS, [came, comparison("sft", "imitation", table)], [], CONTROL)
    assert found.startswith("The student rose from 13.0 % (base) to 43.0 % (sft) of 1,000 ledger tasks. ")
    assert said in found


def test_the_control_is_no_station_on_the_way_of_the_student() -> None:
    tested = [comparison("sft", "imitation", Paired(100, 332, 30, 538))]
    found = answer(STUDENTS[1:], tested, [], CONTROL)
    assert found.startswith("43.0 % of 1,000 ledger tasks are solved by sft. Correction paid: ")


def test_the_answer_says_that_the_control_is_lacking_and_why() -> None:
    scores, lacking = [score("base", 130), score("sft", 430)], CONTROL.model_copy(update={"lacks": "no rows"})
    assert answer(scores, [], [], lacking).endswith("Whether correction paid is not known: no rows.")
    assert answer(scores, [], [], CONTROL).endswith("not known: the two were not scored on the same tasks.")
    assert "paid" not in answer(scores, [], [])


def test_what_the_two_sides_of_the_control_cost() -> None:
    assert costs(CONTROL) == (
        "Control: correction cost 1.21 M teacher tokens and 340 optimizer steps on 900 rows, "
        "imitation 1.19 M, 340 and 2,100."
    )
    for spent, said in (
        (1_000_000, "Correction is favoured by 17% of"),
        (1_400_000, "Imitation is favoured by 16% of"),
    ):
        imitation = CONTROL.imitation.model_copy(update={"teacher_tokens": spent})
        assert said in costs(CONTROL.model_copy(update={"imitation": imitation}))


@pytest.mark.parametrize(
    ("rl", "control", "said"),
    [
        (0, 0, "prefixes paid is not known: both steps left the SFT student unchanged (43.0 %)."),
        (4, 0, "prefixes paid cannot be told from chance: 43.0 % (rl) against 43.0 % (full-horizon)."),
    ],
)
def test_two_steps_that_changed_nothing_say_nothing_of_each_other(rl: int, control: int, said: str) -> None:
    scores = [score("sft", 430), score("full-horizon", 430), score("rl", 430)]
    steps = [
        StepFact(name=name, state="done", counts={"best_update": kept})
        for name, kept in (("rl", rl), ("full-horizon", control))
    ]
    same = comparison("rl", "full-horizon", Paired(430, 0, 0, 570))
    assert answer(scores, [same], steps).endswith(f"Whether the verified {said}")


def test_the_answer_with_one_student_or_with_none() -> None:
    assert answer([score("base", 130)], [], []) == "13.0 % of 1,000 ledger tasks are solved by base."
    assert answer([score("teacher", 970)], [], []) == "No student has been scored on ledger yet."
    assert answer([score("base", 0, 0)], [], []) == "No student has been scored on ledger yet."
