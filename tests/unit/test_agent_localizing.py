"""Finding and repairing the first wrong step: by acting again, and by a judge."""

import json

import pytest
from tests.unit.interpreter import (
    ADD,
    CUT,
    GREEDY,
    PLAN,
    READ,
    SUM,
    TASK,
    WRONG,
    FakeCompleter,
    Tally,
    attempt,
    turn,
    world,
)

from score_distill.agent.codeact import AgentState, TeacherActor, act
from score_distill.agent.completer import Completion, Usage
from score_distill.agent.environment import SnapshotPool
from score_distill.agent.judge import Judge
from score_distill.agent.localize import JudgeLocalizer, Located, NothingWrong, Reenactment, SetAside
from score_distill.agent.tools import words
from score_distill.agent.trajectory import Task


async def relived(tally: Tally, teacher: list[str | Completion], *turns: str, sound: int = 0, task: Task = TASK):
    completer = FakeCompleter(list(teacher))
    async with SnapshotPool() as scope:
        failed = await attempt(tally, scope, *turns, task=task)
        try:
            found, leaks = await Reenactment(TeacherActor([], GREEDY, 64, tries=3), completer, 0).locate(
                task, failed, sound, scope
            )
            assert leaks == 0
            return found, completer
        finally:
            assert tally.open <= len(turns) + 2


async def test_reenactment_finds_the_first_step_with_another_effect(tally: Tally):
    found, completer = await relived(tally, [READ, ADD], READ, WRONG, SUM)
    assert isinstance(found, Located)
    assert (found.k, found.corrected.steps[-1].code) == (2, "x.append(int(read()))")
    assert [step.author for step in found.corrected.steps] == ["student", "teacher"]
    assert len(completer.asked) == 2
    assert tally.open == 0


async def test_reenactment_skips_plans_and_what_is_known_to_be_sound(tally: Tally):
    found, completer = await relived(tally, [SUM], PLAN, READ, WRONG, SUM, sound=3)
    assert isinstance(found, NothingWrong)
    assert len(completer.asked[0]["messages"]) == 6
    found, completer = await relived(tally, [READ, ADD], PLAN, READ, WRONG, SUM)
    assert (found.k, len(completer.asked)) == (3, 2)


async def test_reenactment_takes_the_same_code_for_the_same_step_though_it_is_not_deterministic(tally: Tally):
    chance = turn("import random; print(random.random())")
    found, _ = await relived(tally, [chance], chance)
    assert isinstance(found, NothingWrong)


async def test_reenactment_needs_code_and_context(tally: Tally):
    with pytest.raises(SetAside, match="no code at step 1"):
        await relived(tally, ["well ..."], READ, SUM)
    with pytest.raises(SetAside, match="too short at step 2"):
        await relived(tally, [READ, "OVERFLOW"], READ, SUM)
    with pytest.raises(SetAside, match="at step 2: 3 tries at a turn"):
        await relived(tally, [READ, CUT, CUT, CUT], READ, SUM)
    assert tally.open == 0


def located(step: int, advice: str = "add the second number") -> str:
    return json.dumps({"analysis": "...", "step": step, "advice": advice})


async def judged(
    tally: Tally, replies: list[str], repairs: list[str | Completion], *turns: str, task: Task = TASK, sound: int = 0
):
    completer, repairer = FakeCompleter(list(replies)), FakeCompleter(list(repairs))
    judge = Judge(completer, GREEDY, 64, 3)
    localizer = JudgeLocalizer(judge, repairer, GREEDY, 64, words(["read"]), True, 0)
    async with SnapshotPool() as scope:
        failed = await attempt(tally, scope, *turns, task=task)
        try:
            found, leaks = await localizer.locate(task, failed, sound, scope)
        except SetAside as error:
            found, leaks = error, error.leaks
    assert tally.open == 0
    return found, leaks, completer, repairer


async def test_the_judge_names_the_step_and_another_call_writes_it(tally: Tally):
    found, leaks, completer, _ = await judged(tally, [located(2)], [ADD], READ, WRONG, SUM)
    assert (found.k, found.corrected.steps[-1].text, found.advice, leaks) == (2, ADD, "add the second number", 0)
    assert json.loads(completer.asked[0]["messages"][1]["content"])["correct_answer"] == "15"
    assert completer.asked[0]["schema"]["properties"]["step"]["maximum"] == 3


@pytest.mark.parametrize(
    "bad", ["prose", '{"step": 2', located(0), located(4), '{"analysis": "", "step": "2", "advice": ""}']
)
async def test_an_unusable_judge_is_asked_again_with_a_bound(tally: Tally, bad: str):
    found, _, completer, _ = await judged(tally, [bad, bad, located(2)], [ADD], READ, WRONG, SUM)
    assert (found.k, len(completer.asked)) == (2, 3)
    assert [one["sampling"].temperature for one in completer.asked] == [0, 0.5, 0.5]
    found, _, completer, repairer = await judged(tally, [bad] * 9, [ADD], READ, WRONG, SUM)
    assert isinstance(found, SetAside)
    assert (len(completer.asked), len(repairer.asked)) == (3, 0)


@pytest.mark.parametrize(
    "again", [WRONG, turn("x.append(int( read() ) * 100)  # anew"), turn("x += [int(read()) * 100]")]
)
async def test_a_repair_that_repeats_the_rejected_step_is_asked_for_again_with_a_bound(tally: Tally, again: str):
    found, leaks, _, repairer = await judged(tally, [located(2)], [again, again, ADD], READ, WRONG, SUM)
    assert (found.corrected.steps[-1].text, leaks, len(repairer.asked)) == (ADD, 0, 3)
    found, *_ = await judged(tally, [located(2)], [again] * 3, READ, WRONG, SUM)
    assert str(found) == "no usable repair of step 2: it did the same as the rejected step"


async def test_a_repair_that_gives_the_rejected_answer_again_is_refused(tally: Tally):
    again = turn("z = 1; final_answer_print(3)")
    found, *_ = await judged(tally, [located(2)], [again] * 3, READ, turn("final_answer_print(3)"))
    assert "did the same as the rejected step" in str(found)


async def test_a_plan_that_is_the_rejected_one_again_is_refused(tally: Tally):
    found, *_ = await judged(tally, [located(1)], ["<first_thought>Read  all </first_thought>"] * 3, PLAN, READ, SUM)
    assert "did the same as the rejected step" in str(found)


async def test_a_step_found_sound_before_is_no_first_error_but_the_teachers_own_may_be(tally: Tally):
    found, _, completer, _ = await judged(tally, [located(1), located(2)], [ADD], READ, WRONG, SUM, sound=2)
    assert (found.k, len(completer.asked)) == (2, 2)
    assert completer.asked[0]["schema"]["properties"]["step"]["minimum"] == 2
    assert "k is at least 2" in completer.asked[0]["messages"][1]["content"]


async def test_a_repair_that_gives_the_answer_away_is_refused_and_counted(tally: Tally):
    leak = turn("final_answer_print(15)")
    found, leaks, _, repairer = await judged(tally, [located(2)], [leak, leak, ADD], READ, WRONG, SUM)
    assert (found.corrected.steps[-1].text, leaks) == (ADD, 2)
    assert len({one["seed"] for one in repairer.asked}) == 3
    found, leaks, _, _ = await judged(tally, [located(2)], [leak] * 9, READ, WRONG, SUM)
    assert isinstance(found, SetAside)
    assert leaks == 3


async def test_an_answer_that_stands_in_the_prefix_is_no_leak(tally: Tally):
    given = Task(id="t", question="q", answer="10", documents=("10", "5"))
    seen = turn("print(read())")
    found, leaks, *_ = await judged(
        tally, [located(2)], [turn("final_answer_print(10)")], seen, turn("final_answer_print(9)"), task=given
    )
    assert (found.k, leaks) == (2, 0)


async def test_the_repairer_never_sees_the_answer(tally: Tally):
    repairs = ["no code", turn("final_answer_print(15)"), ADD]
    found, _, _, repairer = await judged(tally, [located(2, "make it 15")], repairs, READ, WRONG, SUM)
    assert found.advice == ""
    assert len(repairer.asked) == 3
    for one in repairer.asked:
        assert "15" not in json.dumps(one["messages"])


async def test_a_repair_in_another_form_is_asked_for_again(tally: Tally):
    cut = Completion("<thought>t</thought><code>x.append(", Usage(), truncated=True)
    found, leaks, *_ = await judged(tally, [located(2)], [PLAN, cut, ADD], READ, WRONG, SUM)
    assert (found.corrected.steps[-1].text, leaks) == (ADD, 0)
    found, *_ = await judged(
        tally, [located(1)], [READ, "<first_thought>one by one</first_thought>"], PLAN, READ, WRONG
    )
    assert (found.k, found.corrected.steps[-1].plan) == (1, True)
    found, *_ = await judged(tally, [located(2)], ["prose"] * 3, READ, WRONG, SUM)
    assert "not one step in the turn format" in str(found)


async def test_contexts_that_are_too_short_set_the_task_aside(tally: Tally):
    found, *_ = await judged(tally, ["OVERFLOW"], [ADD], READ, SUM)
    assert "context is too short" in str(found)
    found, *_ = await judged(tally, [located(1)], ["OVERFLOW"], READ, SUM)
    assert "context is too short" in str(found)


async def test_a_refused_request_sets_the_task_aside_with_its_reason(tally: Tally):
    found, *_ = await judged(tally, ["REFUSED"], [ADD], READ, SUM)
    assert "HTTP 400: content filter" in str(found)
    found, *_ = await judged(tally, [located(1)], ["REFUSED"], READ, SUM)
    assert "HTTP 400: content filter" in str(found)
    with pytest.raises(SetAside, match="at step 2: HTTP 400: content filter"):
        await relived(tally, [READ, "REFUSED"], READ, SUM)


async def test_an_attempt_ends_where_a_request_is_refused(tally: Tally):
    async with SnapshotPool() as scope:
        begun, teacher = AgentState((), (scope.hold(world(tally)),)), TeacherActor([], GREEDY, 64)
        stand, ending = await act(begun, teacher, FakeCompleter([READ, "REFUSED"]), max_steps=5, seed=0, scope=scope)
    assert (len(stand.steps), ending) == (1, "refused")


async def test_nothing_written_is_nothing_to_judge(tally: Tally):
    assert "no step to judge" in str((await judged(tally, [], []))[0])
