"""From groups of rollouts to what the trainer learns from, and what that says for the curve. Pure."""

from collections.abc import Sequence

import numpy as np

from score_distill.stages.rollouts import Group, Rollout
from score_distill.train.advantage import BOUND, group_relative, towards_teacher
from score_distill.train.rows import Sample

Made = tuple[list[Sample], dict[str, float]]


def reinforced(groups: Sequence[Group]) -> Made:
    """Each rollout with one advantage, its reward against its group; groups that can teach nothing are left out."""
    advantages = group_relative([[one.reward for one in group.rollouts] for group in groups])
    samples = [
        sample(one, advantage)
        for group, given in zip(groups, advantages.groups, strict=True)
        for one, advantage in zip(group.rollouts, given or (), strict=False)
    ]
    return samples, {"zero_variance": advantages.dropped / len(groups)}


def distilled(groups: Sequence[Group]) -> Made:
    """Each rollout with an advantage a token, towards the teacher.

    ``reverse_kl`` is the mean over tokens (nats) before the bound, ``bounded`` the share of tokens beyond it.
    """
    rollouts = [one for group in groups for one in group.rollouts]
    samples = [sample(one, np.array(towards_teacher(one.teacher, one.logprobs), dtype=np.float32)) for one in rollouts]
    gaps = np.array([s - t for one in rollouts for s, t in zip(one.logprobs, one.teacher, strict=True)] or [0.0])
    return samples, {"reverse_kl": float(gaps.mean()), "bounded": float((np.abs(gaps) > BOUND).mean())}


def sample(rollout: Rollout, advantage: float | np.ndarray) -> Sample:
    return Sample(
        np.array(rollout.ids, dtype=np.int32),
        np.array(rollout.mask, dtype=np.bool_),
        np.array(rollout.logprobs, dtype=np.float32),
        advantage,
    )
