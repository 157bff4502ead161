"""On-policy distillation: the teacher scores what the student sampled, token by token, and nothing else is learnt."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from score_distill.agent.completer import Completion, Usage
from score_distill.agent.refusals import ContextOverflow, RequestRefused
from score_distill.agent.rewards import Judged
from score_distill.agent.rl_starts import Item
from score_distill.agent.trajectory import Task
from score_distill.stages.acting import RolloutContext
from score_distill.stages.rollouts import Group, Rollout
from score_distill.stages.samples import distilled, reinforced
from score_distill.stages.scoring import scored

ITEM = Item(id="t#0", task=Task(id="t", question="q", answer="a"))
# Tokens 11, 12 and 14 were sampled; 10 is the question's and 13 an observation.
ROLLOUT = Rollout(
    seed=0,
    drawn=0,
    steps=(),
    ids=(10, 11, 12, 13, 14),
    mask=(0, 1, 1, 0, 1),
    logprobs=(-1.0, -0.5, -2.0),
    reward=1.0,
    judged=Judged(answered=True, correct=True, key="none"),
)


@dataclass
class FakeTeacher:
    """Gives each token a tenth of its id, as a log-probability."""

    fault: Exception | None = None

    def caller(self, role: str, task: str, purpose: str, revision: str) -> "FakeTeacher":
        assert (role, task) == ("teacher", "t")
        return self

    async def score(self, tokens: Sequence[int]) -> Completion:
        if self.fault:
            raise self.fault
        return Completion("", Usage(), logprobs=tuple(-one / 10 for one in tokens[1:]))


def here(fault: Exception | None = None) -> RolloutContext:
    return cast(Any, FakeTeacher(fault))


async def test_each_sampled_token_has_the_teachers_log_probability_of_itself() -> None:
    found = await scored(here(), Group(ITEM, (ROLLOUT,), Counter()))
    assert found.rollouts[0].teacher == (-1.1, -1.2, -1.4)
    assert not found.lost


@pytest.mark.parametrize("fault", [ContextOverflow("long"), RequestRefused("filtered")])
async def test_what_the_teacher_cannot_score_is_lost_and_counted(fault: Exception) -> None:
    long = replace(ROLLOUT, lost="too_long")
    found = await scored(here(fault), Group(ITEM, (ROLLOUT, long), Counter(too_long=1)))
    assert found.rollouts == ()
    assert found.lost == Counter(too_long=1, unscored=1)


async def test_no_reward_counts_and_every_token_has_its_own_advantage() -> None:
    right = await scored(here(), Group(ITEM, (ROLLOUT, replace(ROLLOUT, reward=0.0)), Counter()))
    samples, line = distilled([right])
    for sample in samples:
        assert cast(Any, sample.advantage).tolist() == pytest.approx([-0.1, -0.7, 0.6])
        assert sample.mask.tolist() == [False, True, True, False, True]
    assert line == {"reverse_kl": pytest.approx(0.2 / 3), "bounded": 0.0}


def test_a_group_without_a_rollout_leaves_nothing_to_learn() -> None:
    assert distilled([Group(ITEM, (), Counter())]) == ([], {"reverse_kl": 0.0, "bounded": 0.0})


def test_a_gap_beyond_the_bound_is_counted_and_told_whole() -> None:
    far = replace(ROLLOUT, teacher=(-9001.0, -0.5, -2.0))
    samples, line = distilled([Group(ITEM, (far,), Counter())])
    assert cast(Any, samples[0].advantage).tolist() == [-5.0, 0.0, 0.0]
    assert line == {"reverse_kl": 3000.0, "bounded": pytest.approx(1 / 3)}


def test_rewards_are_learnt_from_by_group_where_they_differ() -> None:
    apart = Group(ITEM, (ROLLOUT, replace(ROLLOUT, reward=0.0)), Counter())
    alike = Group(ITEM, (ROLLOUT, ROLLOUT), Counter())
    samples, line = reinforced([apart, alike])
    assert [sample.advantage for sample in samples] == [0.5, -0.5]
    assert line == {"zero_variance": 0.5}
