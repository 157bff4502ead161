"""Learning curves of any length in a bounded number of points: neighbours are averaged as more rows come.

A point carries the position of the last row in it and the mean of every other column over the rows that have it, so
that early and late parts of a curve are equally fine. Pure.
"""

from collections.abc import Mapping
from math import isfinite

from score_distill.report.facts import Point

POINTS = 200


class Downsampled:
    """Rows in the order of ``position`` (the name of the column on the x axis), held as at most 2 x 200 groups."""

    def __init__(self, position: str) -> None:
        self.position = position
        self.size = 1
        self.groups: list[Group] = []

    def add(self, row: Mapping[str, object]) -> None:
        if not self.groups or self.groups[-1].rows == self.size:
            self.groups.append(Group())
        self.groups[-1].add(row)
        if len(self.groups) == 2 * POINTS and self.groups[-1].rows == self.size:
            self.groups = [
                first.joined(second) for first, second in zip(self.groups[::2], self.groups[1::2], strict=True)
            ]
            self.size *= 2

    def points(self) -> tuple[Point, ...]:
        return tuple(group.point(self.position) for group in self.groups)


class Group:
    """Sums of neighbouring rows; what is not a finite number is left out of the mean and not counted."""

    def __init__(self) -> None:
        self.rows = 0
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.last: dict[str, float] = {}

    def add(self, row: Mapping[str, object]) -> None:
        self.rows += 1
        for name, value in row.items():
            if isinstance(value, int | float) and isfinite(value):
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1
                self.last[name] = value

    def joined(self, other: "Group") -> "Group":
        both = Group()
        both.rows = self.rows + other.rows
        for name in self.sums | other.sums:
            both.sums[name] = self.sums.get(name, 0.0) + other.sums.get(name, 0.0)
            both.counts[name] = self.counts.get(name, 0) + other.counts.get(name, 0)
        both.last = self.last | other.last
        return both

    def point(self, position: str) -> Point:
        means: Point = {name: self.sums[name] / self.counts[name] for name in self.sums}
        return {position: self.last.get(position)} | {k: v for k, v in means.items() if k != position}
