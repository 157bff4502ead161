"""Whether two steps from the same prefix do the same, by what was executed."""

import ast

from score_distill.agent.trajectory import Step


def same_effect(one: Step, other: Step) -> bool:
    """Same printed text, same answer, same interpreter and tool state. Plans have no effect to differ in."""
    return (one.observation, one.answer) == (other.observation, other.answer) and same_state(one, other)


def same_state(one: Step, other: Step) -> bool:
    """Whether both left the same state, as far as that is known."""
    return one.state is not None and one.state == other.state


def same_step(one: Step, other: Step) -> bool | None:
    """Equal, different, or None where rules cannot decide (same printed text and answer, another way or state)."""
    if one.plan or other.plan:
        return True if one.thought == other.thought else None
    if (one.code is None) or (other.code is None):
        return one.code is other.code
    if (one.observation, one.answer) != (other.observation, other.answer):
        return False
    return True if same_state(one, other) or normal_code(one.code) == normal_code(other.code) else None


def repeats(step: Step, rejected: Step) -> bool:
    """Whether a step in place of a rejected one is that mistake again: its words, its code, its effect or its answer.

    Stricter than `same_step`: equal code counts even if it printed something else, for then it is not deterministic.
    """
    if step.plan or rejected.plan:
        return step.thought.casefold().split() == rejected.thought.casefold().split()
    if step.code is None or rejected.code is None:
        return step.code is rejected.code
    return (
        same_effect(step, rejected)
        or (step.answer is not None and step.answer == rejected.answer)
        or normal_code(step.code) == normal_code(rejected.code)
    )


def normal_code(code: str) -> str:
    """The code's syntax tree without layout and comments; the text itself when it does not parse."""
    try:
        return ast.dump(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code.strip()
