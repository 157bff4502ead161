"""Keeping evaluation tasks out of training, and doubles out of both.

A training task is dropped when its text equals an evaluation task's after normalising, or shares a run of 13 words
with one (the usual test of contamination). Texts are compared as question and documents together.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from score_distill.agent.trajectory import Task

GRAM = 13


class Match(NamedTuple):
    """Why a task is dropped, and the evaluation set or task that it matches."""

    why: str
    against: str


@dataclass
class Contamination:
    """The evaluation sets as hashes: 8 bytes for each text and each run of 13 words."""

    texts: dict[int, str] = field(default_factory=dict)
    grams: dict[int, str] = field(default_factory=dict)

    def add(self, name: str, tasks: Iterable[Task]) -> int:
        """Take an evaluation set in; returns how many tasks it has."""
        count = 0
        for task in tasks:
            count += 1
            words = _words(task)
            self.texts.setdefault(_hash(words), name)
            for gram in _grams(words):
                self.grams.setdefault(gram, name)
        return count

    def match(self, task: Task) -> Match | None:
        words = _words(task)
        if (name := self.texts.get(_hash(words))) is not None:
            return Match("same text as an evaluation task", name)
        for gram in _grams(words):
            if (name := self.grams.get(gram)) is not None:
                return Match(f"shares {GRAM} words in a row with an evaluation task", name)
        return None


@dataclass
class Doubles:
    """Texts seen so far, as hashes."""

    seen: dict[int, str] = field(default_factory=dict)

    def match(self, task: Task) -> Match | None:
        first = self.seen.setdefault(_hash(_words(task)), task.id)
        return None if first == task.id else Match("same text as another training task", first)


def _words(task: Task) -> list[str]:
    return re.findall(r"\w+", "\n".join((task.question, *task.documents)).casefold())


def _grams(words: list[str]) -> Iterator[int]:
    return (_hash(words[n : n + GRAM]) for n in range(len(words) - GRAM + 1))


def _hash(words: list[str]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest(), "big")
