"""Readers for what comes with Python: built-in types, and those of the standard library that keep values in C."""

import _random
import _thread
import array
import collections
import contextvars
import csv
import datetime
import decimal
import fractions
import functools
import hashlib
import hmac
import io
import itertools
import operator
import os
import pathlib
import random
import re
import struct
import types
import typing
import weakref
import zoneinfo
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from score_distill.sandbox import kinds_resources
from score_distill.sandbox.kinds import (
    SCALARS,
    Bag,
    Kind,
    Parts,
    Read,
    Unknown,
    class_parts,
    got,
    held,
    is_found,
    members_of,
    module_of,
    mro_of,
    nothing,
    reduced,
)


def _exact(base: Any) -> Read:
    """A number or text of a subclass, as its base class has it."""
    return lambda value: ((), list(base.__getnewargs__(value)))


def _sequence(base: Any) -> Read:
    return lambda value: ((), list(base.__iter__(value)))


def _bag(base: Any) -> Read:
    return lambda value: ((), [Bag(list(base.__iter__(value)), paired=False)])


def _spelled(base: Any) -> Read:
    return lambda value: ((base.__repr__(value).encode("utf-8", "surrogateescape"),), [])


def _mapping(value: Any) -> Parts:
    return (), [Bag(list(dict.items(value)), paired=True)]


def _deque(value: Any) -> Parts:
    most = members_of(collections.deque)["maxlen"].__get__(value)
    return (repr(most).encode(),), list(collections.deque.__iter__(value))


def _named(value: Any) -> Parts:
    return (value.__name__.encode("utf-8", "surrogatepass"),), [value.__objclass__]


def _bound(value: Any) -> Parts:
    """A function in C, and the object that it is a method of."""
    of = value.__self__
    return (value.__name__.encode(),), [] if type(of) is types.ModuleType else [of]


def _function(value: types.FunctionType) -> Parts:
    if is_found(value.__module__, value.__qualname__, value):
        return (f"{value.__module__}.{value.__qualname__}".encode(),), []
    cells = [_cell(cell) for cell in value.__closure__ or ()]
    inside = [value.__code__, value.__defaults__, value.__kwdefaults__, cells]
    return (value.__qualname__.encode("utf-8", "surrogatepass"),), [
        *inside,
        value.__dict__,
    ] if value.__dict__ else inside


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _code(value: types.CodeType) -> Parts:
    counts = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags)
    names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
    return (value.co_code, value.co_exceptiontable), [value.co_consts, names, counts]


def _cached(value: Any) -> Parts:
    """A function that remembers results: what it remembers is what it would give again."""
    if is_found(getattr(value, "__module__", None), getattr(value, "__qualname__", None), value):
        return (f"{value.__module__}.{value.__qualname__}".encode(),), []
    return (), [value.__wrapped__, tuple(value.cache_info()), value.cache_parameters()]


def _suspended(prefix: str) -> Read:
    """A generator or coroutine: where it stands, its variables, and the iterators of its loops."""

    def parts(value: Any) -> Parts:
        frame = getattr(value, f"{prefix}_frame")
        name = (value.__qualname__.encode("utf-8", "surrogatepass"),)
        if frame is None:
            return name, []
        stack = [inner for inner in held(value)[1] if type(inner) not in _FRAME]
        return name, [getattr(value, f"{prefix}_code"), frame.f_lasti, dict(frame.f_locals), stack]

    return parts


_FRAME = (types.FrameType, types.CodeType, types.FunctionType, dict, str)


def _error(value: BaseException) -> Parts:
    """What an error says, and what C keeps of it; not where it was raised."""
    kept = [
        member.__get__(value, type(value))
        for base in mro_of(type(value))
        if module_of(base) == "builtins"
        for name, member in members_of(base).items()
        if type(member) is types.MemberDescriptorType
    ]
    get = members_of(BaseException)
    return (), [get[name].__get__(value) for name in ("args", "__cause__", "__context__")] + kept


def _lock(value: Any) -> Parts:
    return (b"%d" % value.locked(),), []


def _again_lock(value: Any) -> Parts:
    return (re.sub(r" at 0x.*| owner=\d+", "", repr(value)).encode(),), []


def _hash(value: Any) -> Parts:
    found = value.digest() if value.digest_size else value.digest(32)
    return (value.name.encode(), b"%d %d" % (value.block_size, value.digest_size), found), []


def _memory(value: memoryview) -> Parts:
    try:
        shared = [] if value.readonly else [value.obj]
        return (value.tobytes(),), [value.format, value.shape, value.readonly, *shared]
    except ValueError:
        return (b"released",), []


def _context_parts(value: decimal.Context) -> Parts:
    return (), [tuple(members_of(decimal.Context)["__reduce__"](value)[1])]


def _moment(base: type) -> Read:
    again = members_of(base)["__reduce_ex__"]
    return lambda value: ((), [again(value, 4)])


def _zone(value: Any) -> Parts:
    if (key := members_of(zoneinfo.ZoneInfo)["key"].__get__(value)) is None:
        raise Unknown("a time zone without a name")
    return (key.encode(),), []


def _variable(value: "contextvars.ContextVar[Any]") -> Parts:
    return (value.name.encode(),), [value.get(None)]


def _iterators() -> Iterator[type]:
    """The types of iterators, which have no names of their own."""

    class Items:
        def __getitem__(self, place: int) -> int:
            raise IndexError

    empty: tuple[Any, ...] = ([], (), "", "é", b"", bytearray(), range(0), range(1 << 70), {}, {}.values(), {}.items())
    empty = (*empty, collections.deque(), collections.OrderedDict(), array.array("b"), Items())
    yield from (type(iter(items)) for items in empty)
    backwards: tuple[Any, ...] = ([], {}, {}.values(), {}.items(), collections.deque(), collections.OrderedDict())
    yield from (type(reversed(items)) for items in backwards)
    yield from (type(iter(int, 1)), zip, map, filter, enumerate, reversed)
    yield from (kind for kind in vars(itertools).values() if isinstance(kind, type))
    branch: Any = itertools.tee(())[0]
    yield from (type(branch), type(branch.__reduce__()[2][0]))


def _hashes() -> Iterator[type]:
    for name in sorted(hashlib.algorithms_available):
        with suppress(ValueError):
            yield type(hashlib.new(name))
    for name in sorted(hashlib.algorithms_guaranteed):
        yield type(getattr(hashlib, name)())
    with suppress(AttributeError):
        yield type(hmac.new(b"", b"", "sha256")._hmac)  # type: ignore[attr-defined]


def _types() -> Iterator[tuple[Any, Kind]]:
    yield object, Kind(nothing)
    for base in SCALARS - {type(None), bool}:
        yield base, Kind(_exact(base))
    yield from ((base, Kind(_sequence(base))) for base in (list, tuple))
    yield from ((base, Kind(_bag(base))) for base in (set, frozenset))
    yield dict, Kind(_mapping)
    yield collections.deque, Kind(_deque)
    yield collections.OrderedDict, Kind(lambda value: ((), [*map(list, collections.OrderedDict.items(value))]))
    yield collections.defaultdict, Kind(lambda value: ((), [value.default_factory, dict(dict.items(value))]))
    yield bytearray, Kind(lambda value: ((value,), []))
    yield array.array, Kind(lambda value: ((value.typecode.encode(), value), []))
    yield memoryview, Kind(_memory)
    yield from ((base, Kind(got("start", "stop", "step")(base), by_value=True)) for base in (range, slice))
    yield decimal.Decimal, Kind(_spelled(decimal.Decimal), by_value=True)
    yield fractions.Fraction, Kind(lambda value: ((repr(value).encode(),), []), exact=True, whole=True, by_value=True)
    yield decimal.Context, Kind(_context_parts)
    yield datetime.tzinfo, Kind(nothing)
    for base in (datetime.date, datetime.timedelta):
        yield base, Kind(reduced(base))
    week: Any = type(datetime.date.min.isocalendar())
    yield week, Kind(reduced(week), whole=True)
    for moment in (datetime.datetime, datetime.time):
        yield moment, Kind(_moment(moment))
    zone = members_of(datetime.timezone)["__getinitargs__"]
    yield datetime.timezone, Kind(lambda value: ((), [zone(value)]))
    yield zoneinfo.ZoneInfo, Kind(_zone)
    for path in (pathlib.PurePosixPath, pathlib.PosixPath, pathlib.PureWindowsPath):
        yield path, Kind(lambda value: ((os.fsencode(str(value)),), []), exact=True, whole=True, by_value=True)
    yield _random.Random, Kind(lambda value: ((), [_random.Random.getstate(value)]))
    yield random.SystemRandom, Kind(nothing, whole=True)
    yield from _code_types()
    yield from _library_types()
    yield from kinds_resources.types()


def _code_types() -> Iterator[tuple[Any, Kind]]:
    whole: tuple[tuple[Any, Read], ...] = (
        (types.ModuleType, lambda value: ((types.ModuleType.__repr__(value).split("'")[1].encode(),), [])),
        (types.FunctionType, _function),
        (type, class_parts),
        (staticmethod, lambda value: ((), [value.__func__])),
        (classmethod, lambda value: ((), [value.__func__])),
        (functools._lru_cache_wrapper, _cached),
    )
    yield from ((base, Kind(read, whole=True, family=base is type)) for base, read in whole)
    yield types.CodeType, Kind(_code)
    yield property, Kind(lambda value: ((), [value.fget, value.fset, value.fdel]))
    yield types.MethodType, Kind(lambda value: ((), [value.__func__, value.__self__]))
    yield from ((base, Kind(_bound)) for base in (types.BuiltinFunctionType, types.MethodWrapperType))
    descriptors: tuple[Any, ...] = (types.WrapperDescriptorType, types.MethodDescriptorType)
    descriptors = (*descriptors, types.ClassMethodDescriptorType, types.MemberDescriptorType)
    yield from ((base, Kind(_named)) for base in (*descriptors, types.GetSetDescriptorType))
    yield types.GeneratorType, Kind(_suspended("gi"))
    yield types.CoroutineType, Kind(_suspended("cr"))
    yield types.AsyncGeneratorType, Kind(_suspended("ag"))
    yield types.MappingProxyType, Kind(held)
    yield types.GenericAlias, Kind(lambda value: ((), [value.__origin__, value.__args__]))
    yield types.UnionType, Kind(lambda value: ((), [value.__args__]))
    yield types.TracebackType, Kind(nothing)
    variables = (typing.TypeVar, typing.ParamSpec, getattr(typing, "TypeVarTuple", None))
    for base in variables:
        if base is not None:
            yield base, Kind(lambda value: ((value.__name__.encode(),), []), whole=True)


def _library_types() -> Iterator[tuple[Any, Kind]]:
    for base in {*_iterators(), operator.itemgetter, operator.attrgetter, operator.methodcaller}:
        if "__reduce__" in members_of(base):
            yield base, Kind(reduced(base), whole=True)
    yield type(iter(set())), Kind(lambda value: ((), [Bag(list(value.__reduce__()[1][0]), paired=False)]))
    if pairs := getattr(itertools, "pairwise", None):
        yield pairs, Kind(held)
    yield functools.partial, Kind(reduced(functools.partial), whole=True)
    yield type(vars(collections.namedtuple("P", "x"))["x"]), Kind(lambda value: ((), [value.__reduce__()[1]]))
    yield re.Pattern, Kind(got("pattern", "flags")(re.Pattern))
    yield re.Match, Kind(lambda value: ((), [value.re, value.string, value.pos, value.endpos, value.regs]))
    yield struct.Struct, Kind(lambda value: ((), [value.format, value.size]))
    yield from ((base, Kind(_hash, whole=True)) for base in set(_hashes()))
    views: tuple[Any, ...] = ({}.keys(), {}.values(), {}.items())
    yield from ((type(view), Kind(held)) for view in views)
    errors = [base for base in vars(__import__("builtins")).values() if isinstance(base, type)]
    yield from ((base, Kind(_error)) for base in errors if issubclass(base, BaseException))
    yield weakref.ref, Kind(lambda value: ((), [weakref.ref.__call__(value)]))
    yield _thread.LockType, Kind(_lock)
    yield _thread.RLock, Kind(_again_lock)
    yield contextvars.ContextVar, Kind(_variable)
    yield contextvars.Context, Kind(lambda value: ((), [Bag(list(value.items()), paired=True)]))
    yield type(functools.cmp_to_key(max)), Kind(held)
    yield types.SimpleNamespace, Kind(lambda value: ((), [object.__getattribute__(value, "__dict__")]), whole=True)
    rows: Any = csv.reader([])
    dialect: tuple[str, ...] = ("delimiter", "doublequote", "escapechar", "lineterminator", "quotechar", "quoting")
    dialect = (*dialect, "skipinitialspace", "strict")
    yield type(rows), Kind(lambda value: ((b"%d" % value.line_num,), held(value)[1]))
    yield type(csv.writer(io.StringIO())), Kind(held)
    yield type(rows.dialect), Kind(got(*dialect)(type(rows.dialect)))


KINDS: dict[int, Kind] = {id(base): kind for base, kind in _types()}
