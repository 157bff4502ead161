"""What the counts of an evaluation allow one to say: intervals, paired comparisons, and the sentence for each.

A score gets the Wilson 95 % interval. Two models on the same tasks are compared by the tasks on which they differ:
p is the exact McNemar test, the interval of the difference is Newcombe's paired score interval (Statistics in
Medicine 17, 1998, method 10), which uses the agreement of the two models and stays sensible near 0 and 100 %.
Pure. Both say how far the choice of tasks could move a number; neither knows what another training seed would do.
"""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

from scipy.stats import binomtest

LEVEL = 0.95
ALPHA = 0.05
POWER_Z = 0.8416
LEVEL_Z = 1.9600

Ruling = Literal["better", "worse", "unclear"]


@dataclass(frozen=True)
class Proportion:
    """``right`` of ``n`` as a share, with the bounds of its 95 % interval."""

    right: int
    n: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """The counts of two models, ``new`` and ``old``, on the same tasks."""

    both: int
    only_new: int
    only_old: int
    neither: int

    @property
    def n(self) -> int:
        return self.both + self.only_new + self.only_old + self.neither


@dataclass(frozen=True)
class Difference:
    """``new`` minus ``old`` as a share, its 95 % interval, the p of no difference, and what that rules.

    ``needed`` is set when the ruling is unclear: with about so many tasks a true difference of the size observed
    would be told apart in four of five evaluations (Connor, Biometrics 43, 1987).
    """

    difference: float
    low: float
    high: float
    p: float
    ruling: Ruling
    needed: int | None


def proportion(right: int, n: int) -> Proportion | None:
    """The share with its Wilson interval; None when there is nothing to take a share of."""
    if n == 0:
        return None
    interval = binomtest(right, n).proportion_ci(confidence_level=LEVEL, method="wilson")
    return Proportion(right, n, right / n, float(interval.low), float(interval.high))


def compare(table: Paired) -> Difference | None:
    """How ``new`` stands against ``old``; None without a common task."""
    if table.n == 0:
        return None
    discordant = table.only_new + table.only_old
    difference = (table.only_new - table.only_old) / table.n
    p = float(binomtest(table.only_new, discordant).pvalue) if discordant else 1.0
    low, high = newcombe(table)
    if p >= ALPHA:
        return Difference(difference, low, high, p, "unclear", tasks_needed(table))
    return Difference(difference, low, high, p, "better" if difference > 0 else "worse", None)


def newcombe(table: Paired) -> tuple[float, float]:
    """The 95 % interval of the difference of two paired shares."""
    new = proportion(table.both + table.only_new, table.n)
    old = proportion(table.both + table.only_old, table.n)
    if new is None or old is None:
        raise ValueError("no common task: there is no difference to bound")
    difference, agreement = new.share - old.share, correlation(table)
    below_new, above_new = new.share - new.low, new.high - new.share
    below_old, above_old = old.share - old.low, old.high - old.share
    down = sqrt(below_new**2 - 2 * agreement * below_new * above_old + above_old**2)
    up = sqrt(below_old**2 - 2 * agreement * below_old * above_new + above_new**2)
    return difference - down, difference + up


def correlation(table: Paired) -> float:
    """Phi of the two-by-two table, shrunk by n/2 when positive as method 10 wants; 0 when a margin is empty."""
    margins = (
        (table.both + table.only_new)
        * (table.only_old + table.neither)
        * (table.both + table.only_old)
        * (table.only_new + table.neither)
    )
    if margins == 0:
        return 0.0
    product = table.both * table.neither - table.only_new * table.only_old
    return (max(product - table.n / 2, 0) if product > 0 else product) / sqrt(margins)


def tasks_needed(table: Paired) -> int | None:
    """Tasks for 80 % power at the observed rates; None when the two models were right equally often."""
    differ = (table.only_new + table.only_old) / table.n
    difference = abs(table.only_new - table.only_old) / table.n
    if difference == 0:
        return None
    return ceil(((LEVEL_Z * sqrt(differ) + POWER_Z * sqrt(differ - difference**2)) / difference) ** 2)


def sentence(new: str, old: str, found: Difference, n: int) -> str:
    """What can be said of ``new`` and ``old`` after ``n`` common tasks, in points of a hundred."""
    numbers = f"{100 * found.difference:+.1f} points [{100 * found.low:.1f}, {100 * found.high:.1f}], {p_text(found.p)}"
    if found.ruling == "unclear":
        return f"{new} against {old}: {numbers}: cannot be told apart at n = {n:,}"
    return f"{new} is {found.ruling} than {old}: {numbers}"


def p_text(p: float) -> str:
    """A p-value with the digits that carry meaning."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
