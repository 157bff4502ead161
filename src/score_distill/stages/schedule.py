"""Which items each RL update uses, which look at the dev split was the best, and when to stop.

Items are a function of the seed and the update's number, so a restart finds them again.
"""

import json
import random
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

from score_distill.agent.items import Item
from score_distill.agent.seeds import seed_of

Look = dict[str, int]


class Pool:
    """Items in a file, drawn in a seeded order, every one once before any one twice; only offsets are in memory."""

    def __init__(self, path: Path, items: Iterable[Item]) -> None:
        self._path, self._offsets = path, array("q")
        with path.open("wb") as file:
            for item in items:
                self._offsets.append(file.tell())
                file.write(item.model_dump_json().encode() + b"\n")

    def __len__(self) -> int:
        return len(self._offsets)

    def draw(self, seed: int, start: int, count: int) -> list[Item]:
        """Draws number ``start`` to ``start + count`` of the endless seeded sequence."""
        if not count:
            return []
        epochs = range(start // len(self), (start + count - 1) // len(self) + 1)
        orders = {epoch: self._order(seed, epoch) for epoch in epochs}
        return [self._item(orders[n // len(self)][n % len(self)]) for n in range(start, start + count)]

    def _order(self, seed: int, epoch: int) -> list[int]:
        order = list(range(len(self)))
        random.Random(seed_of(seed, "order", self._path.name, epoch)).shuffle(order)
        return order

    def _item(self, index: int) -> Item:
        with self._path.open("rb") as file:
            file.seek(self._offsets[index])
            return Item.model_validate(json.loads(file.readline()))


def groups_of(prefixed: Pool, full: Pool, *, update: int, groups: int, full_share: float, seed: int) -> list[Item]:
    """The items of one update: a share from the start of their task, the others from a verified prefix."""
    whole = round(groups * full_share) if len(prefixed) else groups
    if not len(full):
        whole = 0
    rest = groups - whole
    return full.draw(seed, update * whole, whole) + prefixed.draw(seed, update * rest, rest)


def best_of(looks: Sequence[Look]) -> Look:
    """The look with the most right tasks, the earliest of equals."""
    return max(looks, key=lambda look: look["correct"])


def exhausted(looks: Sequence[Look], patience: int) -> bool:
    """No look among the last ``patience`` ones was better than the best before them."""
    return len(looks) > patience and best_of(looks) in looks[:-patience]
