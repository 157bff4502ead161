"""Trajectories with wrong steps in them, to teach acting well after someone else's mistakes.

A teacher that corrects a student continues prefixes that it would not have written: wrong steps,
errors, skipped reads. `wander` plays a task, replaces some steps by plausible wrong ones, executes
them, and says which steps are right; only those are trained on.
"""

import random
import re
from collections.abc import Callable

from examples.ledger.family import OBSERVATION, READ, Message, Task, next_step, render_step
from examples.ledger.interpreter import State, run
from examples.ledger.language import ITEMS, NAMES, QUESTION, asked

MAX_STEPS = 12
SPARE_STEPS = 4


def wander(rng: random.Random, task: Task, mistakes: float) -> tuple[list[Message], list[bool]]:
    """A conversation in which each step is wrong with probability `mistakes`, and which are right."""
    messages = [{"role": "user", "content": task.question}]
    right: list[bool] = []
    observation, state = "", State()
    longest = max(MAX_STEPS, len(task.documents) + SPARE_STEPS)
    while state.answer is None and len(right) < longest:
        step = next_step(task.question, observation)
        wrong = rng.random() < mistakes
        if wrong:
            step = rng.choice(MISTAKES)(rng, task, observation, step)
        right.append(not wrong)
        observation, state = run(step, state, task.documents)
        messages.append({"role": "assistant", "content": step})
        messages.append({"role": "user", "content": f"{OBSERVATION}{observation}"})
    return messages[:-1], right


def _other_question(rng: random.Random, task: Task, observation: str, step: str) -> str:
    """As if another person, or another item, were asked for."""
    person, item = asked(task.question)
    if rng.random() < 0.5:
        person = rng.choice(NAMES)
    else:
        item = rng.choice(ITEMS)
    return next_step(QUESTION.format(A=person, I=item), observation)


def _other_fact(rng: random.Random, task: Task, observation: str, step: str) -> str:
    """The step that another fact of the task would have needed."""
    return next_step(task.question, rng.choice(task.documents))


def _other_operation(rng: random.Random, task: Task, observation: str, step: str) -> str:
    """Another operation on the same number."""
    word, operator = rng.choice((("gain", "+="), ("loss", "-="), ("start", "="), ("double", "*="), ("half", "//=")))
    return re.sub(r": [\w ]+<", f": {word}<", re.sub(r"x [-+*/]*=", f"x {operator}", step))


def _skipped(rng: random.Random, task: Task, observation: str, step: str) -> str:
    """The thought is right and the code does nothing but read on."""
    return re.sub(r"<code>.*</code>", f"<code>{READ}</code>", step, flags=re.DOTALL)


def _unread(rng: random.Random, task: Task, observation: str, step: str) -> str:
    """The next fact is not read, so that nothing is printed."""
    return step.replace(f"\n{READ}", "").replace(READ, "x += 1")


def _flipped_mark(rng: random.Random, task: Task, observation: str, step: str) -> str:
    """One mark of the thought is wrong."""
    flips = {" me": " no", " no": " me", " yes": " not", " not": " yes"}
    found = list(re.finditer(r" (?:me|no|yes|not)\b", step))
    if not found:
        return render_step("skip", READ)
    mark = rng.choice(found)
    return step[: mark.start()] + flips[mark[0]] + step[mark.end() :]


def _other_number(rng: random.Random, task: Task, observation: str, step: str) -> str:
    """One number of the code is another."""
    return re.sub(r" \d+\n", f" {rng.randint(2, 99)}\n", step)


def _broken(rng: random.Random, task: Task, observation: str, step: str) -> str:
    """A piece of the turn is missing."""
    pieces = re.findall(r"</?\w+>|\n| ?[^\s<>]+", step)
    pieces.pop(rng.randrange(len(pieces)))
    return "".join(pieces)


Mistake = Callable[[random.Random, Task, str, str], str]
MISTAKES: tuple[Mistake, ...] = (
    _other_question,
    _other_fact,
    _other_operation,
    _skipped,
    _unread,
    _flipped_mark,
    _other_number,
    _broken,
)
