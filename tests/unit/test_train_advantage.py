import pytest

from score_distill.train.advantage import BOUND, group_relative, towards_teacher


def test_advantages_by_hand():
    (group,) = group_relative([[1.0, 0.5, 0.1, 0.0]]).groups
    assert group == pytest.approx([0.6, 0.1, -0.3, -0.4])


def test_a_group_that_differs_by_a_tenth_is_a_tenth_as_loud():
    quiet, loud = group_relative([[0.1, 0.0, 0.0, 0.1], [1.0, 0.0, 0.0, 1.0]]).groups
    assert [10 * one for one in quiet] == pytest.approx(loud)


def test_a_group_of_equal_rewards_teaches_nothing_and_is_counted():
    result = group_relative([[0.5, 0.5, 0.5], [1.0, 0.0], [1.0], []])
    assert result.groups[0] is None and result.groups[2] is None and result.groups[3] is None
    assert result.groups[1] == (0.5, -0.5)
    assert result.dropped == 3


def test_rewards_equal_up_to_rounding_are_still_equal_when_they_are_the_same_number():
    assert group_relative([[0.1] * 7]).dropped == 1


def test_on_policy_distillation_pulls_each_token_to_the_teacher():
    assert towards_teacher([-1.0, -3.0], [-2.0, -0.5]) == (1.0, -2.5)


def test_a_token_that_the_teacher_finds_impossible_does_not_outweigh_all_others():
    assert towards_teacher([-9999.0, -0.1], [-0.5, -30.0]) == (-BOUND, BOUND)
    assert towards_teacher([-9.0], [-1.0], bound=2.0) == (-2.0,)


def test_logprobs_of_other_tokens_cannot_be_compared():
    with pytest.raises(ValueError):
        towards_teacher([-1.0, -3.0], [-2.0])
