"""The interactive ledger: a family of tasks for an agent that reads one fact at a time.

"How many cups does Mia have at the end?" The agent calls `read()` for the next fact, keeps the
count `x` in the interpreter and ends with `final_answer_print(x)`: 5 to 10 steps. Every decision
is local: the number to use stands in the observation just before. `x` is changed in place, so
whatever is left over from a wrong step corrupts all that follows.

This module writes tasks and knows the right step after any observation (`next_step`), hence the
perfect trajectory of any task. It uses no model; `language.py` holds the sentences.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from examples.ledger.language import (
    IDLE,
    ITEMS,
    NAMES,
    OPERATION_KINDS,
    OPERATIONS,
    QUESTION,
    SKIP,
    STARTS,
    Template,
    asked,
    meaning,
    operation,
)

END_OF_DOCUMENTS = "End of documents."
OBSERVATION = "Observation: "
READ = "print(read())"
FINISH = "final_answer_print(x)"
OTHERS = ("person", "item", "both")
MAX_COUNT = 999
FACTS = (3, 8)

Split = Literal["pretrain", "train", "eval"]
Message = dict[str, str]


@dataclass(frozen=True)
class Part:
    """A part of the family: which sentences occur in its tasks."""

    operations: tuple[Template, ...]
    idle: tuple[Template, ...]
    others: tuple[str, ...]


WHOLE = Part(OPERATIONS, IDLE, OTHERS)


@dataclass(frozen=True)
class Task:
    """One row of a task file; the id is a hash of everything a solver can see."""

    id: str
    question: str
    answer: str
    documents: tuple[str, ...]


def part_of(operations: Sequence[str], distractors: Sequence[str], forms: int) -> Part:
    """The part with these kinds of operation (at most `forms` sentence forms each) and distractor."""
    return Part(
        tuple(t for kind in operations for t in [t for t in OPERATIONS if t.kind == kind][:forms]),
        tuple(t for t in IDLE if t.kind in distractors),
        tuple(kind for kind in OTHERS if kind in distractors),
    )


def split_of(task_id: str) -> Split:
    """Which of the three disjoint splits a task belongs to: a pure function of its id."""
    bucket = int(hashlib.sha256(task_id.encode()).hexdigest(), 16) % 10
    return "train" if bucket == 0 else "eval" if bucket == 1 else "pretrain"


def tasks(rng: random.Random, split: Split, part: Part = WHOLE, facts: tuple[int, int] = FACTS) -> Iterator[Task]:
    """Endless tasks of one split, without repetition; reproducible from the state of `rng`.

    `facts`: the fewest and the most that a task has; it takes two steps more.
    """
    seen: set[str] = set()
    while True:
        task = _task(rng, part, facts)
        if split_of(task.id) == split and task.id not in seen:
            seen.add(task.id)
            yield task


def _task(rng: random.Random, part: Part, lengths: tuple[int, int]) -> Task:
    person, item = rng.choice(NAMES), rng.choice(ITEMS)
    facts = rng.randint(*lengths)
    changes = rng.randint((facts + 1) // 2 - 1, facts - 1)
    events = ["change"] * changes + ["distractor"] * (facts - 1 - changes)
    rng.shuffle(events)
    start = min(rng.choice((0, 0, 0, 1)), next((i for i, event in enumerate(events) if event == "change"), 0))
    events.insert(start, "start")
    count = rng.randint(10, 99)
    documents = []
    for event in events:
        if event == "start":
            template = rng.choice(STARTS)
            documents.append(template.text.format(A=person, I=item, n=count))
        elif event == "change":
            document, count = _change(rng, part, person, item, count)
            documents.append(document)
        else:
            documents.append(_distractor(rng, part, person, item))
    question = QUESTION.format(A=person, I=item)
    digest = hashlib.sha256("\n".join((question, *documents)).encode()).hexdigest()
    return Task(f"ledger-{digest[:12]}", question, str(count), tuple(documents))


def _change(rng: random.Random, part: Part, person: str, item: str, count: int) -> tuple[str, int]:
    """A sentence that changes the count and the count after it, kept within 0..MAX_COUNT."""
    kinds = sorted({template.kind for template in part.operations})
    while True:
        kind = rng.choice(kinds)
        template = rng.choice([t for t in part.operations if t.kind == kind])
        pair = rng.choice(sorted(template.effects))
        roles = _cast(rng, template, {pair[0]: person, pair[1]: item})
        code = template.effects[pair].code.format(**roles)
        after = _applied(code, count)
        if 0 <= after <= MAX_COUNT and not ("//" in code and count % 2):
            return template.text.format(**roles), after


def _distractor(rng: random.Random, part: Part, person: str, item: str) -> str:
    """A sentence that leaves the count alone: about others, or about nothing that happens."""
    kinds = (*part.others, *sorted({template.kind for template in part.idle}))
    kind = rng.choices(kinds, [2 if kind in OTHERS else 1 for kind in kinds])[0]
    if kind not in OTHERS:
        template = rng.choice([t for t in part.idle if t.kind == kind])
        return template.text.format(**_cast(rng, template, {"A": person, "I": item}))
    while True:
        template = rng.choice((*part.operations, *STARTS))
        given = {}
        if kind == "person":
            given = {rng.choice("IJ" if "{J}" in template.text else "I"): item}
        elif kind == "item":
            given = {rng.choice("AB" if "{B}" in template.text else "A"): person}
        roles = _cast(rng, template, given, avoid=(person, item))
        if operation(template, roles, person, item) == SKIP:
            return template.text.format(**roles)


def _cast(rng: random.Random, template: Template, given: dict[str, str], avoid: Sequence[str] = ()) -> dict[str, str]:
    """All roles of a sentence; those not given are drawn, distinct from each other and from `avoid`."""
    taken = {*given.values(), *avoid}
    names = rng.sample([name for name in NAMES if name not in taken], 2)
    items = rng.sample([item for item in ITEMS if item not in taken], 2)
    packs = "{m} b" in template.text
    drawn = {
        "A": names[0],
        "B": names[1],
        "I": items[0],
        "J": items[1],
        "n": str(rng.randint(2, 12) if packs else rng.randint(2, 60)),
        "m": str(rng.randint(2, 9) if packs else rng.randint(2, 60)),
    }
    return drawn | given


def _applied(code: str, count: int) -> int:
    """The count after one line of canonical code."""
    _, operator, *operands = code.split()
    value = int(operands[0]) * int(operands[2]) if "*" in operands else int(operands[0])
    return {"=": value, "+=": count + value, "-=": count - value, "*=": count * value, "//=": count // value}[operator]


def render_step(thought: str, code: str) -> str:
    """An assistant turn in the product's format."""
    return f"<thought>{thought}</thought><code>{code}</code>"


def next_step(question: str, observation: str) -> str:
    """The right assistant turn after an observation ("" before the first step).

    Anything that is not a fact (an error, `None`, a stray number) is answered by reading on.
    """
    person, item = asked(question)
    if observation == END_OF_DOCUMENTS:
        return render_step("done", FINISH)
    found = meaning(observation, person, item)
    if found is None:
        return render_step("read", READ)
    marks = [f" {word} {_mark(word, mine)}" for word, mine in found.mentions]
    code = f"{found.code}\n{READ}" if found.code else READ
    return render_step(f"{person} {item}{''.join(marks)}: {found.word}", code)


def _mark(word: str, mine: bool) -> str:
    if word in NAMES:
        return "me" if mine else "no"
    return "yes" if mine else "not"


def solution(task: Task) -> list[Message]:
    """The perfect conversation: question, then step and observation in turn, up to the final step."""
    messages = [{"role": "user", "content": task.question}]
    observation = ""
    for document in (*task.documents, END_OF_DOCUMENTS):
        messages.append({"role": "assistant", "content": next_step(task.question, observation)})
        messages.append({"role": "user", "content": f"{OBSERVATION}{document}"})
        observation = document
    messages.append({"role": "assistant", "content": next_step(task.question, observation)})
    return messages


STUDENT_PART = part_of(
    operations=[kind for kind in OPERATION_KINDS if kind in ("gain", "loss", "give", "multiply")],
    distractors=("person", "item", "both", "wish", "shop", "price"),
    forms=6,
)
