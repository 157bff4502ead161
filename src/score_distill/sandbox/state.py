"""A digest of an interpreter's state, equal for a fork and for a replay of deterministic code.

Covers the session's variables by name and value, its imports, the random state and the files of its folder. Numbers,
text, containers, dates, arrays, functions and classes count in full; any other object counts by its type and its
attributes, never by its ``repr``, which may hold an address. What code the session wrote into its classes is not run.
As in equality, neither the order in which sets and dicts were filled counts, nor whether equal small tuples are one.
"""

import array
import collections
import datetime
import decimal
import fractions
import hashlib
import marshal
import os
import random
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from time import process_time
from typing import Any

Buffer = Any  # bytes, or an array that gives its bytes without a copy
Parts = tuple[Iterable[Buffer], list[Any]]  # what counts by itself, and values inside that are visited next

_NO_REFERENCES = 2  # the marshal format in which equal values give equal bytes
_SECONDS = 1.0  # of CPU time for one digest; a state that takes more is unknown
_CHUNK, _LONG = 1024, 1 << 16  # values taken at once, so that a digest needs little memory; a text that goes alone
_SMALL = 32  # values of a tuple that counts by them alone
_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_CLASS_NOISE = frozenset({"__dict__", "__weakref__", "__module__", "__doc__"})


class Unknown(Exception):
    """What the state is cannot be told, or not in time."""


class _Patience:
    """Ends the work of a digest that has taken its time; asked at each value, it looks at the clock now and then."""

    def __init__(self) -> None:
        self._end = process_time() + _SECONDS
        self._asked = 0

    def __call__(self) -> None:
        self._asked += 1
        if not self._asked % 64 and process_time() > self._end:
            raise Unknown


def digest(namespace: Mapping[str, Any], folder: str = ".") -> str | None:
    """Sixteen hex digits over the variables, imports, random state and the files in ``folder``; None when unknown."""
    try:
        return _digest(namespace, folder)
    except Exception:
        return None


def _digest(namespace: Mapping[str, Any], folder: str) -> str:
    if numpy := sys.modules.get("numpy"):
        _PARTS.update({numpy.ndarray: _array, numpy.generic: _array})
    found = hashlib.blake2b(digest_size=8)
    for part in _walk(_roots(namespace), _Patience()):
        found.update(memoryview(part).nbytes.to_bytes(8, "big"))
        found.update(part)
    for path, content in _files(folder):
        found.update(path.encode("utf-8", "surrogateescape") + b"\0" + content)
    return found.hexdigest()


def _roots(namespace: Mapping[str, Any]) -> list[Any]:
    variables = {name: namespace[name] for name in sorted(namespace) if not name.startswith("__")}
    numpy = sys.modules.get("numpy.random")
    return [variables, random.getstate(), numpy and numpy.get_state()]


def _walk(roots: list[Any], patience: _Patience) -> Iterator[Buffer]:
    """The bytes of every value reached; one met before counts by when it was met, so that cycles end."""
    met: dict[int, int] = {}
    ranks = _Ranks(patience)
    held = []  # keeps ids from being used again
    pending = roots[::-1]
    while pending:
        patience()
        value = pending.pop()
        kind = type(value)
        if kind in _SCALARS:
            yield _scalars(value)
        elif id(value) in met:
            yield b"again %d" % met[id(value)]
        elif kind is _Bag:
            content, children = _items(value.in_order(ranks))
            yield b"bag %d" % len(children)
            yield from content
            pending.extend(reversed(children))
        else:
            content, children = _describe(kind, value)
            if not (kind is tuple and len(value) <= _SMALL and not children):
                met[id(value)] = len(met)
                held.append(value)
            yield f"{kind.__qualname__} {len(children)}".encode()
            yield from content
            pending.extend(reversed(children))


def _scalars(value: Any) -> bytes:
    try:
        return marshal.dumps(value, _NO_REFERENCES)
    except ValueError:  # what marshal says when memory is short
        raise MemoryError from None


def _describe(kind: type, value: Any) -> Parts:
    base = next((base for base in kind.__mro__ if base in _PARTS), None)
    content, children = _PARTS[base](value) if base else ((), [])
    attributes = _attributes(value) if base not in _WHOLE else {}
    return content, [*children, attributes] if attributes else children


def _attributes(value: Any) -> dict[str, Any]:
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return attributes if type(attributes) is dict else {}


def _exact(value: Any) -> Parts:
    """A number or text of a subclass, as its base class has it."""
    base = next(base for base in type(value).__mro__ if base in _SCALARS)
    return (), list(base.__getnewargs__(value))  # type: ignore[attr-defined]


def _sequence(base: type) -> Callable[[Any], Parts]:
    def parts(value: Any) -> Parts:
        return _items(list(base.__iter__(value)))  # type: ignore[attr-defined]

    return parts


class _Bag:
    """Values, or pairs of them, whose order does not count."""

    def __init__(self, items: list[Any], *, paired: bool) -> None:
        self.items, self.paired = items, paired

    def in_order(self, ranks: "_Ranks") -> list[Any]:
        """Sorted by the values, or by the first ones of the pairs, and then flat."""
        first: Callable[[Any], Any] = itemgetter(0) if self.paired else lambda item: item
        kinds = set(map(type, map(first, self.items)))
        if kinds <= {str} or kinds <= {int} or kinds <= {bytes}:
            self.items.sort(key=first)
        else:
            rank = _scalars if kinds <= _SCALARS else ranks.of
            self.items.sort(key=lambda item: rank(first(item)))
        return self.flat()

    def flat(self) -> list[Any]:
        return [value for pair in self.items for value in pair] if self.paired else self.items


class _Ranks:
    """Digests of values apart from what is around them, to sort them by; each value is gone through once."""

    def __init__(self, patience: _Patience) -> None:
        self._patience = patience
        self._known: dict[int, bytes] = {}
        self._held: list[Any] = []  # keeps ids from being used again

    def of(self, root: Any) -> bytes:
        self._patience()
        if type(root) is tuple and _SCALARS.issuperset(map(type, root)):
            return _scalars(root)
        pending: list[tuple[Any, bytes, list[Any] | None]] = [(root, b"", None)]
        while pending:
            self._patience()
            value, form, children = pending.pop()
            if children is not None:
                self._known[id(value)] = hashlib.blake2b(form + self._joined(value, children), digest_size=16).digest()
            elif type(value) not in _SCALARS and id(value) not in self._known:
                self._known[id(value)] = b"within itself"
                content, children = ((), value.flat()) if type(value) is _Bag else _describe(type(value), value)
                form = b"".join([f"{type(value).__qualname__} {len(children)} ".encode(), *map(bytes, content)])
                self._held += [value, children]
                pending.append((value, form, children))
                pending.extend((child, b"", None) for child in children)
        return self._rank(root)

    def _joined(self, value: Any, children: list[Any]) -> bytes:
        ranks = list(map(self._rank, children))
        if type(value) is _Bag:
            ranks = sorted(map(bytes.__add__, ranks[::2], ranks[1::2])) if value.paired else sorted(ranks)
        return b"".join(ranks)

    def _rank(self, value: Any) -> bytes:
        if type(value) in _SCALARS:
            return hashlib.blake2b(_scalars(value), digest_size=16).digest()
        return self._known[id(value)]


def _set(base: type) -> Callable[[Any], Parts]:
    def parts(value: Any) -> Parts:
        return (), [_Bag(list(base.__iter__(value)), paired=False)]  # type: ignore[attr-defined]

    return parts


def _items(items: list[Any]) -> Parts:
    """Plain numbers and short texts are taken in bulk, anything else one by one."""
    if not _SCALARS.issuperset(map(type, items)):
        return (), items
    if any(type(item) in (str, bytes) and len(item) > _LONG for item in items):
        return (b"long",), items
    return map(_scalars, (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))), []


def _mapping(value: Any) -> Parts:
    return (), [_Bag(list(dict.items(value)), paired=True)]


def _ordered(value: Any) -> Parts:
    return _items([part for pair in collections.OrderedDict.items(value) for part in pair])


def _spelled(value: Any) -> Parts:
    base = next(base for base in type(value).__mro__ if base in _PARTS)
    spell: Any = base.__repr__
    return (spell(value).encode(),), []


def _function(value: types.FunctionType) -> Parts:
    cells = [_cell(cell) for cell in value.__closure__ or ()]
    return (value.__qualname__.encode(),), [value.__code__, value.__defaults__, value.__kwdefaults__, cells]


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _code(value: types.CodeType) -> Parts:
    return (value.co_code,), [value.co_consts, value.co_names, value.co_varnames]


def _class(value: type) -> Parts:
    name = f"{value.__module__}.{value.__qualname__}".encode()
    if value.__module__ != "__main__":
        return (name,), []
    members = [pair for pair in vars(value).items() if pair[0] not in _CLASS_NOISE]
    return (name,), [value.__bases__, _Bag(members, paired=True)]


def _generator(value: "types.GeneratorType[Any, Any, Any]") -> Parts:
    frame = value.gi_frame
    return (value.__qualname__.encode(),), [frame.f_lasti, dict(frame.f_locals)] if frame else []


def _array(value: Any) -> Parts:
    form = f"{value.dtype} {value.shape}".encode()
    if value.dtype.hasobject:
        return (form,), value.ravel().tolist()
    contiguous = sys.modules["numpy"].ascontiguousarray(value)
    return (form, contiguous.reshape(-1).view("uint8").data), []


_PARTS: dict[type, Callable[[Any], Parts]] = (
    dict.fromkeys(_SCALARS - {type(None), bool}, _exact)
    | {base: _sequence(base) for base in (list, tuple, collections.deque)}
    | {base: _set(base) for base in (set, frozenset)}
    | dict.fromkeys((range, decimal.Decimal, fractions.Fraction, slice), _spelled)
    | dict.fromkeys((datetime.date, datetime.datetime, datetime.time, datetime.timedelta), _spelled)
    | {
        dict: _mapping,
        collections.OrderedDict: _ordered,
        collections.defaultdict: lambda value: ((), [value.default_factory, dict(dict.items(value))]),
        bytearray: lambda value: ((value,), []),
        array.array: lambda value: ((value.typecode.encode(), value), []),
        types.ModuleType: lambda value: ((value.__name__.encode(),), []),
        types.FunctionType: _function,
        types.CodeType: _code,
        types.BuiltinFunctionType: lambda value: ((value.__qualname__.encode(),), []),
        types.MethodType: lambda value: ((), [value.__func__, value.__self__]),
        types.GeneratorType: _generator,
        types.MappingProxyType: lambda value: ((), [dict(value)]),
        staticmethod: lambda value: ((), [value.__func__]),
        classmethod: lambda value: ((), [value.__func__]),
        property: lambda value: ((), [value.fget, value.fset, value.fdel]),
        type: _class,
    }
)
_WHOLE = frozenset({types.ModuleType, types.FunctionType, type, staticmethod, classmethod})


def _files(folder: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield entry.path, b"folder"
            yield from _files(entry.path)
        else:
            with open(entry.path, "rb") as file:
                yield entry.path, hashlib.file_digest(file, "blake2b").digest()
