"""The numbers of the report against values computed by hand or printed in the papers that define them."""

from math import comb

import pytest

from score_distill.report.significance import Paired, compare, correlation, newcombe, p_text, proportion, sentence


def test_wilson_interval_of_39_in_300_is_the_one_in_the_quickstart_notes() -> None:
    found = proportion(39, 300)
    assert found is not None
    # z = 1.96: centre (0.13 + z2/600) / (1 + z2/300) = 0.134678, half width 0.038103
    assert (found.share, found.low, found.high) == pytest.approx((0.13, 0.0966, 0.1728), abs=5e-5)


@pytest.mark.parametrize(
    ("right", "low", "high"),
    [(0, 0.0, 0.2775), (10, 0.7225, 1.0)],  # z2 / (n + z2) = 3.8415 / 13.8415
)
def test_wilson_interval_stays_inside_zero_and_one(right: int, low: float, high: float) -> None:
    found = proportion(right, 10)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_nothing_judged_has_no_share() -> None:
    assert proportion(0, 0) is None


def test_newcombes_own_example_of_his_method_10() -> None:
    found = compare(Paired(both=36, only_new=12, only_old=2, neither=0))
    assert found is not None
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


def test_phi_is_shrunk_by_half_the_tasks() -> None:
    # ad - bc = 20 - 6 = 14, less 14 / 2; margins 8, 6, 7, 7
    assert correlation(Paired(both=5, only_new=3, only_old=2, neither=4)) == pytest.approx(7 / 2352**0.5)


def test_phi_that_the_shrinking_would_turn_negative_is_zero() -> None:
    assert correlation(Paired(both=1, only_new=1, only_old=0, neither=2)) == 0


def test_negative_phi_is_not_shrunk() -> None:
    assert correlation(Paired(both=0, only_new=5, only_old=5, neither=0)) == pytest.approx(-1)


def test_exact_mcnemar_by_hand() -> None:
    found = compare(Paired(both=50, only_new=9, only_old=1, neither=40))
    assert found is not None
    # two-sided: 2 * (C(10,0) + C(10,1)) / 2^10
    assert found.p == pytest.approx(2 * (comb(10, 0) + comb(10, 1)) / 2**10)
    assert found.ruling == "better"
    assert found.needed is None


def test_eight_against_two_is_not_enough() -> None:
    found = compare(Paired(both=50, only_new=8, only_old=2, neither=40))
    assert found is not None
    assert found.p == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert found.ruling == "unclear"
    # d = .06, differ = .10: ((1.96 * .31623 + .8416 * .31048) / .06)^2 = 215.7
    assert found.needed == 216


def test_the_order_of_the_two_models_only_turns_the_sign() -> None:
    there, back = compare(Paired(400, 120, 30, 450)), compare(Paired(400, 30, 120, 450))
    assert there is not None and back is not None
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))
    assert (there.p, there.ruling, back.ruling) == (back.p, "better", "worse")


def test_models_that_never_differ_cannot_be_told_apart_and_no_number_of_tasks_is_promised() -> None:
    found = compare(Paired(both=10, only_new=0, only_old=0, neither=10))
    assert found is not None
    assert (found.difference, found.p, found.ruling, found.needed) == (0, 1, "unclear", None)
    assert found.low < 0 < found.high


def test_no_common_task_no_comparison() -> None:
    assert compare(Paired(0, 0, 0, 0)) is None


def test_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    """All outcomes of 12 tasks with known rates, weighted by their probability: no sampling."""
    n, rates = 12, (0.35, 0.20, 0.10, 0.35)
    covered = 0.0
    for both in range(n + 1):
        for new in range(n + 1 - both):
            for old in range(n + 1 - both - new):
                rest = n - both - new - old
                ways = comb(n, both) * comb(n - both, new) * comb(n - both - new, old)
                weight = ways * rates[0] ** both * rates[1] ** new * rates[2] ** old * rates[3] ** rest
                if weight > 1e-6:
                    low, high = newcombe(Paired(both, new, old, rest))
                    covered += weight * (low <= 0.10 <= high)
    assert 0.93 <= covered <= 0.98


def test_sentences_say_what_can_and_what_cannot_be_told_apart() -> None:
    clear, unclear = Paired(400, 220, 38, 342), Paired(400, 60, 49, 491)
    one, other = compare(clear), compare(unclear)
    assert one is not None and other is not None
    assert sentence("sft", "init", one, clear.n).startswith("sft is better than init: +18.2 points [")
    assert sentence("sft", "init", one, clear.n).endswith("p < 0.001")
    assert sentence("rl", "sft", other, unclear.n) == (
        "rl against sft: +1.1 points [-1.0, 3.1], p = 0.34: cannot be told apart at n = 1,000"
    )


@pytest.mark.parametrize(
    ("p", "text"), [(1e-9, "p < 0.001"), (0.0123, "p = 0.012"), (0.31, "p = 0.31"), (1.0, "p = 1.00")]
)
def test_p_text(p: float, text: str) -> None:
    assert p_text(p) == text
