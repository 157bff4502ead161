"""A digest of an interpreter's state, equal for a fork and for a replay of deterministic code.

Covers the session's variables by name and value, the settings by which later steps compute (random states, decimal and
NumPy contexts), and the files of its folder. What a value is, `kinds` says; where a type keeps its values out of sight,
and where a digest would take too long, the state is unknown, never taken for another. No code of the session is run. As
in equality, neither the order in which sets and dicts were filled counts, nor whether equal small tuples are one.
"""

import decimal
import hashlib
import logging
import marshal
import os
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from itertools import chain
from operator import itemgetter
from time import process_time
from typing import Any

from score_distill.sandbox import chance, kinds_science
from score_distill.sandbox.kinds import SCALARS, Bag, Buffer, Memory, Parts, Reader, Unknown
from score_distill.sandbox.kinds_standard import KINDS

_SECONDS = 1.0  # of CPU time for one digest; a state that takes more is unknown
_NO_REFERENCES = 2  # the marshal format in which equal values give equal bytes
_CHUNK, _LONG = 1024, 1 << 16  # values taken at once, so that a digest needs little memory; a text that goes alone
_SMALL, _DEEP = 32, 3  # values of a tuple that counts by them alone; tuples within such a tuple
_PLAIN = frozenset(map(id, SCALARS))
_PLAIN_OR_TUPLE = _PLAIN | {id(tuple)}


def digest(namespace: Mapping[str, Any], folder: str = ".", here: str = "") -> str | None:
    """Sixteen hex digits over the state, the files in ``folder`` and where in that the session is; None if unknown."""
    try:
        shown = list(warnings.filters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _digest(namespace, folder, here, shown)
    except Exception:
        return None


def _digest(namespace: Mapping[str, Any], folder: str, here: str, shown: list[Any]) -> str:
    kinds_science.learn(KINDS)
    found = hashlib.blake2b(digest_size=8)
    patience = _Patience()
    for part in _walk([*_roots(namespace), shown, _logging()], patience):
        patience()
        found.update(memoryview(part).nbytes.to_bytes(8, "big"))
        found.update(part)
    for path, content in _files(folder):
        found.update(path.encode("utf-8", "surrogateescape") + b"\0" + content)
    found.update(here.encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _roots(namespace: Mapping[str, Any]) -> list[Any]:
    variables = {name: namespace[name] for name in sorted(namespace) if not name.startswith("__")}
    limits = (sys.getrecursionlimit(), sys.get_int_max_str_digits())
    settings = [limits, decimal.Context.__repr__(decimal.getcontext()), sorted(os.environ.items())]
    settings += kinds_science.settings()
    return [variables, _at_once(random.getstate()), _at_once(chance.state()), *map(_at_once, settings)]


def _logging() -> list[Any]:
    """What is logged, and where to, as far as the session has said so."""
    root, manager = logging.root, logging.Logger.manager
    loggers = [(name, vars(logger)) for name, logger in sorted(manager.loggerDict.items())]
    told = [
        (name, said["level"], said["handlers"], said["propagate"], said["disabled"])
        for name, said in loggers
        if said.get("level") or said.get("handlers") or said.get("disabled") or not said.get("propagate", True)
    ]
    return [manager.disable, root.level, root.handlers, told]


def _at_once(value: Any) -> Any:
    """The bytes of a value that is plain all through, which costs far less than to go through it."""
    try:
        return marshal.dumps(value, _NO_REFERENCES)
    except ValueError:
        return value


class _Patience:
    """Ends the work of a digest that has taken its time; asked at each value, it looks at the clock now and then."""

    def __init__(self) -> None:
        self._end = process_time() + _SECONDS
        self._asked = 0

    def __call__(self) -> None:
        self._asked += 1
        if not self._asked % 64:
            self.look()

    def look(self) -> None:
        if process_time() > self._end:
            raise Unknown("in time")


def _walk(roots: list[Any], patience: _Patience) -> Iterator[Buffer]:
    """The bytes of every value reached; one met before counts by when it was met, so that cycles end."""
    met: dict[int, int] = {}
    reader = Reader(KINDS)
    owners: dict[int, tuple[int, Memory]] = {}
    ranks = _Ranks(patience, reader)
    held = []  # keeps ids from being used again
    pending = roots[::-1]
    while pending:
        patience()
        value = pending.pop()
        kind = type(value)
        if id(kind) in _PLAIN:
            yield _scalars(value)
        elif id(value) in met:
            yield b"again %d" % met[id(value)]
        elif kind is Memory:
            held.append(value)
            number, first = owners.setdefault(id(value.owner), (len(owners), value))
            if first is not value:
                yield b"memory %d %d %r" % (number, value.start - first.start, value.strides)
        elif kind is Bag:
            yield b"bag %d" % len(value.items)
            for content, children in _in_order(value, ranks):
                yield from content
                pending.extend(reversed(children))
        else:
            name, (content, children), by_value = reader.read(value)
            if by_value and children:
                content, children = [ranks.of(value)], []
            if kind is list or kind is tuple:
                content, children = _items(children)
            if not by_value and not (kind is tuple and len(value) <= _SMALL and not children):
                met[id(value)] = len(met)
                held.append(value)
            yield b"%s %d" % (name, len(children))
            yield from content
            pending.extend(reversed(children))


def _scalars(value: Any) -> bytes:
    try:
        return marshal.dumps(value, _NO_REFERENCES)
    except ValueError:  # what marshal says when memory is short
        raise MemoryError from None


def _in_order(bag: Bag, ranks: "_Ranks") -> Iterator[Parts]:
    """The values sorted, or the pairs by their first ones; first these, then what belongs to them."""
    firsts = list(map(itemgetter(0), bag.items)) if bag.paired else bag.items
    kinds = set(map(id, map(type, firsts)))
    if any(kinds <= {id(kind)} for kind in (str, int, bytes)):
        order = sorted(range(len(firsts)), key=firsts.__getitem__)
        yield _items([firsts[place] for place in order])
    elif _are_plain(firsts):
        ranks.patience.look()
        spelled = list(map(_scalars, firsts))
        ranks.patience.look()
        if not bag.paired:
            spelled.sort()
            yield map(b"".join, _chunks(spelled)), []
            return
        order = sorted(range(len(firsts)), key=spelled.__getitem__)
        yield map(b"".join, _chunks([spelled[place] for place in order])), []
    else:
        spelled = list(map(ranks.of, firsts))
        order = sorted(range(len(firsts)), key=spelled.__getitem__)
        yield _items([firsts[place] for place in order])
    if bag.paired:
        yield _items([bag.items[place][1] for place in order])


def _items(items: list[Any]) -> Parts:
    """Plain numbers and short texts, and small tuples of them, are taken in bulk, anything else one by one."""
    if not _are_plain(items):
        return (), items
    return map(_scalars, _chunks(items)), []


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))


def _are_plain(items: list[Any]) -> bool:
    return all(map(_are_few_plain, _chunks(items)))


def _are_few_plain(items: list[Any]) -> bool:
    most = 8 * len(items) + _CHUNK
    for _ in range(_DEEP + 1):
        kinds = set(map(id, map(type, items)))
        if not kinds <= _PLAIN_OR_TUPLE:
            return False
        if not kinds.isdisjoint(_TEXTS) and any(id(type(item)) in _TEXTS and len(item) > _LONG for item in items):
            return False
        if id(tuple) not in kinds:
            return True
        tuples = [item for item in items if type(item) is tuple]
        sizes = list(map(len, tuples))
        if max(sizes) > _SMALL or sum(sizes) > most:
            return False
        items = list(chain.from_iterable(tuples))
    return False


_TEXTS = frozenset({id(str), id(bytes)})


class _Ranks:
    """Digests of values apart from what is around them, to sort them by; each value is gone through once."""

    def __init__(self, patience: _Patience, reader: Reader) -> None:
        self.patience = patience
        self._reader = reader
        self._known: dict[int, bytes] = {}
        self._held: list[Any] = []  # keeps ids from being used again

    def of(self, root: Any) -> bytes:
        self.patience()
        if type(root) is tuple and _PLAIN.issuperset(map(id, map(type, root))):
            return _scalars(root)
        pending: list[tuple[Any, bytes, list[Any] | None]] = [(root, b"", None)]
        while pending:
            self.patience()
            value, form, children = pending.pop()
            if children is not None:
                self._known[id(value)] = hashlib.blake2b(form + self._joined(value, children), digest_size=16).digest()
            elif id(type(value)) not in _PLAIN and id(value) not in self._known:
                self._known[id(value)] = b"within itself"
                form, children = self._described(value)
                self._held += [value, children]
                pending.append((value, form, children))
                pending.extend((child, b"", None) for child in children)
        return self._rank(root)

    def _described(self, value: Any) -> tuple[bytes, list[Any]]:
        if type(value) is Bag:
            return b"bag %d" % len(value.items), value.flat()
        if type(value) is Memory:
            return b"", []
        name, (content, children), _ = self._reader.read(value)
        return b"".join([b"%s %d " % (name, len(children)), *map(bytes, content)]), children

    def _joined(self, value: Any, children: list[Any]) -> bytes:
        ranks = list(map(self._rank, children))
        if type(value) is Bag:
            ranks = sorted(map(bytes.__add__, ranks[::2], ranks[1::2])) if value.paired else sorted(ranks)
        return b"".join(ranks)

    def _rank(self, value: Any) -> bytes:
        if id(type(value)) in _PLAIN:
            return hashlib.blake2b(_scalars(value), digest_size=16).digest()
        return self._known[id(value)]


def _files(folder: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield entry.path, b"folder"
            yield from _files(entry.path)
        else:
            with open(entry.path, "rb") as file:
                yield entry.path, hashlib.file_digest(file, "blake2b").digest()
