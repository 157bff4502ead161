"""The ways of finding a first error, with players who know the generator's answer: what they err in is planted here."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from examples.ledger.family import Task, next_step, render_step
from examples.ledger.playing import Played
from science.localizers import WAYS, Found, continued, planted, reenacted, row, truth, voted

TASK = Task("t", "How many cups does Mia have at the end?", "9", ("Mia has 4 cups.", "Mia buys 5 cups."))


@dataclass
class Perfect:
    """Right at every prefix, but for the turns of the conversations of ``errs`` steps."""

    errs: frozenset[int] = frozenset()
    asked: int = 0

    def next_turns(self, played: Sequence[Played], temperature: float = 0) -> list[str]:
        self.asked += 1
        return [self.turn(one, sampled=temperature > 0 and self.asked == 1) for one in played]

    def turn(self, one: Played, sampled: bool) -> str:
        if len(one.turns) in self.errs or sampled:
            return render_step("lost", "print(0)")
        return next_step(one.task.question, ("", *one.observations)[-1])

    def go_on(self, begun: Sequence[Played]) -> list[Played]:
        ended = list(begun)
        while going := [i for i, one in enumerate(ended) if one.state.answer is None and len(one.turns) < 9]:
            for i in going:
                ended[i] = ended[i].then(self.turn(ended[i], sampled=False))
        return ended


def wrong_at(k: int) -> Played:
    """A whole attempt whose only error is its step ``k`` (from 0), which counts one too many."""
    played = Played(TASK)
    while played.state.answer is None:
        turn = next_step(TASK.question, ("", *played.observations)[-1])
        if len(played.turns) == k:
            turn = turn.replace("print", "x += 1\nprint") if "x" in played.state.variables else turn.replace("4", "5")
        played = played.then(turn)
    assert not played.solved
    return played


@pytest.mark.parametrize("k", [1, 2])
def test_every_way_finds_the_error_where_the_teacher_is_right(k: int) -> None:
    attempt = wrong_at(k)
    assert truth(attempt) == k
    for way in WAYS.values():
        [found] = way(Perfect(), [attempt])
        assert found.step == k


def test_three_votes_bear_one_bad_sample_and_cost_three_turns_a_step() -> None:
    assert voted(Perfect(), [wrong_at(2)]) == [Found(2, 9)]
    assert reenacted(Perfect(), [wrong_at(2)]) == [Found(2, 3)]


def test_a_teacher_that_errs_before_the_student_is_taken_for_its_error() -> None:
    [found] = reenacted(Perfect(errs=frozenset({1})), [wrong_at(2)])
    assert found.step == 1
    [found] = continued(Perfect(errs=frozenset({1})), [wrong_at(2)])
    assert found.step == 0


def test_a_planted_error_is_one_wrong_number_and_the_student_goes_on_after_it() -> None:
    [attempt] = planted(Perfect(), [TASK], random.Random(0))
    assert truth(attempt) in (1, 2)
    assert attempt.state.answer is not None
    assert not attempt.solved


def test_a_row_says_how_many_were_found_and_on_which_side_the_rest_went() -> None:
    told = row("own", "votes", [1, 2, 3, 4], [Found(1, 2), Found(1, 2), Found(4, 5), Found(None, 7)])
    assert told == "| own | 4 | votes | 25.0 [4.6, 69.9] | 25.0 | 25.0 | 25.0 | 4.0 |\n"
