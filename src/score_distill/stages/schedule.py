"""Which items each RL update uses, which student the looks at the dev split let one keep, and when to stop.

Items are a function of the seed and the update's number, so a restart finds them again.
"""

import json
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import TypedDict

from scipy.stats import binomtest

from score_distill.agent.rl_starts import Item
from score_distill.agent.seeds import seed_of

CHANCE = 0.05


class DevEval(TypedDict):
    """``outcomes`` has a sign for each dev task: 1 right, 0 wrong, ? judged by nobody."""

    update: int
    correct: int
    n: int
    unjudged: int
    outcomes: str


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


def look(update: int, correct: Sequence[bool | None]) -> DevEval:
    """A student on the dev tasks, always in the same order. Those that nobody could judge are not in ``n``."""
    judged = [one for one in correct if one is not None]
    return {
        "update": update,
        "correct": sum(judged),
        "n": len(judged),
        "unjudged": len(correct) - len(judged),
        "outcomes": "".join("?" if one is None else "01"[one] for one in correct),
    }


def beats(new: DevEval, old: DevEval) -> bool:
    """More right than chance explains, on the tasks that one of two students did and the other did not.

    Exact McNemar, one-sided: a student is only ever replaced by a better one. The bound is that of one comparison.
    """
    pairs = Counter(zip(new["outcomes"], old["outcomes"], strict=True))
    gained, lost = pairs["1", "0"], pairs["0", "1"]
    return gained > lost and bool(binomtest(gained, gained + lost, alternative="greater").pvalue < CHANCE)


def kept_of(looks: Sequence[DevEval]) -> DevEval:
    """The look of the student to keep: the first, until a later one beats the one that was kept."""
    return reduce(lambda kept, new: new if beats(new, kept) else kept, looks)


def exhausted(looks: Sequence[DevEval], patience: int) -> bool:
    """No look among the last ``patience`` ones had a higher score than the highest before them, by chance or not."""
    scores = [one["correct"] / max(1, one["n"]) for one in looks]
    return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])
