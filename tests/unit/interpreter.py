"""An interpreter that lives in this process, and students and teachers that say what they are told to."""

import copy
import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from score_distill.agent.codeact import AgentState, ModelTurn, act
from score_distill.agent.completer import Completion, Usage
from score_distill.agent.environment import EnvState, SnapshotPool
from score_distill.agent.refusals import ContextOverflow, RequestRefused
from score_distill.agent.tools import chosen
from score_distill.agent.trajectory import Step, Task
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

    async def run(self, code, tools=None, *, keep=True, digest=True):
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
        if not keep:
            await self.close()
        if "TIMEOUT" in code:
            before = self if keep else FakeSnapshot(self.tally, self.names)
            return StepResult("TimeoutError: too long", None, "TimeoutError", repr(self.names), before, undone=True)
        after = FakeSnapshot(self.tally, names)
        output = printed.getvalue().rstrip("\n") or (answers or ["None"])[-1]
        state = repr(names) if digest else None
        return StepResult(output, answers[-1] if answers else None, error, state, after)

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
CUT = Completion("<thought>t</thought><code>x = [int(read())]", Usage(), truncated=True)


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
