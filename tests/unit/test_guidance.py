"""What a plan warns of: by tables of manifests and counts, and by hand."""

from typing import Any

import pytest
from tests.unit.test_plan import run

from score_distill.control.estimate import Tasks
from score_distill.control.guidance import GAIN, dev_tasks_needed, guidance, optimizer_steps, share_alike
from score_distill.control.plan import Done

BARE = {"model": "m", "prompt": "Bare"}
AGENT = {"maxSteps": 3, "stepTokens": 100, "observationChars": 1024}  # a conversation of 126 tokens
MANY = Tasks(cold_start=10**7, dev=10**4, mentor=10**7, evaluation=300)


def warned(method: dict[str, Any], tasks: Tasks, **done: dict[str, int]) -> tuple[str, ...]:
    spec = run(student=BARE, method={"agent": AGENT, "rl": {"devTasks": 1000}} | method).spec
    return guidance(spec, tasks, {name: Done(counts=counts) for name, counts in done.items()})


def test_a_large_run_is_warned_of_nothing() -> None:
    assert warned({}, MANY) == ()
    assert warned({}, MANY, mentor={"solved": 3 * 10**6, "corrected": 6 * 10**6, "unsolved": 10**6}) == ()


@pytest.mark.parametrize(
    ("tokens", "training", "steps"),
    [
        (1, {"batchTokens": 1000, "packTokens": 100, "epochs": 3}, 3),
        (1000, {"batchTokens": 1000, "packTokens": 100, "epochs": 3}, 3),
        (1001, {"batchTokens": 1000, "packTokens": 100, "epochs": 3}, 6),
        (1001, {"batchTokens": 999, "packTokens": 100, "epochs": 1}, 2),
        (1000, {"batchTokens": 100, "packTokens": 500, "epochs": 1}, 2),
        (0, {"epochs": 3}, 0),
    ],
)
def test_optimizer_steps_by_hand(tokens: int, training: dict[str, int], steps: int) -> None:
    assert optimizer_steps(tokens, run(method={"sft": training}).spec.method.sft) == steps


SMALL = {"batchTokens": 12_600, "packTokens": 1260, "epochs": 2}  # 100 rows a step


@pytest.mark.parametrize(
    ("rows", "steps"),
    [(10_000, None), (9_900, 198), (100, 2)],
)
def test_a_warm_up_of_few_steps_is_told_with_its_arithmetic(rows: int, steps: int | None) -> None:
    tasks = Tasks(cold_start=rows, dev=10**4, mentor=10**7, evaluation=1)
    found = [one for one in warned({"warmup": SMALL}, tasks) if one.startswith("warmup")]
    assert len(found) == (steps is not None)
    if steps:
        assert f"about {steps} optimizer steps at most ({rows:,} rows of 126 tokens" in found[0]


def test_what_the_steps_before_counted_takes_the_place_of_the_shares() -> None:
    method = {"warmup": SMALL, "sft": SMALL | {"keepSolved": 0.5}, "split": {"sft": 0.5}}
    tasks = Tasks(cold_start=20_000, dev=10**4, mentor=40_000, evaluation=1)
    assert warned(method, tasks) == ()
    [text] = warned(method, tasks, demonstrate={"accepted": 5000})
    assert text.startswith("warmup will make about 100 optimizer steps")
    counts = {"solved": 8000, "corrected": 6000, "unsolved": 26_000}  # (6000 + 4000) / 2 rows
    [text] = warned(method, tasks, demonstrate={"accepted": 5000}, warmup={}, mentor=counts)
    assert text.startswith("sft will make about 100 optimizer steps at most (5,000 rows")
    assert warned(method, tasks, demonstrate={"accepted": 5000}, warmup={}, mentor=counts, sft={}) == ()
    again = method | {"sft": method["sft"] | {"replayDemonstrations": True}}
    assert warned(again, tasks, demonstrate={"accepted": 15_000}, warmup={}, mentor=counts) == ()


def test_each_round_trains_on_what_all_rounds_so_far_corrected() -> None:
    method = {"sft": SMALL | {"keepSolved": 0}, "split": {"sft": 0.5}, "rounds": 2}
    tasks = Tasks(cold_start=10**7, dev=10**4, mentor=38_000, evaluation=1)
    [text] = warned(method, tasks)
    assert text.startswith("sft will make about 190 optimizer steps at most (9,500 rows")
    first = {"corrected": 4000, "unsolved": 5500}
    assert [one.split()[0] for one in warned(method, tasks, mentor=first)] == ["sft"]  # 13,500 rows for sft-2
    second = {"corrected": 6000, "unsolved": 22_500}  # a third of them for SFT
    [_, text, _] = warned(method, tasks, mentor=first, **{"mentor-2": second})
    assert text.startswith("sft-2 will make about 120 optimizer steps at most (6,000 rows")


@pytest.mark.parametrize(("mentored", "rounds", "fewer"), [(400, 4, None), (400, 5, 4), (90, 2, 1), (90, 1, None)])
def test_rounds_with_too_few_tasks_are_told_with_how_many_would_do(mentored: int, rounds: int, fewer: int) -> None:
    tasks = Tasks(cold_start=10**7, dev=10**4, mentor=mentored, evaluation=1)
    found = [one for one in warned({"rounds": rounds}, tasks) if one.startswith("each of")]
    assert len(found) == (fewer is not None)
    if found:
        assert f"each of {rounds} rounds mentors about {round(mentored / 2 / rounds)} tasks" in found[0]
        assert f"lower spec.method.rounds to {fewer}," in found[0]


def test_the_batch_that_would_be_right_is_named_where_there_is_one() -> None:
    tasks = Tasks(cold_start=1000, dev=10**4, mentor=10**7, evaluation=1)
    [text] = warned({"warmup": {"epochs": 4, "packTokens": 256}}, tasks)
    assert "lower spec.method.warmup.batchTokens to about 2,520, raise its epochs" in text
    [text] = warned({"warmup": {"epochs": 1, "packTokens": 8192, "batchTokens": 8192}}, tasks)
    assert "teach little: raise its epochs" in text


def test_the_dev_tasks_that_a_gain_needs() -> None:
    """A gain of 5 points, 15 of 100 tasks done differently: ((1.645 * 0.387 + 0.842 * 0.384) / 0.05) ** 2 = 369."""
    assert dev_tasks_needed(GAIN) == 369
    assert dev_tasks_needed(0.1) < 369 < dev_tasks_needed(0.02)


@pytest.mark.parametrize(
    ("dev", "looked", "cure"),
    [(400, 400, None), (5000, 369, None), (5000, 200, "rl.devTasks"), (100, 500, "split.dev")],
)
def test_too_few_dev_tasks_are_told_with_their_cure(dev: int, looked: int, cure: str | None) -> None:
    tasks = Tasks(cold_start=10**7, dev=dev, mentor=10**7, evaluation=1)
    found = warned({"rl": {"devTasks": looked}}, tasks)
    assert len(found) == (cure is not None)
    if cure:
        assert f"by {min(dev, looked)} dev tasks: too few" in found[0]
        assert f"about 369 would be needed (raise spec.method.{cure})" in found[0]
    assert warned({"rl": {"devTasks": looked, "enabled": False}}, tasks) == ()


@pytest.mark.parametrize(
    ("solved", "size", "alike", "cure"),
    [
        (5, 16, None, ""),
        (3, 16, "61%", "raise spec.method.rl.groupSize"),
        (10, 4, "66%", "raise spec.method.rl.groupSize"),
        (50, 2, None, ""),
        (97, 16, "61%", "give harder tasks"),
        (0, 256, "100%", "raise spec.method.rl.groupSize"),
    ],
)
def test_groups_that_would_mostly_end_alike(solved: int, size: int, alike: str | None, cure: str) -> None:
    counts = {"solved": solved * 10**5, "corrected": (100 - solved) * 10**5, "set_aside": 10**8, "corrections": 9}
    found = warned({"rl": {"groupSize": size, "devTasks": 1000}}, MANY, mentor=counts, sft={})
    assert len(found) == (alike is not None)
    if alike:
        assert f"solved {solved}% of the mentored tasks alone" in found[0]
        assert f"about {alike} would all end alike" in found[0]
        assert cure in found[0]


def test_the_share_of_groups_that_end_alike() -> None:
    assert [share_alike(rate, 2) for rate in (0.0, 0.5, 1.0)] == [1.0, 0.5, 1.0]
