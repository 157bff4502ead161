"""Keeping evaluation tasks out of training, and doubles out of both.

A training task is dropped when its text equals an evaluation task's after normalising, or shares a run of 13 words
with one (the usual test of contamination), or of 26 characters where a script has no spaces. What many tasks with
different answers share, such as a system prompt or a passage, is no overlap; the whole text of an evaluation task, of
eight words or more, always is. So is a task dropped that has the answer,
the numbers, units and operators, and nearly all words of another training task. Texts are question and documents.
"""

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from datasketch import MinHash, MinHashLSH

from score_distill.agent.grading.names import normal
from score_distill.agent.quantities import quantities
from score_distill.agent.scripts import spaceless, tokens, words
from score_distill.agent.trajectory import Task

GRAM, CHARACTERS = 13, 26
WHOLE, WHOLE_CHARACTERS = 8, 16  # words or characters of an evaluation task from which no other text may hold it whole
SHARED = 3  # tasks, with more than one answer, that make a run of words common to them all
ALIKE = 0.8  # Jaccard similarity of two texts' shingles, and of their first and last words, from which they are doubles
_SHINGLE, _EDGE = 3, 24


class Match(NamedTuple):
    """Why a task is dropped, and the evaluation set or task that it matches."""

    why: str
    against: str


@dataclass(slots=True)
class _Gram:
    """A run of words of an evaluation set, and the tasks of any set that hold it."""

    name: str
    answer: int
    tasks: int = 0
    answers_differ: bool = False

    @property
    def shared(self) -> bool:
        return self.answers_differ and self.tasks >= SHARED


@dataclass
class Contamination:
    """The evaluation sets as hashes of each text and each run of words."""

    texts: dict[int, str] = field(default_factory=dict)
    grams: dict[int, _Gram] = field(default_factory=dict)
    lengths: dict[int, set[int]] = field(default_factory=dict)  # of the texts that open with some words
    ends: set[tuple[int, int, int]] = field(default_factory=set)  # opening, length and last words of each text

    def add(self, name: str, tasks: Iterable[Task]) -> int:
        """Take an evaluation set in; returns how many tasks it has."""
        count = 0
        for task in tasks:
            count += 1
            found = _tokens(task)
            self.texts.setdefault(_hash(found), name)
            if len(found) >= (WHOLE_CHARACTERS if sum(map(spaceless, found)) > len(found) // 2 else WHOLE):
                opening = _hash(found[:WHOLE])
                self.lengths.setdefault(opening, set()).add(len(found))
                self.ends.add((opening, len(found), _hash(found[-WHOLE:])))
            answer = _hash([normal(task.answer)])
            for gram in {gram for _, gram in _runs(task)}:
                self._count(self.grams.setdefault(gram, _Gram(name, answer)), answer)
        return count

    def see(self, task: Task) -> None:
        """Learn what training tasks have in common; each is shown once before any is matched."""
        answer = _hash([normal(task.answer)])
        for gram in {gram for _, gram in _runs(task) if gram in self.grams}:
            self._count(self.grams[gram], answer)

    def match(self, task: Task) -> Match | None:
        text = _tokens(task)
        if (name := self.texts.get(_hash(text))) is not None:
            return Match("same text as an evaluation task", name)
        if (name := self._held(text)) is not None:
            return Match("holds the whole text of an evaluation task", name)
        found = [(span, gram) for span, key in _runs(task) if (gram := self.grams.get(key)) is not None]
        common = {place for span, gram in found if gram.shared for place in span}
        for span, gram in found:
            if common.isdisjoint(span):
                unit = "words" if len(span) == GRAM else "characters"
                return Match(f"shares {len(span)} {unit} in a row with an evaluation task", gram.name)
        return None

    def _held(self, text: list[str]) -> str | None:
        """The set of a task whose text stands in another, whatever else shares its words."""
        runs = [_hash(text[n : n + WHOLE]) for n in range(len(text) - WHOLE + 1)]
        for n, opening in enumerate(runs):
            for length in self.lengths.get(opening, ()):
                last = n + length - WHOLE
                alike = last < len(runs) and (opening, length, runs[last]) in self.ends
                if alike and (name := self.texts.get(_hash(text[n : n + length]))) is not None:
                    return name
        return None

    @staticmethod
    def _count(gram: _Gram, answer: int) -> None:
        gram.tasks += 1
        gram.answers_differ |= answer != gram.answer


class _Sketch(NamedTuple):
    """What of a text is compared with others."""

    facts: int
    shingles: MinHash
    first: "array[int]"
    last: "array[int]"


@dataclass
class Deduplicator:
    """Texts seen so far, as hashes; tasks that differ in answer, number, unit or operator are different tasks."""

    seen: dict[int, str] = field(default_factory=dict)
    alike: MinHashLSH = field(default_factory=lambda: MinHashLSH(threshold=ALIKE, num_perm=128))
    sketches: dict[str, _Sketch] = field(default_factory=dict)

    def match(self, task: Task) -> Match | None:
        sketch = _sketch(task, normal(task.answer))
        first = self.seen.setdefault(_hash([*_tokens(task), str(sketch.facts)]), task.id)
        if first != task.id:
            return Match("same text as another training task", first)
        for name in sorted(self.alike.query(sketch.shingles)):
            other = self.sketches[name]
            if (
                other.facts == sketch.facts
                and other.shingles.jaccard(sketch.shingles) >= ALIKE
                and _overlap(other.first, sketch.first) >= ALIKE
                and _overlap(other.last, sketch.last) >= ALIKE
            ):
                return Match("nearly the text of another training task", name)
        if task.id not in self.sketches:
            self.alike.insert(task.id, sketch.shingles)
            self.sketches[task.id] = sketch
        return None


def _sketch(task: Task, answer: str) -> _Sketch:
    found = _words(task)
    shingles = MinHash(num_perm=128, seed=1)
    shingles.update_batch([_hash(found[n : n + _SHINGLE]).to_bytes(8, "big") for n in range(len(found))])
    asked = [_hash([word]) & 0xFFFFFFFF for word in words(task.question)]
    return _Sketch(_facts(task, answer), shingles, array("I", asked[:_EDGE]), array("I", asked[-_EDGE:]))


def _overlap(one: Iterable[int], other: Iterable[int]) -> float:
    first, second = set(one), set(other)
    return len(first & second) / len(first | second) if first or second else 1.0


def _text(task: Task) -> str:
    return "\n".join((task.question, *task.documents))


def _words(task: Task) -> list[str]:
    return words(_text(task))


def _tokens(task: Task) -> list[str]:
    """Words, numbers and operators."""
    return tokens(_text(task))


def _facts(task: Task, answer: str) -> int:
    """A hash of the answer and of all numbers of a text in their order, with the unit behind each, and operators."""
    text = _text(task)
    told = [str(sorted(one.values)) for one in quantities(text)]
    told += [one for one in text if (one.isnumeric() and spaceless(one)) or _is_symbol(one)]
    told += re.findall(r"(?<=\d)\s?([^\W\d_]+)", text.casefold())
    told += re.findall(r"[-+*/^=<>×÷≤≥](?![^\W\d_]{2})|(?<=\d)!|[(\[{](?=[-\d])|(?<=\d)[)\]}]", text)
    return _hash([*told, "answer", answer])


def _is_symbol(letter: str) -> bool:
    return not letter.isascii() and unicodedata.category(letter) in ("Sm", "So")


def _runs(task: Task) -> Iterator[tuple[range, int]]:
    """The runs of words of a text that are compared: where each stands, and its hash."""
    found = _words(task)
    for size in (GRAM, CHARACTERS):
        yield from _grams(found, size)


def _grams(found: list[str], size: int) -> Iterator[tuple[range, int]]:
    """Runs of that many words; those that are mostly single characters of a script without spaces must be longer."""
    single = [spaceless(word) for word in found]
    count = sum(single[:size])
    for n in range(len(found) - size + 1):
        if (count > size // 2) is (size == CHARACTERS):
            yield range(n, n + size), _hash(found[n : n + size])
        if n + size < len(found):
            count += single[n + size] - single[n]


def _hash(found: list[str]) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(found).encode(), digest_size=8).digest(), "big")
