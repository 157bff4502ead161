"""Finding the first wrong step of a failed attempt, and the teacher's step to put in its place.

Two localizers, chosen in the manifest. `JudgeLocalizer` shows the teacher all steps and the reference answer, asks for
the smallest wrong k, and has the step rewritten by a call that never sees the reference. `Reenactment` asks the
teacher for its own next step at each prefix and compares what the two steps do; it never needs the reference at all.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from score_distill.agent import prompts
from score_distill.agent.chat_template import Message
from score_distill.agent.codeact import Actor, AgentState, CutOff, ModelTurn, take
from score_distill.agent.completer import Completer, Completion
from score_distill.agent.environment import SnapshotPool
from score_distill.agent.equality import repeats
from score_distill.agent.judge import Judge, JudgeFailed
from score_distill.agent.leaks import leaks_answer
from score_distill.agent.refusals import ContextOverflow, RequestRefused
from score_distill.agent.seeds import seed_of
from score_distill.agent.tools import Words
from score_distill.agent.trajectory import Step, Task
from score_distill.agent.turns import parse_turn, write_turn
from score_distill.api import Sampling


@dataclass(frozen=True)
class Located:
    """Step ``k`` is the first wrong one; ``corrected`` is where the agent stands after the teacher's step k."""

    k: int
    corrected: AgentState
    advice: str = ""


@dataclass(frozen=True)
class NothingWrong:
    """The localizer finds every step sound, though the result is not."""


class SetAside(Exception):
    """This task cannot be localized or repaired; the message says why. ``leaks`` repairs gave the answer away."""

    def __init__(self, why: str, leaks: int = 0) -> None:
        super().__init__(why)
        self.leaks = leaks


class Localizer(Protocol):
    async def locate(
        self, task: Task, failed: AgentState, sound: int, scope: SnapshotPool
    ) -> tuple[Located | NothingWrong, int]:
        """The first wrong step after the first ``sound`` ones, and how many repairs leaked. Raises SetAside."""


@dataclass(frozen=True)
class Reenactment:
    """The first step that differs in code and effect from the teacher's own next step at the same prefix."""

    actor: Actor
    teacher: Completer
    seed: int

    async def locate(
        self, task: Task, failed: AgentState, sound: int, scope: SnapshotPool
    ) -> tuple[Located | NothingWrong, int]:
        for k in range(sound + 1, len(failed.steps) + 1):
            if failed.steps[k - 1].plan:
                continue
            before = failed.back_to(k)
            try:
                written = await self.actor.write(self.teacher, before.steps, seed_of(self.seed, task.id, k))
            except ContextOverflow as error:
                raise SetAside(f"the teacher's context is too short at step {k}: {error}") from error
            except (CutOff, RequestRefused) as error:
                raise SetAside(f"the teacher at step {k}: {error}") from error
            own = await take(before, written, "teacher", scope)
            if own.steps[-1].code is None and not own.steps[-1].plan:
                raise SetAside(f"the teacher wrote no code at step {k}")
            if not repeats(own.steps[-1], failed.steps[k - 1]):
                return Located(k, own), 0
            await scope.release(own.worlds[-1:], keep=before.worlds)
        return NothingWrong(), 0


@dataclass(frozen=True)
class JudgeLocalizer:
    """The teacher names the first wrong step; another call of it writes one step for that place.

    A repair that states the reference answer while question and prefix do not is a leak: it is refused and counted. One
    that repeats the step which it should replace is refused too. Of the steps that were found sound before, the teacher
    may name the last again, which it wrote itself and nobody has judged.
    """

    judge: Judge
    repairer: Completer
    repair_sampling: Sampling
    step_tokens: int
    tools: Mapping[str, Words]
    plan: bool
    seed: int

    async def locate(
        self, task: Task, failed: AgentState, sound: int, scope: SnapshotPool
    ) -> tuple[Located | NothingWrong, int]:
        if not failed.steps:
            raise SetAside("the student wrote no step to judge")
        k, advice = await self._first_wrong(task, failed.steps, max(1, sound))
        seen = [task.question, *(text for step in failed.steps[: k - 1] for text in (step.text, step.observation))]
        if await asyncio.to_thread(leaks_answer, task.answer, advice, seen):
            advice = ""
        before, leaks = failed.back_to(k), 0
        messages = prompts.repair(task, before.steps, failed.steps[k - 1], advice, self.tools, plan=self.plan)
        fault = ""
        for attempt in range(self.judge.tries):
            reply = await self._repair(messages, seed_of(self.seed, task.id, k, "repair", attempt))
            turn = parse_turn(reply.text)
            text = write_turn(turn)
            if await asyncio.to_thread(leaks_answer, task.answer, text, seen):
                leaks, fault = leaks + 1, "it gave the answer away"
            elif turn.plan is not failed.steps[k - 1].plan or (turn.code is None and not turn.plan):
                fault = "it was not one step in the turn format"
            elif reply.truncated:
                fault = f"it was longer than {self.step_tokens} tokens"
            else:
                corrected = await take(before, ModelTurn(text), "teacher", scope)
                if not repeats(corrected.steps[-1], failed.steps[k - 1]):
                    return Located(k, corrected, advice), leaks
                fault = "it did the same as the rejected step"
                await scope.release(corrected.worlds[-1:], keep=failed.worlds)
        raise SetAside(f"no usable repair of step {k}: {fault}", leaks)

    async def _first_wrong(self, task: Task, steps: Sequence[Step], least: int) -> tuple[int, str]:
        messages, kind = prompts.locate(task, steps, least), prompts.first_wrong(least, len(steps))
        try:
            reply = await self.judge.ask(messages, kind, self.seed, task.id, len(steps))
        except JudgeFailed as error:
            raise SetAside(f"judge: {error}") from error
        return reply.step, reply.advice

    async def _repair(self, messages: Sequence[Message], seed: int) -> Completion:
        try:
            return await self.repairer.chat(
                messages, max_tokens=self.step_tokens, sampling=self.repair_sampling, seed=seed
            )
        except ContextOverflow as error:
            raise SetAside(f"the repairing teacher's context is too short: {error}") from error
        except RequestRefused as error:
            raise SetAside(f"the repairing teacher's server refused the request: {error}") from error
