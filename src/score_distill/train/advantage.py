"""Group-relative advantages: how much better each rollout of a prefix did than its siblings.

Pure numbers. A group whose rewards are all equal teaches nothing: it is dropped and counted.
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


def group_relative(rewards: Sequence[Sequence[float]], epsilon: float = 1e-6) -> Advantages:
    """(reward - mean) / (std + epsilon) in each group, std with n - 1 as in the reference (GRPO).

    A group of one, or none, has no sibling to be compared with and is dropped as well.
    """
    return Advantages(tuple(_group(tuple(group), epsilon) for group in rewards))


def reverse_kl(teacher_logprobs: Sequence[float], student_logprobs: Sequence[float]) -> tuple[float, ...]:
    """Advantages per token of on-policy distillation: what the teacher gives the student's own tokens, less what
    the student gave them. Their mean is minus the reverse KL to the teacher; add them, scaled, for an auxiliary loss.
    """
    return tuple(teacher - student for teacher, student in zip(teacher_logprobs, student_logprobs, strict=True))


def _group(rewards: tuple[float, ...], epsilon: float) -> tuple[float, ...] | None:
    if len(set(rewards)) < 2:
        return None
    mean = math.fsum(rewards) / len(rewards)
    variance = math.fsum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1)
    return tuple((reward - mean) / (math.sqrt(variance) + epsilon) for reward in rewards)
