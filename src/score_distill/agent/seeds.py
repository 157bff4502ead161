"""Seeds and shares from names: the same run makes the same choices whatever the order, the process or the retry."""

import hashlib
from typing import Literal

from score_distill.api import Split

Part = Literal["cold_start", "dev", "sft", "rl"]


def seed_of(*parts: object) -> int:
    """A seed in [0, 2**31) that depends on all parts and nothing else."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def share_of(*parts: object) -> float:
    """A number in [0, 1), uniform over the parts; ``share_of(seed, id) < 0.2`` picks a fifth of all ids."""
    return seed_of(*parts) / 2**31


def part_of(task_id: str, split: Split, seed: int) -> Part:
    """cold start and dev by their shares; the others are mentored, for SFT or for RL, never both."""
    place = share_of(seed, "split", task_id)
    if place < split.cold_start:
        return "cold_start"
    if place < split.cold_start + split.dev:
        return "dev"
    return "sft" if share_of(seed, "mentored", task_id) < split.sft else "rl"


def round_of_task(task_id: str, part: str, rounds: int, seed: int) -> int:
    """The round, from 1, in which a task is mentored: those for SFT in equal parts, those for RL in the last."""
    return rounds if part == "rl" else 1 + int(share_of(seed, "round", task_id) * rounds)
