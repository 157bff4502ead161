"""Curves of any length in few points, none of them made up."""

import pytest

from score_distill.report.curves import POINTS, Downsampled


def thinned(rows: list[dict[str, object]]) -> Downsampled:
    curve = Downsampled("step")
    for row in rows:
        curve.add(row)
    return curve


def test_a_short_curve_is_left_as_it_is() -> None:
    rows = [{"step": i, "loss": 3.0 - i} for i in range(5)]
    assert list(thinned(list(rows)).points()) == rows


def test_a_long_curve_keeps_its_mean_and_its_end() -> None:
    rows: list[dict[str, object]] = [{"step": i, "loss": float(i % 7)} for i in range(100_000)]
    points = thinned(rows).points()
    assert POINTS / 2 <= len(points) <= 2 * POINTS
    assert points[-1]["step"] == 99_999
    assert [point["step"] for point in points] == sorted(point["step"] or 0 for point in points)
    assert sum(point["loss"] or 0 for point in points) / len(points) == pytest.approx(3, abs=0.02)


def test_neighbours_are_averaged_by_hand() -> None:
    rows: list[dict[str, object]] = [{"step": i, "loss": float(i)} for i in range(2 * POINTS)]
    points = thinned(rows).points()
    assert len(points) == POINTS
    assert points[0] == {"step": 1, "loss": 0.5}
    assert points[-1] == {"step": 2 * POINTS - 1, "loss": 2 * POINTS - 1.5}


def test_what_is_no_number_is_left_out_of_the_mean() -> None:
    rows: list[dict[str, object]] = [
        {"step": 0, "loss": float("nan"), "kl": None, "note": "x"},
        {"step": 1, "loss": 2.0, "kl": 1},
    ]
    assert thinned(rows).points() == ({"step": 0}, {"step": 1, "loss": 2.0, "kl": 1.0})
