"""Limits have bounds, and a value outside them is named."""

from dataclasses import fields

import pytest

from score_distill.sandbox.limits import _BOUNDS, Limits


def test_every_limit_has_bounds_that_hold_its_default():
    assert {field.name for field in fields(Limits)} == set(_BOUNDS)
    Limits()


@pytest.mark.parametrize("name", sorted(_BOUNDS))
def test_a_limit_out_of_bounds_is_refused_by_name(name):
    low, high = _BOUNDS[name]
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=name):
            Limits(**{name: value})
