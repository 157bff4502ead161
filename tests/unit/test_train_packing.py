import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from score_distill.train.config import TrainConfig, learning_rate
from score_distill.train.packing import best_fit_decreasing, deal, efficiency, epoch_plan

CONFIG = TrainConfig(learning_rate=1.0, pack_tokens=1024, tokens_per_step=4096, seed=5)


def lengths(rows: int = 500, seed: int = 0) -> np.ndarray:
    """Like trajectories: most between 100 and 400 tokens, some much longer."""
    return np.clip(np.random.default_rng(seed).lognormal(5.3, 0.5, rows).astype(int), 20, 1024)


def rows_of(plan: list[list[list[int]]]) -> list[int]:
    return [row for step in plan for pack in step for row in pack]


def test_longest_first_into_the_tightest_room():
    # 7 and 6 open packs with room 3 and 4; 4 fills the room of 4 exactly, 3 that of 3, 2 opens one.
    assert best_fit_decreasing([3, 7, 2, 6, 4], capacity=10) == [[1, 0], [3, 4], [2]]


def test_best_fit_prefers_the_tighter_of_two_rooms():
    assert best_fit_decreasing([5, 7, 3], capacity=10) == [[1, 2], [0]]


@given(st.lists(st.integers(1, 64), max_size=80))
@settings(max_examples=60)
def test_packs_hold_every_row_once_within_capacity_and_no_two_would_fit_in_one(sizes: list[int]):
    packs = best_fit_decreasing(sizes, capacity=64)
    assert sorted(row for pack in packs for row in pack) == list(range(len(sizes)))
    loads = sorted(sum(sizes[row] for row in pack) for pack in packs)
    assert all(load <= 64 for load in loads)
    assert len(loads) < 2 or loads[0] + loads[1] > 64


@pytest.mark.parametrize("size", [0, 11])
def test_a_row_that_no_pack_can_hold_is_an_error(size: int):
    with pytest.raises(ValueError, match="row 1 has"):
        best_fit_decreasing([3, size], capacity=10)


def test_typical_lengths_fill_packs_to_95_percent():
    sizes = lengths(2000)
    assert efficiency(int(sizes.sum()), len(best_fit_decreasing(sizes, 1024)), 1024) >= 0.95


def test_an_epoch_holds_every_row_once_and_epochs_differ_in_order_only():
    sizes = lengths()
    first, second = epoch_plan(sizes, CONFIG, 0), epoch_plan(sizes, CONFIG, 1)
    assert sorted(rows_of(first)) == sorted(rows_of(second)) == list(range(500))
    assert rows_of(first) != rows_of(second)
    assert len(first) == len(second)


def test_the_plan_depends_on_seed_and_nothing_else():
    sizes = lengths()
    assert epoch_plan(sizes, CONFIG, 3) == epoch_plan(sizes.tolist(), CONFIG, 3)
    assert epoch_plan(sizes, CONFIG, 3) != epoch_plan(sizes, TrainConfig(1.0, pack_tokens=1024, seed=6), 3)


def test_steps_are_even_and_as_large_as_asked():
    sizes = [len(step) for step in epoch_plan(lengths(), CONFIG, 0)]
    assert max(sizes) <= CONFIG.packs_per_step == 4
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_any_number_of_ranks_runs_the_same_packs_in_equally_many_rounds(ranks: int):
    packs = ["a", "b", "c", "d", "e"]
    shares = [deal(packs, rank, ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(pack for share in shares for pack in share if pack) == packs


def test_learning_rate_warms_up_then_falls_as_a_cosine():
    config = TrainConfig(learning_rate=8.0, schedule="cosine", warmup=0.2)
    rates = [learning_rate(config, step, 10) for step in range(10)]
    assert rates[:3] == [4.0, 8.0, 8.0]
    assert rates[6] == pytest.approx(4.0)
    assert rates[9] == pytest.approx(8.0 * 0.5 * (1 + np.cos(np.pi * 7 / 8)))


def test_constant_learning_rate_without_warmup():
    assert {learning_rate(TrainConfig(learning_rate=3.0), step, 5) for step in range(5)} == {3.0}


@pytest.mark.parametrize("name", ["pack_tokens", "tokens_per_step", "epochs", "keep_checkpoints"])
def test_a_config_that_could_do_nothing_is_an_error(name: str):
    with pytest.raises(ValueError, match=name):
        TrainConfig(learning_rate=1.0, **{name: 0})
