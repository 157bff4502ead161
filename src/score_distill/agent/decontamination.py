"""Keeping evaluation tasks out of training, and doubles out of both.

A training task is dropped when its text equals an evaluation task's after normalising, or shares a run of 13 words
with one (the usual test of contamination), or of 26 characters where a script has no spaces. So is one that has the
numbers of another training task and nearly all of its words. Texts are question and documents together.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from datasketch import MinHash, MinHashLSH

from score_distill.agent.quantities import quantities
from score_distill.agent.scripts import spaceless, words
from score_distill.agent.trajectory import Task

GRAM, CHARACTERS = 13, 26
ALIKE = 0.8  # Jaccard similarity of the shingles of two texts, from which on they are doubles
_SHINGLE = 3


class Match(NamedTuple):
    """Why a task is dropped, and the evaluation set or task that it matches."""

    why: str
    against: str


@dataclass
class Contamination:
    """The evaluation sets as hashes: 8 bytes for each text and each run of words."""

    texts: dict[int, str] = field(default_factory=dict)
    grams: dict[int, str] = field(default_factory=dict)

    def add(self, name: str, tasks: Iterable[Task]) -> int:
        """Take an evaluation set in; returns how many tasks it has."""
        count = 0
        for task in tasks:
            count += 1
            found = _words(task)
            self.texts.setdefault(_hash(found), name)
            for size in (GRAM, CHARACTERS):
                for gram in _grams(found, size):
                    self.grams.setdefault(gram, name)
        return count

    def match(self, task: Task) -> Match | None:
        found = _words(task)
        if (name := self.texts.get(_hash(found))) is not None:
            return Match("same text as an evaluation task", name)
        for size in (GRAM, CHARACTERS):
            for gram in _grams(found, size):
                if (name := self.grams.get(gram)) is not None:
                    unit = "words" if size == GRAM else "characters"
                    return Match(f"shares {size} {unit} in a row with an evaluation task", name)
        return None


@dataclass
class Deduplicator:
    """Texts seen so far, as hashes; tasks that differ in a number are different tasks."""

    seen: dict[int, str] = field(default_factory=dict)
    alike: MinHashLSH = field(default_factory=lambda: MinHashLSH(threshold=ALIKE, num_perm=128))
    sketches: dict[str, tuple[int, MinHash]] = field(default_factory=dict)

    def match(self, task: Task) -> Match | None:
        found = _words(task)
        first = self.seen.setdefault(_hash(found), task.id)
        if first != task.id:
            return Match("same text as another training task", first)
        numbers = _numbers(task)
        sketch = MinHash(num_perm=128, seed=1)
        sketch.update_batch([_hash(found[n : n + _SHINGLE]).to_bytes(8, "big") for n in range(len(found))])
        for name in sorted(self.alike.query(sketch)):
            others, other = self.sketches[name]
            if others == numbers and sketch.jaccard(other) >= ALIKE:
                return Match("nearly the text of another training task", name)
        if task.id not in self.sketches:
            self.alike.insert(task.id, sketch)
            self.sketches[task.id] = numbers, sketch
        return None


def _text(task: Task) -> str:
    return "\n".join((task.question, *task.documents))


def _words(task: Task) -> list[str]:
    return words(_text(task))


def _numbers(task: Task) -> int:
    """A hash of all numbers of a text in their order, in digits, words or Chinese characters."""
    text = _text(task)
    told = [str(sorted(one.values)) for one in quantities(text)]
    return _hash(told + [one for one in text if one.isnumeric() and spaceless(one)])


def _grams(found: list[str], size: int) -> Iterator[int]:
    """Runs of that many words; those that are mostly single characters of a script without spaces must be longer."""
    single = [spaceless(word) for word in found]
    count = sum(single[:size])
    for n in range(len(found) - size + 1):
        if (count > size // 2) is (size == CHARACTERS):
            yield _hash(found[n : n + size])
        if n + size < len(found):
            count += single[n + size] - single[n]


def _hash(found: list[str]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(found).encode(), digest_size=8).digest(), "big")
