"""What the start of a rollout does to RL: how groups of rollouts differ, and how noisy their gradients are. Pure.

One run on tasks of 20 steps, whose single update draws 240 groups of 16 rollouts from the SFT student: from verified
prefixes of every length, and from whole tasks. `gradients.py` makes it and reads it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median, pvariance
from typing import Any

from science.cells import horizon

STEPS, BUCKETS = 20, ((0, 0), (1, 5), (6, 10), (11, 15), (16, 21))
CHANGES: Mapping[str, Any] = {
    **horizon(STEPS),
    "method.split": {"coldStart": 0.25, "dev": 0.05, "sft": 0.4},
    "method.control": "None",
    "method.evaluation": {"models": ["init", "sft"]},
    "method.rl": {
        "groupSize": 16,
        "groupsPerUpdate": 240,
        "updates": 1,
        "corrections": "all",
        "fullHorizon": 0.2,
        "packTokens": 2048,
    },
}
COLUMNS = (
    *("start after", "groups", "sampled steps", "right, %", "silent by the answer, %", "silent by all tiers, %"),
    *("variance of the reward: answer", "all tiers", "noise", "signal to noise"),
)
HEAD = f"""# Where a rollout starts, and what RL can learn from it
Written by `python -m science.gradients`: tasks of {STEPS} steps, 240 groups of 16 rollouts of one SFT student at
temperature 1. "Silent" groups are those whose rollouts all earn the same: nothing is learnt from them. Noise is the
variance of a rollout's gradient within its group (its trace, the median over the groups that speak; whole tasks = 1);
signal to noise is the squared norm of the mean gradient, without its bias, over that variance. Both are by right
answers alone.

| {" | ".join(COLUMNS)} |
|{"---|" * len(COLUMNS)}
"""


@dataclass(frozen=True)
class Group:
    """The rollouts of one item; ``noise`` and ``signal`` are None in a group that is silent by the answer."""

    start: int  # steps of the verified prefix, and 0 where there is none
    steps: float
    right: tuple[bool, ...]
    rewards: tuple[float, ...]
    noise: float | None = None
    signal: float | None = None


def table(groups: Iterable[Group]) -> str:
    found = defaultdict[tuple[int, int], list[Group]](list)
    for one in groups:
        found[next(bucket for bucket in BUCKETS if bucket[0] <= one.start <= bucket[1])].append(one)
    whole = _median(one.noise for one in found[BUCKETS[0]])
    return HEAD + "".join(_row(bucket, found[bucket], whole) for bucket in BUCKETS if found[bucket])


def _row(bucket: tuple[int, int], groups: Sequence[Group], whole: float) -> str:
    right = [list(map(float, one.right)) for one in groups]
    rewards = [list(one.rewards) for one in groups]
    ratio = _median(one.signal / one.noise for one in groups if one.noise and one.signal is not None)
    figures = (
        "nothing: the whole task" if bucket == BUCKETS[0] else f"{bucket[0]}-{bucket[1]} steps",
        len(groups),
        f"{mean(one.steps for one in groups):.1f}",
        f"{100 * mean(map(mean, right)):.0f}",
        f"{100 * mean(len(set(one)) == 1 for one in right):.0f}",
        f"{100 * mean(len(set(one)) == 1 for one in rewards):.0f}",
        f"{mean(map(pvariance, right)):.3f}",
        f"{mean(map(pvariance, rewards)):.3f}",
        f"{_median(one.noise for one in groups) / whole:.2f}",
        f"{ratio:.3f}",
    )
    return "| " + " | ".join(map(str, figures)) + " |\n"


def _median(values: Iterable[float | None]) -> float:
    return median([one for one in values if one is not None] or [float("nan")])
