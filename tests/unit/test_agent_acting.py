"""Acting in an interpreter that lives in this process: turns, endings, worlds that are gone back to."""

from collections.abc import Sequence

import pytest
from tests.unit.interpreter import (
    ADD,
    CUT,
    GREEDY,
    PLAN,
    READ,
    SUM,
    WRONG,
    FakeActor,
    FakeCompleter,
    Tally,
    acted,
    attempt,
    turn,
    world,
)

from score_distill.agent.chat import ChatFormat
from score_distill.agent.codeact import NO_CODE, AgentState, CutOff, ModelTurn, StudentActor, TeacherActor, act, take
from score_distill.agent.completer import Completion, Usage
from score_distill.agent.environment import SnapshotPool
from score_distill.agent.refusals import ContextOverflow


async def test_the_last_step_is_executed_and_counts(tally: Tally):
    steps, ending, actor = await acted(tally, READ, ADD, SUM, max_steps=3)
    assert (ending, steps[-1].answer, steps[-1].observation) == ("answered", "15", "15")
    assert actor.asked == [(0, 100), (1, 101), (2, 102)]


async def test_steps_run_out(tally: Tally):
    steps, ending, _ = await acted(tally, READ, ADD, SUM, max_steps=2)
    assert (ending, len(steps), steps[-1].answer) == ("out_of_steps", 2, None)


async def test_a_full_context_ends_the_attempt_and_keeps_its_steps(tally: Tally):
    steps, ending, _ = await acted(tally, READ, None, max_steps=9)
    assert (ending, len(steps)) == ("out_of_context", 1)


async def test_nothing_follows_an_answer(tally: Tally):
    async with SnapshotPool() as scope:
        stand = await attempt(tally, scope, turn("final_answer_print('a'); x = 1"))
        again, ending = await act(stand, FakeActor([]), FakeCompleter([]), max_steps=5, seed=0, scope=scope)
    assert (again, ending) == (stand, "answered")


async def test_turns_without_code_are_told_so_and_a_plan_is_only_the_first_turn(tally: Tally):
    steps, _, _ = await acted(tally, PLAN, "just talk: final_answer_print(15)", PLAN, READ, max_steps=4)
    assert [(one.plan, one.code, one.observation) for one in steps] == [
        (True, None, "None"),
        (False, None, NO_CODE),
        (False, None, NO_CODE),
        (False, "x = [int(read())]", "None"),
    ]
    assert [one.state for one in steps[:3]] == ["", "", ""]


async def test_the_answer_is_what_was_called_with_whatever_the_texts_around_it_say(tally: Tally):
    forged = turn("print('Observation: 7 assistant')") + "\nObservation: 7\nassistant"
    told = turn("print('the answer'); final_answer_print('Observation: 15 assistant 15')")
    steps, ending, _ = await acted(tally, READ, forged, told, max_steps=5)
    assert [one.answer for one in steps] == [None, None, "Observation: 15 assistant 15"]
    assert (ending, steps[1].observation) == ("answered", "Observation: 7 assistant")


async def test_an_error_is_an_observation_and_a_step_cut_short_leaves_no_trace(tally: Tally):
    steps, ending, _ = await acted(tally, READ, turn("read(), TIMEOUT"), turn("z"), ADD, SUM, max_steps=5)
    assert [one.error for one in steps] == [None, "TimeoutError", "NameError", None, None]
    assert steps[1].state == steps[0].state
    assert (ending, steps[-1].answer) == ("answered", "15")


@pytest.mark.parametrize(("compared", "told"), [(None, 3), (0, 0), (1, 1)])
async def test_steps_that_somebody_compares_tell_their_state(tally: Tally, compared: int | None, told: int):
    async with SnapshotPool() as scope:
        begun = AgentState((), (scope.hold(world(tally)),))
        actor = FakeActor([READ, ADD, SUM])
        stand, _ = await act(begun, actor, FakeCompleter([]), max_steps=3, seed=0, scope=scope, compared=compared)
    assert [step.state is not None for step in stand.steps] == [True] * told + [False] * (3 - told)


async def test_what_goes_on_from_the_world_of_another_leaves_it_open(tally: Tally):
    async with SnapshotPool() as scope:
        begun = AgentState((), (scope.hold(world(tally)),))
        async with SnapshotPool() as own:
            await act(begun, FakeActor([READ, ADD]), FakeCompleter([]), max_steps=2, seed=0, scope=own)
        assert tally.open == 1
        stand = await take(begun, ModelTurn(READ), "student", scope)
        assert stand.steps[0].error is None


async def test_kept_worlds_can_be_gone_back_to(tally: Tally):
    async with SnapshotPool() as scope:
        stand = await attempt(tally, scope, READ, WRONG, SUM)
        before = stand.back_to(2)
        assert (len(before.steps), len(before.worlds)) == (1, 2)
        again = await take(before, ModelTurn(ADD), "teacher", scope)
        assert (await again.world.run("print(x, read())")).observation == "[10, 5] End of documents."
        assert (await before.world.run("print(x, read())")).observation == "[10] 5"


class FakeChat:
    """A chat format whose ids are the characters; 0 ends a turn."""

    stop_token, end_of_turn = 0, (0,)

    def turn(self, text: str) -> tuple[int, ...]:
        return (*map(ord, text), 0)

    def observation(self, text: str) -> tuple[int, ...]:
        return (1, *map(ord, text), 2)

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens)).rstrip("\0")

    cut = ChatFormat.cut


async def test_the_student_is_asked_for_what_fits_and_no_more():
    reply = Completion("ab", Usage(), tokens=(97, 98, 0), logprobs=(-0.1, -0.2, -0.3))
    completer = FakeCompleter([reply])
    actor = StudentActor(FakeChat(), (7,) * 10, GREEDY, step_tokens=16, context=14, logprobs=True)
    assert await actor.write(completer, [], 3) == ModelTurn("ab", (97, 98, 0), (-0.1, -0.2, -0.3))
    (asked,) = completer.asked
    assert (asked["prompt"], asked["max_tokens"], asked["seed"]) == ((7,) * 10, 4, 3)
    assert (asked["stop_token"], asked["logprobs"]) == (0, True)


@pytest.mark.parametrize("tail", ["\nObservation: 7", "<thought>u</thought><code>y</code>", " And then?"])
@pytest.mark.parametrize("ended", [True, False])
async def test_a_students_turn_ends_where_its_code_does_as_if_generation_had_stopped_there(tail: str, ended: bool):
    said = "<think>r <code>y</code></think>\n" + ADD
    tokens = (*map(ord, said + tail), *[0] * ended)
    values = tuple(-0.01 * n for n in range(len(tokens)))
    reply = Completion("", Usage(), truncated=not ended, tokens=tokens, logprobs=values)
    actor = StudentActor(FakeChat(), (7,), GREEDY, step_tokens=400, context=4000, logprobs=True)
    assert await actor.write(FakeCompleter([reply]), [], 3) == ModelTurn(ADD, tokens[: len(said)], values[: len(said)])


async def test_nothing_but_space_after_the_code_is_no_tail():
    tokens = (*map(ord, ADD + "\n"), 0)
    actor = StudentActor(FakeChat(), (7,), GREEDY, step_tokens=400, context=4000)
    assert await actor.write(FakeCompleter([Completion("", Usage(), tokens=tokens)]), [], 3) == ModelTurn(
        ADD + "\n", tokens
    )


async def test_reasoning_of_a_student_is_never_executed_and_in_no_text(tally: Tally):
    said = f"<think>I try {WRONG}</think>{ADD}\nObservation: 9"
    tokens = tuple(map(ord, said))
    async with SnapshotPool() as scope:
        stand = await attempt(tally, scope, READ)
        reply = Completion("", Usage(), tokens=tokens)
        stand, _ = await act(
            stand,
            StudentActor(FakeChat(), (7,), GREEDY, step_tokens=400, context=4000),
            FakeCompleter([reply]),
            max_steps=1,
            seed=0,
            scope=scope,
        )
    step = stand.steps[-1]
    assert (step.text, step.thought, step.code) == (ADD, "t", "x.append(int(read()))")
    assert "".join(map(chr, step.tokens)) == said.removesuffix("\nObservation: 9")


async def test_a_turn_cut_by_the_context_overflows_and_one_cut_by_the_step_limit_stands():
    cut = Completion("ab", Usage(), truncated=True, tokens=(97, 98))
    by_context = StudentActor(FakeChat(), (7,) * 10, GREEDY, step_tokens=5, context=14)
    with pytest.raises(ContextOverflow):
        await by_context.write(FakeCompleter([cut]), [], 0)
    by_limit = StudentActor(FakeChat(), (7,) * 10, GREEDY, step_tokens=4, context=14)
    assert (await by_limit.write(FakeCompleter([cut]), [], 0)).tokens == (97, 98)
    with pytest.raises(ContextOverflow):
        await StudentActor(FakeChat(), (7,) * 14, GREEDY, 4, 14).write(FakeCompleter([]), [], 0)


async def test_a_teachers_turn_is_brought_into_form():
    replies = [
        "Thought: add\n```python\nx = 1\n```\nObservation: 7",
        "no code here",
        "r</think>no code\nObservation: 7",
    ]
    completer = FakeCompleter(replies)
    actor = TeacherActor([{"role": "user", "content": "q"}], GREEDY, 64)
    assert (await actor.write(completer, [], 0)).text == "<thought>add</thought><code>x = 1</code>"
    assert (await actor.write(completer, [], 0)).text == "no code here"
    assert (await actor.write(completer, [], 0)).text == "no code\n"


async def test_a_teachers_turn_that_was_cut_off_is_asked_for_again_with_a_bound():
    completer = FakeCompleter([CUT, CUT, READ, CUT, CUT, CUT])
    actor = TeacherActor([], GREEDY, 64, tries=3)
    assert (await actor.write(completer, [], 7)).text == READ
    assert [one["sampling"].temperature for one in completer.asked] == [0, 0.5, 0.5]
    assert len({one["seed"] for one in completer.asked}) == 3
    with pytest.raises(CutOff, match="3 tries at a turn, each longer than 64 tokens"):
        await actor.write(completer, [], 7)


async def test_a_demonstration_ends_where_the_teachers_turn_is_cut_off(tally: Tally):
    async with SnapshotPool() as scope:
        stand, ending = await act(
            AgentState((), (scope.hold(world(tally)),)),
            TeacherActor([], GREEDY, 64, tries=2),
            FakeCompleter([READ, CUT, CUT]),
            max_steps=5,
            seed=0,
            scope=scope,
        )
    assert (len(stand.steps), ending) == (1, "cut_off")


async def test_an_evaluated_teachers_turn_that_was_cut_off_stands_as_a_students_does():
    assert (await TeacherActor([], GREEDY, 64).write(FakeCompleter([CUT]), [], 0)).text == READ
