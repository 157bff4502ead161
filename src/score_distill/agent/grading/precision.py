"""When two numbers are equal, by the digits that they were given with."""

from fractions import Fraction

from score_distill.agent.grading.values import Number

ENOUGH_DIGITS = 6  # of a decimal, to stand for an exact value that it is rounded from
ALIKE_DIGITS = 4  # of the shorter of two decimals, to stand for the longer
FLOAT_DIGITS = 14  # a decimal of that many is what a program computed: its last ones are noise
NOISE = Fraction(1, 10**9)
EPSILON = Fraction(1, 2**52)  # of whole numbers, which a program's decimals hold up to there
NOUGHT = (Fraction(1, 10**18), Fraction(1, 10**13))  # between them lies what a program makes of nought


def close(one: Number, other: Number) -> bool | None:
    """Two numbers, by the digits that they were given with.

    Exact ones are equal or not. A decimal stands for what rounds to it: surely from six digits on (four beside another
    decimal), arguably below. One of fourteen digits and more was computed, and may be off by a billionth; 1e-17 is
    nought, and the charge of an electron, 1.6e-19, is not.
    """
    if one.value == other.value:
        return True
    digits = [number.digits for number in (one, other) if number.digits is not None]
    if not digits:
        return False
    difference = abs(one.value - other.value)
    if not (one.value and other.value):
        return NOUGHT[0] <= difference <= NOUGHT[1]
    whole = one.value.denominator == other.value.denominator == 1
    if max(digits) >= FLOAT_DIGITS and difference <= (EPSILON if whole else NOISE) * max(
        abs(one.value), abs(other.value)
    ):
        return True
    coarse = min(
        (number for number in (one, other) if number.digits is not None), key=lambda number: number.digits or 0
    )
    if difference > abs(coarse.value) * Fraction(10) ** (1 - (coarse.digits or 1)) / 2:
        return False
    if difference > _half_a_digit(coarse):
        return False
    enough = ALIKE_DIGITS if len(digits) == 2 else ENOUGH_DIGITS
    return True if min(digits) >= enough else None if min(digits) > 1 else False


def _half_a_digit(number: Number) -> Fraction:
    """Half a unit of the last digit that a decimal was given with."""
    size = abs(number.value)
    exponent = 0
    while size >= 10:
        size, exponent = size / 10, exponent + 1
    while size < 1:
        size, exponent = size * 10, exponent - 1
    return Fraction(10) ** (exponent - (number.digits or 1) + 1) / 2
