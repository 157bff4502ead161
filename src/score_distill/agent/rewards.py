"""The reward of one rollout from a verified prefix (paper, figure 2c): 1, 0.5, 0.1 or 0, exclusive levels.

| final answer | key step (first after the prefix)        | reward |
| right        | any                                      | final  |
| wrong        | equal to the teacher's                   | key    |
| wrong        | equal to the old mistake, or itself final| 0      |
| wrong        | another                                  | avoid  |
| none         | any (``require_final_for_key``)          | 0      |
Whatever nobody could judge gives None: the rollout leaves its group, it is never a zero.
"""

from dataclasses import dataclass
from typing import Literal

from score_distill.api import Rewards

KeyStep = Literal["chosen", "rejected", "other", "final", "none"]


@dataclass(frozen=True)
class Judged:
    """What is known of a rollout.

    ``correct`` is None when nobody could judge the answer. ``key`` is how the key step relates to the correction:
    "final" when it is itself the final answer, "none" when the item has no correction, None when undecidable.
    """

    answered: bool
    correct: bool | None
    key: KeyStep | None


def reward(judged: Judged, tiers: Rewards, *, require_final_for_key: bool) -> float | None:
    if judged.answered:
        if judged.correct is None:
            return None
        if judged.correct:
            return tiers.final
    elif require_final_for_key:
        return 0.0
    if judged.key is None:
        return None
    return {"chosen": tiers.key, "other": tiers.avoid, "rejected": 0.0, "final": 0.0, "none": 0.0}[judged.key]
