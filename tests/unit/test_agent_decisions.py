"""Rewards, items, equality, seeds, splits: pure decisions with their values by hand."""

import pytest

from score_distill.agent.equality import normal_code, repeats, same_effect, same_step
from score_distill.agent.rewards import Judged, reward
from score_distill.agent.rl_starts import KEEP, items
from score_distill.agent.seeds import part_of, seed_of, share_of
from score_distill.agent.trajectory import Correction, Mentored, Step, Task, Trajectory
from score_distill.api import Rewards, Split

TIERS = Rewards(final=1.0, key=0.5, avoid=0.1)


@pytest.mark.parametrize(
    ("answered", "correct", "key", "value"),
    [
        (True, True, "chosen", 1.0),
        (True, True, "rejected", 1.0),
        (True, True, "other", 1.0),
        (True, True, "final", 1.0),
        (True, True, "none", 1.0),
        (True, True, None, 1.0),
        (True, False, "chosen", 0.5),
        (True, False, "rejected", 0.0),
        (True, False, "final", 0.0),
        (True, False, "other", 0.1),
        (True, False, "none", 0.0),
        (True, False, None, None),
        (True, None, "chosen", None),
        (True, None, "none", None),
        (False, False, "chosen", 0.0),
        (False, False, "other", 0.0),
        (False, False, None, 0.0),
    ],
)
def test_reward(answered, correct, key, value):
    assert reward(Judged(answered, correct, key), TIERS, require_final_for_key=True) == value


@pytest.mark.parametrize(
    ("key", "value"), [("chosen", 0.5), ("other", 0.1), ("rejected", 0.0), ("none", 0.0), (None, None)]
)
def test_without_a_final_answer_the_key_step_can_count(key, value):
    assert reward(Judged(False, False, key), TIERS, require_final_for_key=False) == value


def test_a_key_step_that_is_merely_different_may_earn_nothing():
    tiers = Rewards(final=1.0, key=0.5, avoid=0.0)
    assert reward(Judged(True, False, "other"), tiers, require_final_for_key=True) == 0.0
    assert reward(Judged(True, False, "chosen"), tiers, require_final_for_key=True) == 0.5


def step(code: str | None, observation: str = "None", **more: object) -> Step:
    return Step(**{"author": "student", "text": code or "", "thought": "", **more}, code=code, observation=observation)


def test_same_effect_is_text_answer_and_state():
    one = step("x = 1", "1", answer="1", state="a")
    assert same_effect(one, step("y", "1", answer="1", state="a"))
    for other in ({"observation": "2"}, {"answer": "2"}, {"answer": None}, {"state": "b"}):
        assert not same_effect(one, one.model_copy(update=other))


def test_an_unknown_state_equals_none_not_even_an_unknown_one():
    one, other = step("x = 1", state=None), step("y = 1", state=None)
    assert not same_effect(one, other)
    assert same_step(one, other) is None
    assert not repeats(one, other)
    assert same_step(one, step("x=1", state=None)) is True
    assert repeats(one, step("x=1", state=None))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (step("x = 1", state="a"), step("x=1 # one", state="b"), True),
        (step("x = 1", state="a"), step("y = 1", state="a"), True),
        (step("x = 1", state="a"), step("y = 1", state="b"), None),
        (step("print(1)", "1", state="a"), step("print(2)", "2", state="a"), False),
        (step("f(1)", answer="1", state="a"), step("f(1)", state="a"), False),
        (step(None), step(None), True),
        (step(None), step("x"), False),
        (step("x"), step(None), False),
        (step(None, plan=True, thought="p"), step(None, plan=True, thought="p"), True),
        (step(None, plan=True, thought="p"), step(None, plan=True, thought="q"), None),
    ],
)
def test_same_step(one, other, same):
    assert same_step(one, other) is same


def test_normal_code_sees_syntax_and_not_layout():
    assert normal_code("x = ( 1 )\n# why\n") == normal_code("x=1")
    assert normal_code("x = 1") != normal_code("x = 2")
    assert normal_code(" def (") == "def ("
    assert normal_code("x\0") == "x\0"


@pytest.mark.parametrize(
    "code", ["(" * 5000 + ")" * 5000, "-" * 100_000 + "1", "1" + "+1" * 100_000, "a" + "[0]" * 50_000]
)
def test_code_without_bottom_is_compared_as_text(code):
    assert normal_code(f" {code} ") == code


def test_seeds_are_those_of_yesterday():
    # sha256("7\x1ftask\x1f1")[:4] >> 1; a change here makes every run start anew
    assert seed_of(7, "task", 1) == 2098188110
    assert seed_of("7", "task", 1) == 2098188110
    assert seed_of(7, "task", 2) != seed_of(7, "task", 1)
    assert share_of(7, "task", 1) == 2098188110 / 2**31
    assert all(0 <= share_of(n) < 1 for n in range(1000))


def test_a_share_is_a_share_of_all_ids():
    # 10,000 draws at 0.2: a standard deviation is 0.004
    assert sum(share_of(1, str(n)) < 0.2 for n in range(10_000)) / 10_000 == pytest.approx(0.2, abs=0.016)


def test_splits_are_disjoint_seeded_and_as_large_as_asked():
    split = Split(cold_start=0.2, dev=0.1, sft=0.5)
    parts = [part_of(str(n), split, 1) for n in range(10_000)]
    assert parts == [part_of(str(n), split, 1) for n in range(10_000)]
    assert parts != [part_of(str(n), split, 2) for n in range(10_000)]
    shares = {name: parts.count(name) / 10_000 for name in ("cold_start", "dev", "sft", "rl")}
    assert shares == pytest.approx({"cold_start": 0.2, "dev": 0.1, "sft": 0.35, "rl": 0.35}, abs=0.02)


def test_another_sft_share_moves_no_task_into_or_out_of_the_cold_start():
    few, many = Split(sft=0.2), Split(sft=0.8)
    for n in range(1000):
        one, other = part_of(str(n), few, 1), part_of(str(n), many, 1)
        assert (one == other) or (one, other) == ("rl", "sft")


TASK = Task(id="t", question="q", answer="a")
STEPS = tuple(step(f"s{n}") for n in range(1, 5))


def correction(
    k: int, *, kept: bool = True, plan: bool = False, rejected: tuple[Step, ...] = (STEPS[0],)
) -> Correction:
    chosen = step(None if plan else f"c{k}", plan=plan, author="teacher")
    return Correction(k=k, prefix=STEPS[: k - 1], rejected=rejected, chosen=chosen, kept=kept)


def mentored(outcome: str, *corrections: Correction, task: Task = TASK) -> Mentored:
    trajectory = Trajectory(task=task.id, steps=STEPS, ending="answered")
    return Mentored(task=task, split="rl", outcome=outcome, trajectory=trajectory, corrections=corrections)


def test_the_last_standing_correction_is_an_item_and_the_whole_task_another():
    given = mentored("corrected", correction(1), correction(4, kept=False), correction(3))
    key, full = items(given, "last", 0)
    assert (key.id, key.prefix, key.full_horizon) == ("t#3", STEPS[:2], False)
    assert (key.rejected, key.chosen) == (STEPS[0], correction(3).chosen)
    assert (full.id, full.prefix, full.chosen, full.full_horizon) == ("t#0", (), None, True)


def test_all_standing_corrections_are_items():
    given = mentored("corrected", correction(1), correction(4, kept=False), correction(3))
    assert [one.id for one in items(given, "all", 0)] == ["t#1", "t#3", "t#0"]


def test_a_corrected_plan_has_no_key_step():
    assert [one.id for one in items(mentored("corrected", correction(1, plan=True)), "all", 0)] == ["t#0"]


def test_a_correction_of_the_teachers_own_step_has_nothing_rejected():
    key, _ = items(mentored("corrected", correction(2, rejected=())), "last", 0)
    assert key.rejected is None


def test_corrections_of_a_task_that_stayed_wrong_are_no_items():
    assert all(one.full_horizon for one in items(mentored("unsolved", correction(2)), "all", 0))


@pytest.mark.parametrize("outcome", KEEP)
def test_shares_of_whole_tasks(outcome):
    tasks = [Task(id=str(n), question="q", answer="a") for n in range(2000)]
    kept = sum(len(list(items(mentored(outcome, task=task), "last", 0))) for task in tasks)
    assert kept / 2000 == pytest.approx(KEEP[outcome], abs=0.045)
