"""Mentoring: one correction after the other, and what sets a task aside."""

from collections.abc import Sequence

import pytest
from tests.unit.interpreter import ADD, BAD, IDLE, READ, SUM, TASK, WRONG, FakeActor, FakeCompleter, Tally, turn, world

from score_distill.agent.codeact import AgentState, ModelTurn, take
from score_distill.agent.environment import SnapshotPool
from score_distill.agent.localize import Located, NothingWrong, SetAside
from score_distill.agent.mentor import mentor
from score_distill.agent.trajectory import Step, Task, Verdict


class FakeLocalizer:
    """Puts the given turns at the given steps, one a call; remembers how many steps were said to be sound."""

    def __init__(self, tally: Tally, *fixes: tuple[int, str] | Exception | None) -> None:
        self.tally, self.fixes, self.sound = tally, list(fixes), []

    async def locate(self, task, failed: AgentState, sound: int, scope: SnapshotPool):
        self.sound.append(sound)
        assert self.tally.open == len({id(one.snapshot) for one in failed.worlds}), "others than these are open"
        fix = self.fixes.pop(0)
        if isinstance(fix, Exception):
            raise fix
        if fix is None:
            return NothingWrong(), 1
        k, text = fix
        return Located(k, await take(failed.back_to(k), ModelTurn(text), "teacher", scope), f"advice {k}"), 0


async def mentored(tally: Tally, turns: list[str | None], *fixes, max_steps=4, max_corrections=5, unfinished=True):
    actor, localizer = FakeActor(list(turns)), FakeLocalizer(tally, *fixes)

    async def check(task: Task, answer: str | None) -> Verdict:
        return Verdict(correct=None if answer == "?" else answer == task.answer, by="none", detail="judge failed")

    made = await mentor(
        TASK,
        "sft",
        world(tally),
        actor,
        FakeCompleter([]),
        localizer,
        check,
        max_steps=max_steps,
        max_corrections=max_corrections,
        correct_unfinished=unfinished,
        seed=0,
    )
    assert tally.open == 0
    assert actor.turns == []
    return made, actor, localizer


def codes(steps: Sequence[Step]) -> list[str]:
    return [step.text for step in steps]


async def test_solved_alone(tally: Tally):
    made, *_ = await mentored(tally, [READ, ADD, SUM])
    assert (made.outcome, made.corrections, made.attempts) == ("solved", (), ())
    assert codes(made.trajectory.steps) == [READ, ADD, SUM]


async def test_one_correction_takes_interpreter_and_tools_back(tally: Tally):
    made, _, localizer = await mentored(tally, [READ, WRONG, SUM, SUM], (2, ADD))
    assert (made.outcome, made.trajectory.answer) == ("corrected", "15")
    assert codes(made.trajectory.steps) == [READ, ADD, SUM]
    assert [step.author for step in made.trajectory.steps] == ["student", "teacher", "student"]
    (one,) = made.corrections
    assert (one.k, one.chosen.text, codes(one.prefix), codes(one.rejected)) == (2, ADD, [READ], [WRONG])
    assert (one.advice, one.kept) == ("advice 2", True)
    assert [(codes(each.steps), each.answer) for each in made.attempts] == [([READ, WRONG, SUM], "510")]
    assert localizer.sound == [0]


async def test_two_corrections_one_after_the_other(tally: Tally):
    turns = [turn("x = [1]"), SUM, WRONG, SUM, SUM]
    made, _, localizer = await mentored(tally, turns, (1, READ), (2, ADD))
    assert (made.outcome, codes(made.trajectory.steps)) == ("corrected", [READ, ADD, SUM])
    assert [(one.k, one.kept, codes(one.rejected)) for one in made.corrections] == [
        (1, True, [turn("x = [1]")]),
        (2, True, [WRONG]),
    ]
    assert localizer.sound == [0, 1]
    assert len(made.attempts) == 2


async def test_a_teachers_answer_ends_the_task(tally: Tally):
    made, *_ = await mentored(tally, [READ, ADD, turn("final_answer_print(0)")], (3, SUM))
    assert (made.outcome, made.trajectory.ending, made.trajectory.answer) == ("corrected", "answered", "15")


async def test_corrections_have_a_bound(tally: Tally):
    made, *_ = await mentored(tally, [BAD, SUM, SUM, SUM], (1, READ), (1, turn("x = [2]")), max_corrections=2)
    assert (made.outcome, made.note) == ("unsolved", "wrong after 2 corrections")
    assert [one.kept for one in made.corrections] == [False, True]
    assert codes(made.corrections[1].rejected) == [BAD]


@pytest.mark.parametrize("again", [BAD, turn("x   = [1] # as before"), turn("x = [2 - 1]")])
async def test_a_correction_that_repeats_what_was_rejected_there_sets_the_task_aside(tally: Tally, again: str):
    made, *_ = await mentored(tally, [BAD, SUM], (1, again))
    assert (made.outcome, made.note) == ("set_aside", "the correction of step 1 repeats what was rejected there")
    assert made.corrections == ()
    made, *_ = await mentored(tally, [BAD, SUM, SUM], (1, READ), (1, again))
    assert (made.outcome, len(made.corrections)) == ("set_aside", 1)


async def test_after_a_correction_the_student_has_its_steps_again_the_teachers_counting(tally: Tally):
    made, actor, _ = await mentored(tally, [IDLE] * 3 + [IDLE] * 2, (2, READ), max_steps=3, max_corrections=1)
    assert [count for count, _ in actor.asked] == [0, 1, 2, 2, 3]
    assert (len(made.trajectory.steps), made.trajectory.ending) == (4, "out_of_steps")
    seeds = [seed for _, seed in actor.asked]
    assert len(set(seeds)) == 5


async def test_unfinished_attempts_are_corrected_only_when_asked_for(tally: Tally):
    made, *_ = await mentored(tally, [READ, None], unfinished=False)
    assert (made.outcome, made.note, len(made.trajectory.steps)) == ("unfinished", "out_of_context", 1)
    made, *_ = await mentored(tally, [READ, WRONG, None, SUM], (2, ADD))
    assert (made.outcome, made.attempts[0].ending) == ("corrected", "out_of_context")


async def test_an_attempt_without_any_step_is_unfinished(tally: Tally):
    made, *_ = await mentored(tally, [None])
    assert (made.outcome, made.trajectory.steps) == ("unfinished", ())


async def test_a_failing_judge_sets_the_task_aside(tally: Tally):
    made, *_ = await mentored(tally, [turn("final_answer_print('?')")])
    assert (made.outcome, made.note) == ("set_aside", "no verdict: judge failed")


async def test_a_localizer_that_gives_up_or_finds_nothing(tally: Tally):
    made, *_ = await mentored(tally, [READ, SUM], SetAside("leaky", leaks=3))
    assert (made.outcome, made.note, made.leaks) == ("set_aside", "leaky", 3)
    made, *_ = await mentored(tally, [READ, SUM], None)
    assert (made.outcome, made.leaks) == ("unsolved", 1)


async def test_snapshots_are_closed_when_something_breaks(tally: Tally):
    with pytest.raises(RuntimeError, match="broken"):
        await mentored(tally, [READ, SUM], RuntimeError("broken"))
    assert tally.open == 0
