"""What only a language model can decide: held to a JSON schema, asked again when unusable, never guessed.

`JudgeFailed` means that no usable reply came within the bound. Whoever asked sets the sample aside and counts it;
a failure of the judge is never a verdict.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from score_distill.agent import prompts
from score_distill.agent.answers import check
from score_distill.agent.chat_template import Message
from score_distill.agent.completer import Completer, warmer
from score_distill.agent.refusals import ContextOverflow, RequestRefused
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Step, Task, Verdict
from score_distill.agent.turns import without_reasoning
from score_distill.api import Metric, Sampling

R = TypeVar("R", bound=prompts.Reply)
BRACES = 1000  # opening braces of a reply at which JSON is looked for


class JudgeFailed(Exception):
    """No usable reply from the judge; the message says what was wrong with the last one."""


@dataclass(frozen=True)
class Judge:
    """A model that is asked questions with answers in JSON; ``tries`` bounds how often each is asked."""

    completer: Completer
    sampling: Sampling
    max_tokens: int
    tries: int

    async def ask(self, messages: Sequence[Message], kind: type[R], *seed: object) -> R:
        """A reply of that kind. Raises JudgeFailed."""
        fault = ""
        for attempt in range(self.tries):
            sampling = self.sampling if attempt == 0 else warmer(self.sampling)
            try:
                reply = await self.completer.chat(
                    messages,
                    max_tokens=self.max_tokens,
                    sampling=sampling,
                    seed=seed_of(*seed, attempt),
                    schema=kind.model_json_schema(),
                )
                return read_json(reply.text, kind)
            except ContextOverflow as error:
                raise JudgeFailed(f"the judge's context is too short: {error}") from error
            except RequestRefused as error:
                raise JudgeFailed(f"the judge's server refused the request: {error}") from error
            except ValueError as error:
                fault = str(error)
        raise JudgeFailed(f"{self.tries} replies, none usable; the last: {fault}")


def read_json(text: str, kind: type[R]) -> R:
    """The last JSON object of that kind in a reply; braces of reasoning before it are passed over.

    Raises ValueError saying what is wrong: no such object, or a reply that begins with another one.
    """
    said = without_reasoning(text).strip()
    found, fault = [], f"no JSON object in {said[:80]!r}"
    for start, end in _objects(said):
        try:
            found.append((start, kind.model_validate_json(said[start:end])))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            fault = f"{'.'.join(map(str, first['loc']))}: {first['msg']}, in {said[:80]!r}"
    if not found:
        raise ValueError(fault)
    if found[0][0] == 0 and found[0][1] != found[-1][1]:
        raise ValueError(f"Invalid JSON: two objects that differ, in {said[:80]!r}")
    return found[-1][1]


def _objects(text: str) -> Iterator[tuple[int, int]]:
    """Where JSON objects stand in a text; where none is whole, what stands between its outermost braces."""
    at, first, last = 0, text.find("{"), text.rfind("}")
    whole = False
    for _ in range(BRACES):
        if not 0 <= (at := text.find("{", at)) < last:
            break
        try:
            _, end = json.JSONDecoder().raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
        else:
            whole = True
            yield at, end
            at = end
    if not whole and 0 <= first < last:
        yield first, last + 1


async def judged(metric: Metric, task: Task, answer: str | None, judge: Judge | None) -> Verdict:
    """The verdict by rules, by the judge where rules cannot decide, or none (correct is None)."""
    verdict = await asyncio.to_thread(check, metric, answer, task.answer, task.answer_type)
    if verdict.correct is not None or judge is None or answer is None:
        return verdict
    try:
        reply = await judge.ask(prompts.verify(task, answer), prompts.Equivalent, task.id, answer)
    except JudgeFailed as error:
        return Verdict(correct=None, by="none", detail=str(error))
    return Verdict(correct=reply.equivalent, by="judge")


async def steps_equivalent(task: Task, prefix: Sequence[Step], one: Step, other: Step, judge: Judge) -> bool:
    """Whether two steps after the same prefix are interchangeable, in the judge's eyes. Raises JudgeFailed."""
    messages = prompts.steps_equal(task, prefix, one, other)
    reply = await judge.ask(messages, prompts.Equivalent, task.id, one.text, other.text)
    return reply.equivalent
