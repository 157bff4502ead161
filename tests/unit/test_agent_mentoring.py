"""Acting, localizing and mentoring in an interpreter that lives in this process."""

import copy
import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import pytest

from score_distill.agent.codeact import NO_CODE, AgentState, CutOff, ModelTurn, StudentActor, TeacherActor, act, take
from score_distill.agent.completer import Completion, ContextOverflow, RequestRefused, Usage
from score_distill.agent.environment import EnvState, SnapshotPool
from score_distill.agent.judge import Judge
from score_distill.agent.localize import JudgeLocalizer, Located, NothingWrong, Reenactment, SetAside
from score_distill.agent.mentor import mentor
from score_distill.agent.tools import chosen, words
from score_distill.agent.trajectory import Step, Task, Verdict
from score_distill.api import Sampling
from score_distill.sandbox.client import StepResult

GREEDY = Sampling(temperature=0)


class Tally(dict[int, str]):
    """What became of every snapshot, by its number."""

    @property
    def open(self) -> int:
        return list(self.values()).count("open")


class FakeSnapshot:
    """An interpreter state in this process; code that names TIMEOUT is cut short and leaves no trace."""

    def __init__(self, tally: Tally, names: dict[str, Any] | None = None) -> None:
        self.tally, self.names, self.number = tally, names or {}, len(tally)
        tally[self.number] = "open"

    async def run(self, code, tools=None):
        assert self.tally[self.number] == "open", "a closed snapshot is used"
        answers: list[str] = []
        names = copy.deepcopy(self.names)
        calls = {name: self._call(tool) for name, tool in (tools or {}).items()}
        printed, error = io.StringIO(), None
        with redirect_stdout(printed):
            try:
                exec(
                    code, {"TIMEOUT": 0, "final_answer_print": lambda value: answers.append(str(value)), **calls}, names
                )
            except Exception as raised:
                error = type(raised).__name__
                print(f"{error}: {raised}")
        if "TIMEOUT" in code:
            return StepResult("TimeoutError: too long", None, "TimeoutError", repr(self.names), self)
        after = FakeSnapshot(self.tally, names)
        output = printed.getvalue().rstrip("\n") or (answers or ["None"])[-1]
        return StepResult(output, answers[-1] if answers else None, error, repr(names), after)

    async def close(self) -> None:
        assert self.tally[self.number] == "open", "a snapshot is closed twice"
        self.tally[self.number] = "closed"

    @staticmethod
    def _call(tool):
        def call(*args, **kwargs):
            try:
                tool(args, kwargs).send(None)
            except StopIteration as done:
                return done.value
            raise AssertionError("the tools of these tests do not wait")

        return call


@dataclass
class FakeActor:
    """Writes the given turns one after another; None is a context that is full."""

    turns: list[str | None]
    author: str = "student"
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def write(self, completer, steps: Sequence[Step], seed: int) -> ModelTurn:
        self.asked.append((len(steps), seed))
        text = self.turns.pop(0)
        if text is None:
            raise ContextOverflow("full")
        return ModelTurn(text)


@dataclass
class FakeCompleter:
    """Gives the replies one after another and remembers every request."""

    replies: list[str | Completion]
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def chat(self, messages, **asked: Any) -> Completion:
        self.asked.append({"messages": messages, **asked})
        return self._next()

    async def generate(self, prompt, **asked: Any) -> Completion:
        self.asked.append({"prompt": tuple(prompt), **asked})
        return self._next()

    def _next(self) -> Completion:
        reply = self.replies.pop(0)
        if reply == "OVERFLOW":
            raise ContextOverflow("full")
        if reply == "REFUSED":
            raise RequestRefused("HTTP 400: content filter")
        return reply if isinstance(reply, Completion) else Completion(reply, Usage())


def turn(code: str) -> str:
    return f"<thought>t</thought><code>{code}</code>"


TASK = Task(id="t", question="What is the sum?", answer="15", documents=("10", "5"))
READ, ADD, WRONG = turn("x = [int(read())]"), turn("x.append(int(read()))"), turn("x.append(int(read()) * 100)")
SUM, IDLE, BAD = turn("final_answer_print(sum(x))"), turn("y = 1"), turn("x = [1]")
PLAN = "<first_thought>read all</first_thought>"


@pytest.fixture
def tally() -> Tally:
    return Tally()


def world(tally: Tally, task: Task = TASK) -> EnvState:
    return EnvState(task, chosen(["read"]), FakeSnapshot(tally), {})


async def attempt(tally: Tally, scope: SnapshotPool, *turns: str, task: Task = TASK) -> AgentState:
    stand, _ = await act(
        AgentState((), (scope.hold(world(tally, task)),)),
        FakeActor(list(turns)),
        FakeCompleter([]),
        max_steps=len(turns),
        seed=0,
        scope=scope,
        keep=True,
    )
    return stand


async def acted(tally: Tally, *turns: str | None, max_steps: int):
    actor = FakeActor(list(turns))
    async with SnapshotPool() as scope:
        begun = AgentState((), (scope.hold(world(tally)),))
        stand, ending = await act(begun, actor, FakeCompleter([]), max_steps=max_steps, seed=100, scope=scope)
        assert tally.open <= 1
    assert tally.open == 0
    return stand.steps, ending, actor


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


async def test_the_student_is_asked_for_what_fits_and_no_more():
    reply = Completion("ab", Usage(), tokens=(97, 98, 0), logprobs=(-0.1, -0.2, -0.3))
    completer = FakeCompleter([reply])
    actor = StudentActor(FakeChat(), (7,) * 10, GREEDY, step_tokens=16, context=14, logprobs=True)
    assert await actor.write(completer, [], 3) == ModelTurn("ab", (97, 98, 0), (-0.1, -0.2, -0.3))
    (asked,) = completer.asked
    assert (asked["prompt"], asked["max_tokens"], asked["seed"]) == ((7,) * 10, 4, 3)
    assert (asked["stop_token"], asked["logprobs"]) == (0, True)


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
    completer = FakeCompleter(["Thought: add\n```python\nx = 1\n```\nObservation: 7", "no code here"])
    actor = TeacherActor([{"role": "user", "content": "q"}], GREEDY, 64)
    assert (await actor.write(completer, [], 0)).text == "<thought>add</thought><code>x = 1</code>"
    assert (await actor.write(completer, [], 0)).text == "no code here"


CUT = Completion("<thought>t</thought><code>x = [int(read())]", Usage(), truncated=True)


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
