"""What only a language model can decide: held to a JSON schema, asked again when unusable, never guessed.

`JudgeFailed` means that no usable reply came within the bound. Whoever asked sets the sample aside and counts it;
a failure of the judge is never a verdict.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from score_distill.agent import prompts
from score_distill.agent.answers import check
from score_distill.agent.chat import Message
from score_distill.agent.completer import Completer, ContextOverflow, warmer
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Step, Task, Verdict
from score_distill.api import Metric, Sampling


class JudgeFailed(Exception):
    """No usable reply from the judge; the message says what was wrong with the last one."""


@dataclass(frozen=True)
class Judge:
    """A model that is asked questions with answers in JSON; ``tries`` bounds how often each is asked."""

    completer: Completer
    sampling: Sampling
    max_tokens: int
    tries: int

    async def ask(self, messages: Sequence[Message], schema: Mapping[str, Any], *seed: object) -> dict[str, Any]:
        """A JSON object with the schema's required keys of the right types. Raises JudgeFailed."""
        fault = ""
        for attempt in range(self.tries):
            sampling = self.sampling if attempt == 0 else warmer(self.sampling)
            try:
                reply = await self.completer.chat(
                    messages,
                    max_tokens=self.max_tokens,
                    sampling=sampling,
                    seed=seed_of(*seed, attempt),
                    schema=schema,
                )
                return read_json(reply.text, schema)
            except ContextOverflow as error:
                raise JudgeFailed(f"the judge's context is too short: {error}") from error
            except ValueError as error:
                fault = str(error)
        raise JudgeFailed(f"{self.tries} replies, none usable; the last: {fault}")


def read_json(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object in a reply, checked against ``schema`` (flat objects). Raises ValueError saying what is wrong."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise ValueError(f"no JSON object in {text[:80]!r}")
    try:
        value = json.loads(text[start : end + 1])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"invalid JSON: {error}") from error
    kinds: dict[str, type] = {"string": str, "integer": int, "boolean": bool}
    for name in schema["required"]:
        rule = schema["properties"][name]
        wanted, given = kinds[rule["type"]], value.get(name)
        if type(given) is not wanted:
            raise ValueError(f"{name!r} must be a {wanted.__name__} in {text[:80]!r}")
        if wanted is int and not rule.get("minimum", given) <= given <= rule.get("maximum", given):
            raise ValueError(f"{name!r} must be {rule['minimum']} to {rule['maximum']}, found {str(given)[:20]}")
    return dict(value)


async def judged(metric: Metric, task: Task, answer: str | None, judge: Judge | None) -> Verdict:
    """The verdict by rules, by the judge where rules cannot decide, or none (correct is None)."""
    verdict = await asyncio.to_thread(check, metric, answer, task.answer)
    if verdict.correct is not None or judge is None or answer is None:
        return verdict
    try:
        reply = await judge.ask(prompts.verify(task, answer), prompts.EQUIVALENT_SCHEMA, task.id, answer)
    except JudgeFailed as error:
        return Verdict(correct=None, by="none", detail=str(error))
    return Verdict(correct=reply["equivalent"], by="judge")


async def steps_equivalent(task: Task, prefix: Sequence[Step], one: Step, other: Step, judge: Judge) -> bool:
    """Whether two steps after the same prefix are interchangeable, in the judge's eyes. Raises JudgeFailed."""
    messages = prompts.steps_equal(task, prefix, one, other)
    reply = await judge.ask(messages, prompts.EQUIVALENT_SCHEMA, task.id, one.text, other.text)
    return bool(reply["equivalent"])
