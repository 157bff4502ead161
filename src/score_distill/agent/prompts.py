"""Every text that a model is given, and the reading of what it writes back.

The student and the teacher act under the same words. ``PROMPT_VERSION`` is a digest of this file's texts and stands
in every row made with them.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from score_distill.agent.chat import Message, observed
from score_distill.agent.tools import Tool
from score_distill.agent.trajectory import Step, Task
from score_distill.api import PromptStyle

ACT = """You solve a task in steps. In each step you write one short thought and one block of Python code, and then \
read what the code printed.
{plan}Every step looks exactly like this:
<thought>why this step</thought><code>
print(...)
</code>
Variables, imports and functions stay from step to step. Print what you want to read. These functions are there \
besides Python:
{tools}- final_answer_print(answer): gives the answer and ends the task. Call it once, when you know the answer."""

PLAN = """The first step alone is different: a plan in plain text, without code and without the answer:
<first_thought>how you will go about it</first_thought>
"""

LOCATE = """You check the work of a student who solves tasks in numbered steps. You are given the task, its correct \
answer and all steps with what they printed. The student's result is wrong or missing.
Find the FIRST wrong step: the smallest k such that every step before k is sound (a right way to go on, even if not \
your own) and step k is not. A step that only repeats or passes on an earlier error is not the first one.
Reply in JSON: "analysis": what each step does, up to the first wrong one; "step": k; "advice": how to do step k \
right, in one or two sentences, for someone who must find the answer alone: do not state or compute the answer."""

REPAIR = """{act}

You take over for one step. The steps so far are sound; the attempt at the next step below was not. Write the step \
that should stand in its place, and only that one step, as if it were your own next step: no word about a mistake or \
a correction, and do not solve more of the task than this step should."""

VERIFY = """Compare an answer with the reference answer of a task. Ignore wording, units, formatting and additional \
explanation; what counts is whether the answer says the same as the reference.
Reply in JSON: "equivalent": true or false."""

STEPS_EQUAL = """Two candidate next steps follow the same earlier steps of a task. Decide whether they are \
interchangeable: the same progress by the same means, judged above all by what they printed.
Reply in JSON: "equivalent": true or false."""

PROMPT_VERSION = hashlib.sha256("\0".join([ACT, PLAN, LOCATE, REPAIR, VERIFY, STEPS_EQUAL]).encode()).hexdigest()[:12]

EQUIVALENT_SCHEMA = {
    "type": "object",
    "properties": {"equivalent": {"type": "boolean"}},
    "required": ["equivalent"],
    "additionalProperties": False,
}


class Turn(NamedTuple):
    """What a turn says: ``code`` None when it has none, ``plan`` when it is a first thought."""

    thought: str
    code: str | None
    plan: bool


def parse_turn(text: str) -> Turn:
    """Read an assistant turn: tags, or the ```python fence that many models write instead, or inside of them."""
    text = re.sub(r"<think>(?:(?!<think>).)*?</think>", "", text.replace("\r\n", "\n"), flags=re.DOTALL)
    code = re.search(r"<code>\n?(.*?)(?:</code>|\Z)", text, re.DOTALL) or re.search(
        r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", text, re.DOTALL
    )
    first = re.search(r"<first_thought>(.*?)(?:</first_thought>|\Z)", text, re.DOTALL)
    if first and not code:
        return Turn(first[1].strip(), None, True)
    thought = re.search(r"<thought>(.*?)(?:</thought>|<code>|\Z)", text, re.DOTALL)
    before = text[: code.start()] if code else text
    return Turn((thought[1] if thought else before).strip(), _unfenced(code[1]).rstrip("\n") if code else None, False)


def _unfenced(code: str) -> str:
    body = code.strip()
    return body.partition("\n")[2].removesuffix("```") if body.startswith("```") else code


def write_turn(turn: Turn) -> str:
    """The normal form of a turn, for steps that a teacher wrote in its own way."""
    thought = re.sub(r"^\s*(?:first\s+)?thought\s*:\s*", "", turn.thought, flags=re.IGNORECASE)
    if turn.plan:
        return f"<first_thought>{thought}</first_thought>"
    return f"<thought>{thought}</thought><code>{turn.code or ''}</code>"


def opening(task: Task, tools: Mapping[str, Tool], *, style: PromptStyle, plan: bool) -> list[Message]:
    """The messages before the first step, for whoever acts."""
    question = {"role": "user", "content": task.question}
    return [question] if style == "Bare" else [{"role": "system", "content": _act(tools, plan)}, question]


def conversation(start: Sequence[Message], steps: Sequence[Step]) -> list[Message]:
    """The messages of an agent that stands after ``steps``."""
    messages = list(start)
    for step in steps:
        messages += [{"role": "assistant", "content": step.text}, {"role": "user", "content": observed(step)}]
    return messages


def locate(task: Task, steps: Sequence[Step], least: int = 1) -> list[Message]:
    """Ask for the first wrong step from ``least`` on. The one call besides `verify` that shows the reference answer."""
    body = f"Task:\n{task.question}\n\nCorrect answer:\n{task.answer}\n\nSteps:\n{numbered(steps)}"
    if least > 1:
        body += f"\n\nThe steps before step {least} were checked before and are sound: k is at least {least}."
    return [{"role": "system", "content": LOCATE}, {"role": "user", "content": body}]


def located_schema(least: int, steps: int) -> dict[str, Any]:
    """What the reply to `locate` must look like for an attempt of that many steps, the wrong one ``least`` or later."""
    return {
        "type": "object",
        "properties": {
            "analysis": {"type": "string"},
            "step": {"type": "integer", "minimum": least, "maximum": steps},
            "advice": {"type": "string"},
        },
        "required": ["analysis", "step", "advice"],
        "additionalProperties": False,
    }


def repair(
    task: Task, prefix: Sequence[Step], rejected: Step, advice: str, tools: Mapping[str, Tool], *, plan: bool
) -> list[Message]:
    """Ask for one step in place of ``rejected``; without the reference answer."""
    sofar = numbered(prefix) or "(none)"
    form = "a plan, as <first_thought>…</first_thought>" if rejected.plan else "<thought>…</thought><code>…</code>"
    body = (
        f"Task:\n{task.question}\n\nSteps so far:\n{sofar}\n\nThe attempt that was not sound:\n{_shown(rejected)}\n\n"
        f"Advice:\n{advice or '(none)'}\n\nWrite step {len(prefix) + 1} as {form}."
    )
    return [{"role": "system", "content": REPAIR.format(act=_act(tools, plan))}, {"role": "user", "content": body}]


def verify(task: Task, answer: str) -> list[Message]:
    body = f"Task:\n{task.question}\n\nReference answer:\n{task.answer}\n\nAnswer:\n{answer}"
    return [{"role": "system", "content": VERIFY}, {"role": "user", "content": body}]


def steps_equal(task: Task, prefix: Sequence[Step], one: Step, other: Step) -> list[Message]:
    body = (
        f"Task:\n{task.question}\n\nEarlier steps:\n{numbered(prefix) or '(none)'}\n\n"
        f"Candidate A:\n{_shown(one)}\n\nCandidate B:\n{_shown(other)}"
    )
    return [{"role": "system", "content": STEPS_EQUAL}, {"role": "user", "content": body}]


def numbered(steps: Sequence[Step]) -> str:
    return "\n".join(f"Step {n}:\n{_shown(step)}" for n, step in enumerate(steps, 1))


def _shown(step: Step) -> str:
    return f"{step.text}\n{observed(step)}"


def _act(tools: Mapping[str, Tool], plan: bool) -> str:
    listed = "".join(f"- {tool.signature}: {tool.description}\n" for tool in tools.values())
    return ACT.format(plan=PLAN if plan else "", tools=listed)
