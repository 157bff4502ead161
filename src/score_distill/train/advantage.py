"""Group-relative advantages: how much better each rollout of a prefix did than its siblings.

Pure numbers. A group whose rewards are all equal teaches nothing: it is dropped and counted.

Not divided by the group's deviation (Dr. GRPO, arXiv 2503.20783): a group that differs by 0.1 would speak as loudly
as one that differs by 1, and the levels of the reward would mean nothing across groups.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Advantages:
    """`groups[i]` is None where group i was dropped."""

    groups: tuple[tuple[float, ...] | None, ...]

    @property
    def dropped(self) -> int:
        return sum(group is None for group in self.groups)


def group_relative(rewards: Sequence[Sequence[float]]) -> Advantages:
    """reward - mean in each group.

    A group of one, or none, has no sibling to be compared with and is dropped as well.
    """
    return Advantages(tuple(_group(tuple(group)) for group in rewards))


def reverse_kl(teacher_logprobs: Sequence[float], student_logprobs: Sequence[float]) -> tuple[float, ...]:
    """Advantages per token of on-policy distillation: what the teacher gives the student's own tokens, less what
    the student gave them. Their mean is minus the reverse KL to the teacher; add them, scaled, for an auxiliary loss.
    """
    return tuple(teacher - student for teacher, student in zip(teacher_logprobs, student_logprobs, strict=True))


def _group(rewards: tuple[float, ...]) -> tuple[float, ...] | None:
    if len(set(rewards)) < 2:
        return None
    mean = math.fsum(rewards) / len(rewards)
    return tuple(reward - mean for reward in rewards)
