"""Facts of the made-up run, read back from the real artifacts: whole, half done, and not begun."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.report.conftest import MadeUpRun

from score_distill.artifacts.steps import StepWriter
from score_distill.artifacts.store import Store
from score_distill.report import Facts, gather, write_report
from score_distill.report.charts import dev_chart
from score_distill.report.gather import PROBLEMS, REASONS


def test_a_run_that_was_not_begun_says_what_is_missing(store: Store, run_key: str, tmp_path: Path) -> None:
    facts = gather(store, run_key)
    assert facts.run.state == "not started"
    assert facts.answer == "0 of 7 steps are done; no model has been evaluated yet."
    assert [one.state for one in facts.steps] == ["waiting"] * 7
    assert facts.missing[-1] == "evaluate has not finished: no scores"
    assert "evaluate has not finished" in write_report(store, run_key, tmp_path / "out").read_text("utf-8")


def test_a_run_half_done_shows_what_there_is(store: Store, run_key: str, made_up: Any) -> None:
    made_up.finish("mentor")
    with StepWriter(store, run_key, "sft").journal("outcomes") as journal:
        journal.append({"id": "a"})
        journal.append({"id": "b"})
    facts = gather(store, run_key)
    states = {one.name: one.state for one in facts.steps}
    assert states == {
        "prepare": "done",
        "demonstrate": "done",
        "warmup": "done",
        "mentor": "done",
        "sft": "begun",
        "rl": "waiting",
        "evaluate": "waiting",
    }
    assert facts.steps[4].message == "2 tasks have an outcome so far"
    assert facts.run.state == "unfinished"
    assert facts.run.seconds is None
    assert facts.first_errors and facts.samples and not facts.scores
    assert len(facts.missing) == 3


def test_a_finished_run_misses_nothing(finished: Facts) -> None:
    assert finished.run.state == "finished"
    assert finished.run.seconds == 2 + 21 + 34 + 148 + 61 + 242 + 74
    assert finished.missing == ()
    assert [one.model for one in finished.scores] == ["base", "init", "sft", "rl", "teacher"]
    assert {one.ruling for one in finished.comparisons} == {"better", "unclear"}
    assert (finished.scores[1].n, finished.scores[1].unjudged) == (199, 1)


def test_a_control_is_part_of_the_facts_and_of_the_answer(store: Store, run_key: str) -> None:
    MadeUpRun(store, control=0.2).finish()
    facts = gather(store, run_key)
    assert [one.model for one in facts.scores] == ["base", "init", "imitation", "sft", "rl", "teacher"]
    assert facts.control is not None
    assert facts.control.correction.model_dump() == {"teacher_tokens": 155_000, "steps": 180, "rows": 262}
    assert facts.control.imitation.model_dump() == {"teacher_tokens": 156_800, "steps": 180, "rows": 640}
    assert "Correction paid: " in facts.answer
    assert "(rl)" in facts.answer
    assert [one.name for one in facts.steps][-3:] == ["more-demos", "imitate", "evaluate"]
    assert ("more-demos", "the teacher's answer was wrong", 2) in [(d.step, d.why, d.count) for d in facts.dropped]
    assert facts.curves.imitate


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (0.2, "The verified prefixes paid: "),
        (0.9, "The verified prefixes did not pay, whole tasks did better: "),
        (0.0, "not known: failed: torch.OutOfMemoryError: tried to allocate 2 GiB."),
    ],
)
def test_reinforcement_of_whole_tasks_is_compared_with_that_from_prefixes(
    store: Store, run_key: str, rate: float, said: str
) -> None:
    MadeUpRun(store, full_horizon=rate).finish()
    facts = gather(store, run_key)
    assert said in facts.answer
    assert ("rl", "sft") in [(one.new, one.old) for one in facts.comparisons]
    assert ("full-horizon" in [one.model for one in facts.scores]) is (rate > 0)
    assert [one.name for one in facts.steps][-3:] == ["rl", "full-horizon", "evaluate"]
    assert any("failed: torch" in one.text for one in facts.problems) is (rate == 0)


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (0.2, "Corrections and rewards beat on-policy distillation: "),
        (0.9, "On-policy distillation did better than corrections and rewards: "),
        (0.0, "beat on-policy distillation is not known: failed: the trainer diverged."),
    ],
)
def test_on_policy_distillation_stands_beside_the_other_control(
    store: Store, run_key: str, tmp_path: Path, rate: float, said: str
) -> None:
    MadeUpRun(store, full_horizon=0.2, on_policy=rate).finish()
    facts = gather(store, run_key)
    assert "The verified prefixes paid: " in facts.answer
    assert said in facts.answer
    assert ("distil-on-policy" in [one.model for one in facts.scores]) is (rate > 0)
    assert (("rl", "distil-on-policy") in [(one.new, one.old) for one in facts.comparisons]) is (rate > 0)
    assert [one.name for one in facts.steps][-4:] == ["rl", "full-horizon", "distil-on-policy", "evaluate"]
    page = write_report(store, run_key, tmp_path).read_text("utf-8")
    assert ("On-policy distillation: reverse KL" in page) is (rate > 0)
    assert ("--distil-on-policy" in page) and (("var(--distil-on-policy)" in page) is (rate > 0))


def test_the_student_of_each_round_is_a_row_of_the_ladder(store: Store, run_key: str, tmp_path: Path) -> None:
    made = MadeUpRun(store, control=0.2, later={"sft-2": 0.6})
    made.finish("sft")
    halfway = gather(store, run_key)
    assert [one.name for one in halfway.steps][3:8] == ["mentor", "sft", "mentor-2", "sft-2", "rl"]
    made = MadeUpRun(store, control=0.2, later={"sft-2": 0.6})
    made.finish()
    facts = gather(store, run_key)
    assert [one.model for one in facts.scores] == ["base", "init", "imitation", "sft", "sft-2", "rl", "teacher"]
    pairs = [(one.new, one.old) for one in facts.comparisons]
    assert {("sft-2", "imitation"), ("sft", "init"), ("sft-2", "sft"), ("rl", "sft-2")} <= set(pairs)
    assert ("sft", "imitation") not in pairs
    assert "(sft-2) against" in facts.answer
    assert facts.control is not None
    assert facts.control.correction.teacher_tokens == 2 * 155_000
    assert facts.curves.rounds.keys() == {"sft-2"}
    both = [one.count for one in facts.dropped if one.step in ("mentor", "mentor-2") and "no JSON" in one.why]
    assert both == [2, 2]
    page = write_report(store, run_key, tmp_path).read_text("utf-8")
    assert "SFT of round 2: loss" in page
    assert "sft-2: after corrections of 2 rounds" in page


def test_a_round_that_has_begun_is_missed_until_it_is_done(store: Store, run_key: str) -> None:
    made = MadeUpRun(store)
    made.finish("sft")
    assert not any("mentor-2" in line for line in gather(store, run_key).missing)
    made.mentor("mentor-2")
    assert "sft-2 has not finished: no student after corrections (sft) in round 2" in gather(store, run_key).missing


def test_a_control_that_left_no_student_is_told_in_the_answer(store: Store, run_key: str, tmp_path: Path) -> None:
    MadeUpRun(store, control=0.0).finish()
    facts = gather(store, run_key)
    said = "Whether correction paid is not known: no student by imitation alone: no row to train on."
    assert facts.answer.endswith(said)
    assert said in write_report(store, run_key, tmp_path).read_text("utf-8")


def test_a_control_that_has_begun_is_missed_until_it_is_done(store: Store, run_key: str) -> None:
    made = MadeUpRun(store, control=0.2)
    made.finish("rl")
    assert not any("imitate" in line for line in gather(store, run_key).missing)
    made.more_demos()
    assert gather(store, run_key).missing[0] == (
        "imitate has not finished: no student by imitation alone (imitation) to compare with"
    )
    assert gather(store, run_key).control is None


def test_tokens_are_summed_by_role_and_purpose_and_kept_by_step(finished: Facts) -> None:
    assert [(one.role, one.purpose) for one in finished.tokens] == [
        ("teacher", "demonstrate"),
        ("teacher", "evaluate"),
        ("teacher", "judge"),
        ("teacher", "reenact"),
        ("student", "act"),
        ("student", "evaluate"),
        ("student", "rollout"),
    ]
    mentor = next(one for one in finished.steps if one.name == "mentor")
    assert sum(one.prompt for one in mentor.usage if one.role == "teacher") == 1450 * 190
    assert (mentor.attempt, mentor.seconds) == (2, 148)


def test_dropped_by_rows_where_there_are_rows_else_by_counts(finished: Facts) -> None:
    found = {(one.step, one.why): one.count for one in finished.dropped}
    assert found == {
        ("prepare", "13-gram of ledger"): 9,
        ("prepare", "exact double of train"): 1,
        ("demonstrate", "the teacher's answer was wrong"): 2,
        ("demonstrate", "the teacher's attempt ended out of steps"): 1,
        ("mentor", "set aside: the judge's reply was no JSON in 3 tries"): 2,
        ("sft", "long"): 4,
        ("rl", "lost judge"): 17,
    }


def test_curves_and_dev_scores(finished: Facts) -> None:
    assert len(finished.curves.warmup) == 60
    assert len(finished.curves.sft) == 180
    assert finished.curves.rl[-1]["update"] == 80
    assert [one.update for one in finished.curves.dev] == list(range(0, 81, 10))
    assert finished.curves.dev[0].score == 0.4


def test_the_kept_student_is_marked_though_a_later_look_was_higher(finished: Facts) -> None:
    dev = finished.curves.dev
    highest = max(dev, key=lambda one: one.score)
    assert [(one.update, one.score) for one in dev if one.kept] == [(60, 0.475)]
    assert (highest.update, highest.score) == (80, 0.485)
    chart = dev_chart(dev, "dev")
    assert chart is not None
    assert "kept 47.5 % at 60" in chart.drawing


def test_a_finished_run_without_rl_does_not_wait_for_it(store: Store, run_key: str, made_up: Any) -> None:
    for name in ("prepare", "demonstrate", "warmup", "mentor", "sft", "evaluate"):
        getattr(made_up, name)()
    facts = gather(store, run_key)
    assert "rl" not in [one.name for one in facts.steps]
    assert facts.run.state == "finished"


def test_report_json_is_for_programs(store: Store, run_key: str, made_up: Any, tmp_path: Path) -> None:
    made_up.prepare()
    made_up.evaluate()
    path = write_report(store, run_key, tmp_path / "out")
    assert path == tmp_path / "out/report.html"
    assert sorted(one.name for one in path.parent.iterdir()) == ["report.html", "report.json"]
    found = json.loads((path.parent / "report.json").read_text("utf-8"))
    assert {"model", "eval", "score", "low", "high", "n"} <= set(found["scores"][0])
    assert [one["name"] for one in found["steps"]] == ["prepare", "evaluate"]
    assert {"role", "purpose", "calls", "prompt", "cached", "completion"} == set(found["tokens"][0])


def test_the_same_run_gives_the_same_bytes(store: Store, run_key: str, made_up: Any, tmp_path: Path) -> None:
    made_up.finish("warmup")
    one, other = (write_report(store, run_key, tmp_path / name) for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert one.with_suffix(".json").read_bytes() == other.with_suffix(".json").read_bytes()


def test_free_text_of_a_step_is_bounded(store: Store, run_key: str, made_up: Any) -> None:
    rows = [{"id": str(i), "why": f"reason {i}", "against": None} for i in range(100)]
    problems = [f"problem {i} " + "x" * 1000 for i in range(200)]
    made_up.commit("prepare", {"dropped.jsonl": rows}, {"read": 100}, problems=problems)
    facts = gather(store, run_key)
    assert {one.why: one.count for one in facts.dropped}["other reasons"] == 100 - REASONS
    assert len(facts.dropped) == REASONS + 1
    assert len(facts.problems) == PROBLEMS + 1
    assert facts.problems[-1].text == "and 150 more"
    assert all(len(one.text) <= 300 for one in facts.problems)
