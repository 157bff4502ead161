"""How the steps and students of later rounds of mentoring are named: mentor, sft, mentor-2, sft-2 ..."""

import re

LATER = re.compile(r"(mentor|sft)-(\d+)")


def in_round(kind: str, number: int) -> str:
    """The name of ``mentor`` or ``sft`` in a round, from 1."""
    return kind if number == 1 else f"{kind}-{number}"


def kind_of(step: str) -> str:
    """What a step or student is, in whatever round: sft of sft and of sft-2, rl of rl."""
    return found[1] if (found := LATER.fullmatch(step)) else step


def round_of(step: str) -> int:
    return int(found[2]) if (found := LATER.fullmatch(step)) else 1
