"""Advantages: how much better a rollout did than its siblings, or what the teacher gives each token of it.

Pure numbers. A group whose rewards are all equal teaches nothing: it is dropped and counted.

Not divided by the group's deviation (Dr. GRPO, arXiv 2503.20783): a group that differs by 0.1 would speak as loudly
as one that differs by 1, and the levels of the reward would mean nothing across groups.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

BOUND = 5.0  # nats


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


def towards_teacher(
    teacher_logprobs: Sequence[float], student_logprobs: Sequence[float], bound: float = BOUND
) -> tuple[float, ...]:
    """Advantages per token of on-policy distillation: the log-probability (nats) that the teacher gives each token that
    the student sampled, less the student's own, within ± ``bound``: a token that the teacher finds impossible would
    outweigh all others. Without the bound their mean is minus the reverse KL to the teacher (arXiv 2306.13649).
    """
    gaps = (teacher - student for teacher, student in zip(teacher_logprobs, student_logprobs, strict=True))
    return tuple(max(-bound, min(bound, gap)) for gap in gaps)


def _group(rewards: tuple[float, ...]) -> tuple[float, ...] | None:
    if len(set(rewards)) < 2:
        return None
    mean = math.fsum(rewards) / len(rewards)
    return tuple(reward - mean for reward in rewards)
