"""Which part of the training tasks a task belongs to: a function of its id, the seed and the shares alone."""

from typing import Literal

from score_distill.agent.seeds import share_of
from score_distill.api import Split

Part = Literal["cold_start", "dev", "sft", "rl"]


def part_of(task_id: str, split: Split, seed: int) -> Part:
    """cold start and dev by their shares; the others are mentored, for SFT or for RL, never both."""
    place = share_of(seed, "split", task_id)
    if place < split.cold_start:
        return "cold_start"
    if place < split.cold_start + split.dev:
        return "dev"
    return "sft" if share_of(seed, "mentored", task_id) < split.sft else "rl"
