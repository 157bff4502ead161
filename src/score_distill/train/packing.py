"""Which rows share a forward pass, and in which order: pure, seeded, the same for any world size.

An epoch is a list of optimizer steps, a step a list of packs, a pack a list of row indices whose
lengths fit in the capacity. Ranks come in only at `deal`.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from score_distill.train.config import TrainConfig

Pack = list[int]
T = TypeVar("T")


def best_fit_decreasing(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[Pack]:
    """Longest first, each into the fullest pack that still has room; ties keep the given order.

    The packs that have r tokens of room stand in `with_room[r]`, and bit r of `rooms` says whether
    there is one, so the tightest fit is one shift: a million rows take seconds.
    """
    packs: list[Pack] = []
    with_room: list[list[Pack]] = [[] for _ in range(capacity + 1)]
    rooms = 0
    for row in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        length = int(lengths[row])
        if not 0 < length <= capacity:
            raise ValueError(f"row {row} has {length} tokens; a pack holds 1 to {capacity}")
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            pack = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, pack = capacity, []
            packs.append(pack)
        pack.append(row)
        if room > length:
            with_room[room - length].append(pack)
            rooms |= 1 << (room - length)
    return packs


def epoch_plan(lengths: Sequence[int] | np.ndarray, config: TrainConfig, epoch: int) -> list[list[Pack]]:
    """Steps -> packs -> row indices: every row once, shuffled by (seed, epoch).

    Steps are as even as can be, so the last one is no weaker than the others; their number is the
    same in every epoch.
    """
    rng = np.random.default_rng((config.seed, epoch))
    order = rng.permutation(len(lengths))
    shuffled = np.asarray(lengths, dtype=np.int64)[order]
    packs = [order[pack].tolist() for pack in best_fit_decreasing(shuffled, config.pack_tokens)]
    steps = -(-len(packs) // config.packs_per_step)
    shares = np.array_split(rng.permutation(len(packs)), steps) if packs else []
    return [[packs[i] for i in share] for share in shares]


def deal(packs: Sequence[T], rank: int, ranks: int) -> list[T | None]:
    """The packs that `rank` runs, round by round; None where it has none and only keeps step."""
    rounds = -(-len(packs) // ranks)
    places = (turn * ranks + rank for turn in range(rounds))
    return [packs[place] if place < len(packs) else None for place in places]


def efficiency(tokens: int, packs: int, capacity: int) -> float:
    """Share of the paid capacity that holds tokens."""
    return tokens / (packs * capacity)
