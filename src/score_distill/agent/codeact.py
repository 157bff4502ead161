"""The agent loop: think, write code, read what it printed, until the final answer or the last step.

The same loop serves teacher and student, demonstration, mentoring, RL and evaluation. The last step is executed and
scored like any other. A conversation that outgrows the context ends the attempt; it is an outcome, not an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from score_distill.agent import prompts
from score_distill.agent.chat import ChatFormat, encode
from score_distill.agent.chat_template import Message
from score_distill.agent.completer import Completer, Completion, warmer
from score_distill.agent.environment import EnvState, SnapshotPool
from score_distill.agent.refusals import ContextOverflow, RequestRefused
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Author, Ending, Step, Trajectory
from score_distill.agent.turns import parse_turn, read_reply, write_turn
from score_distill.api import Sampling

NO_CODE = "Error: the step has no code; write <thought>…</thought><code>…</code>"


class CutOff(Exception):
    """The bound of tokens cut every try at a turn off: nothing that could be learnt from."""


@dataclass(frozen=True)
class ModelTurn:
    """A turn as its author wrote it; ``tokens``, ``logprobs`` and ``spoilt`` as in `Step`."""

    text: str
    tokens: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    spoilt: int = 0


class Actor(Protocol):
    @property
    def author(self) -> Author: ...

    async def write(self, completer: Completer, steps: Sequence[Step], seed: int) -> ModelTurn:
        """The next turn after ``steps``. Raises ContextOverflow and CutOff."""


@dataclass(frozen=True)
class StudentActor:
    """Acts by token ids; ``opening`` are the ids before its first turn."""

    chat: ChatFormat
    opening: tuple[int, ...]
    sampling: Sampling
    step_tokens: int
    context: int
    logprobs: bool = False
    author: Author = "student"

    async def write(self, completer: Completer, steps: Sequence[Step], seed: int) -> ModelTurn:
        prompt = encode(self.chat, self.opening, steps).ids
        room = min(self.step_tokens, self.context - len(prompt))
        if room < 1:
            raise ContextOverflow(f"{len(prompt)} tokens of {self.context}")
        reply = await completer.generate(
            prompt,
            max_tokens=room,
            sampling=self.sampling,
            seed=seed,
            stop_token=self.chat.stop_token,
            logprobs=self.logprobs,
        )
        if reply.truncated and room < self.step_tokens:
            raise ContextOverflow(f"{len(prompt)} + {room} tokens of {self.context}")
        return sampled(self.chat, reply)


def sampled(chat: ChatFormat, reply: Completion) -> ModelTurn:
    """The turn in what the student sampled, as if generation had stopped where the turn ends."""
    said = chat.text(reply.tokens)
    turn = read_reply(said)
    if not said[turn.end :].strip():
        return ModelTurn(turn.text, reply.tokens, reply.logprobs or None)
    kept, learnt = chat.cut(reply.tokens, said[: turn.end])
    return ModelTurn(turn.text, reply.tokens[:kept], reply.logprobs[:learnt] or None, kept - learnt)


@dataclass(frozen=True)
class TeacherActor:
    """Acts by messages; what it writes is brought into the normal form of a turn.

    A turn cut off by the bound of tokens is asked for ``tries`` times; with None it stands, as a student's does.
    """

    opening: Sequence[Message]
    sampling: Sampling
    step_tokens: int
    tries: int | None = None
    author: Author = "teacher"

    async def write(self, completer: Completer, steps: Sequence[Step], seed: int) -> ModelTurn:
        messages = prompts.conversation(self.opening, steps)
        for attempt in range(self.tries or 1):
            sampling = self.sampling if attempt == 0 else warmer(self.sampling)
            asked = seed if attempt == 0 else seed_of(seed, attempt)
            reply = await completer.chat(messages, max_tokens=self.step_tokens, sampling=sampling, seed=asked)
            if self.tries is None or not reply.truncated:
                turn, text, _ = read_reply(reply.text)
                return ModelTurn(write_turn(turn) if turn.plan or turn.code is not None else text)
        raise CutOff(f"{self.tries} tries at a turn, each longer than {self.step_tokens} tokens")


@dataclass(frozen=True)
class AgentState:
    """Where an agent stands: the steps so far, and the world before each of them and after the last."""

    steps: tuple[Step, ...]
    worlds: tuple[EnvState, ...]

    @property
    def world(self) -> EnvState:
        return self.worlds[-1]

    def back_to(self, k: int) -> "AgentState":
        """Where the agent stood before step ``k``."""
        return AgentState(self.steps[: k - 1], self.worlds[:k])


async def take(
    stand: AgentState,
    written: ModelTurn,
    author: Author,
    scope: SnapshotPool,
    *,
    keep: bool = True,
    digest: bool = True,
) -> AgentState:
    """Execute a turn; the new world's snapshot lives as long as ``scope``.

    Without ``keep`` the world before it is closed, if ``scope`` holds it; without ``digest`` the step has no ``state``.
    """
    turn = parse_turn(written.text)
    made = {
        "author": author,
        "text": written.text,
        "thought": turn.thought,
        "tokens": written.tokens,
        "logprobs": written.logprobs,
        "spoilt": written.spoilt,
    }
    if turn.code is None:
        plan = turn.plan and not stand.steps
        state = stand.steps[-1].state if stand.steps else ""
        step = Step(**made, code=None, plan=plan, observation="None" if plan else NO_CODE, state=state)
        return AgentState((*stand.steps, step), (*stand.worlds, stand.world))
    keep = keep or not scope.holds(stand.world)
    effect = await stand.world.run(turn.code, keep=keep, digest=digest)
    if not keep:
        scope.replace(stand.world, effect.world)
    elif effect.world.snapshot is not stand.world.snapshot:
        scope.hold(effect.world)
    step = Step(
        **made,
        code=turn.code,
        observation=effect.observation,
        answer=effect.answer,
        error=effect.error,
        state=effect.state,
    )
    return AgentState((*stand.steps, step), (*stand.worlds, effect.world))


async def act(
    stand: AgentState,
    actor: Actor,
    completer: Completer,
    *,
    max_steps: int,
    seed: int,
    scope: SnapshotPool,
    keep: bool = False,
    compared: int | None = None,
) -> tuple[AgentState, Ending]:
    """Go on from ``stand`` for at most ``max_steps`` further steps.

    With ``keep`` every world on the way stays open in ``scope``, to go back to; else the last one alone. Only the first
    ``compared`` steps tell what state they left, which costs as much as a small step; all of them when it is None.
    """
    if stand.steps and stand.steps[-1].answer is not None:
        return stand, "answered"
    for taken in range(max_steps):
        try:
            written = await actor.write(completer, stand.steps, seed + len(stand.steps))
        except ContextOverflow:
            return stand, "out_of_context"
        except CutOff:
            return stand, "cut_off"
        except RequestRefused:
            return stand, "refused"
        digest = compared is None or taken < compared
        stand = await take(stand, written, actor.author, scope, keep=keep, digest=digest)
        if not keep:
            await scope.release(stand.worlds[:-1], keep=stand.worlds[-1:])
        if stand.steps[-1].answer is not None:
            return stand, "answered"
    return stand, "out_of_steps"


def trajectory(task: str, stand: AgentState, ending: Ending) -> Trajectory:
    return Trajectory(task=task, steps=stand.steps, ending=ending)
