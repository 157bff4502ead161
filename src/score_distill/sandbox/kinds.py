"""What each type of value is, read without running code of the session.

A type is seen through when all that its values hold lies in attributes, in slots, or in a base that has a reader here.
Any other, such as one that keeps values in C, makes the state `Unknown`. Types and attributes are asked through the
descriptors of ``type`` and of the known base, so no metaclass, property or method of the session's classes takes part.
"""

import gc
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

Buffer = Any  # bytes, or an array that gives its bytes without a copy
Parts = tuple[Iterable[Buffer], list[Any]]  # what counts by itself, and values inside that are visited next
Read = Callable[[Any], Parts]

SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_POINTER = 8
_HEAP_TYPE, _IMMUTABLE_TYPE = 1 << 9, 1 << 8

mro_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
members_of: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
name_of: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_base_of: Callable[[type], type] = type.__dict__["__base__"].__get__
_size_of: Callable[[type], int] = type.__dict__["__basicsize__"].__get__
_item_of: Callable[[type], int] = type.__dict__["__itemsize__"].__get__
_flags_of: Callable[[type], int] = type.__dict__["__flags__"].__get__
module_of: Callable[[type], Any] = type.__dict__["__module__"].__get__


class Unknown(Exception):
    """What the state is cannot be told, or not in time."""


@dataclass(frozen=True)
class Kind:
    """How the values of a type are read.

    ``exact`` leaves subclasses out; ``whole`` says that ``read`` gives the attributes too, or that they do not count;
    ``by_value`` that it does not count whether two equal values are one, ``family`` that ``read`` knows what the
    library's own subclasses keep in C; ``noise`` names slots of the library that hold caches.
    """

    read: Read
    exact: bool = False
    whole: bool = False
    by_value: bool = False
    family: bool = False
    noise: frozenset[str] = frozenset()


class Bag:
    """Values, or pairs of them, whose order does not count."""

    def __init__(self, items: list[Any], *, paired: bool) -> None:
        self.items, self.paired = items, paired

    def flat(self) -> list[Any]:
        return [value for pair in self.items for value in pair] if self.paired else self.items


class Memory:
    """Where a value lies within what may be other values' memory too; whose it shares counts, not where that is."""

    def __init__(self, owner: Any, start: int, strides: tuple[int, ...] | None) -> None:
        self.owner, self.start, self.strides = owner, start, strides


@dataclass(frozen=True)
class _Seen:
    """A type as its values are read: its name, its reader, its slots, where its attributes are, and itself if made."""

    name: bytes
    kind: Kind
    slots: list[tuple[str, Any]]
    attributes: Any
    made: list[type]
    by_value: bool


@dataclass
class Reader:
    """Reads values by the known ``kinds``; what it found out of a type it keeps for as long as one digest takes."""

    kinds: Mapping[int, Kind]
    _seen: dict[int, _Seen] = field(default_factory=dict)
    _held: list[type] = field(default_factory=list)

    def read(self, value: Any) -> tuple[bytes, Parts, bool]:
        """The name of the value's type, what the value is, and whether equal ones count as one."""
        kind = type(value)
        seen = self._seen.get(id(kind)) or self._look(kind)
        content, children = seen.kind.read(value)
        if seen.made or seen.slots or seen.attributes:
            children = [*children, *seen.made]
            if seen.slots and (slots := _filled(seen.slots, value)):
                children.append(slots)
            if seen.attributes and (attributes := _attributes(seen.attributes, value)):
                children.append(attributes)
        return seen.name, (content, children), seen.by_value

    def _look(self, kind: type) -> _Seen:
        mro = mro_of(kind)
        place = next(n for n, base in enumerate(mro) if self._fits(base, kind))
        known = self.kinds[id(mro[place])]
        for base in mro[:place]:
            if not (known.family and is_by_name(base)):
                _see_through(base)
        own = mro if mro[place] is object or known.noise else mro[:place]
        slots = [
            (f"{n} {name}", member)
            for n, base in enumerate(own)
            for name, member in sorted(members_of(base).items(), key=itemgetter(0))
            if type(member) is types.MemberDescriptorType and name not in known.noise
        ]
        found = (members_of(base).get("__dict__") for base in mro)
        attributes = next((member for member in found if type(member) is types.GetSetDescriptorType), None)
        made = [] if place == 0 or is_by_name(kind) else [kind]
        name = name_of(kind).encode("utf-8", "surrogatepass")
        seen = _Seen(name, known, slots, None if known.whole else attributes, made, known.by_value)
        self._held.append(kind)
        self._seen[id(kind)] = seen
        return seen

    def _fits(self, base: type, kind: type) -> bool:
        known = self.kinds.get(id(base))
        return known is not None and (base is kind or not known.exact)


def _see_through(kind: type) -> None:
    """A class adds to its base the slots and dicts that it names; what more it has is kept in C."""
    base, members = _base_of(kind), members_of(kind)
    slots = sum(type(member) is types.MemberDescriptorType for member in members.values())
    slots += ("__dict__" in members) + ("__weakref__" in members)
    if _size_of(kind) - _size_of(base) > _POINTER * slots or _item_of(kind) != _item_of(base):
        raise Unknown(name_of(kind))


def _filled(slots: list[tuple[str, Any]], value: Any) -> dict[str, Any]:
    found = {}
    for name, member in slots:
        try:
            found[name] = member.__get__(value)
        except AttributeError:
            continue
    return found


def _attributes(descriptor: Any, value: Any) -> dict[str, Any]:
    try:
        attributes = descriptor.__get__(value)
    except AttributeError:
        return {}
    return attributes if type(attributes) is dict else {}


def is_by_name(kind: type) -> bool:
    """Whether a class is what its name says, so that a session that has the name has the class."""
    flags = _flags_of(kind)
    return not flags & _HEAP_TYPE or bool(flags & _IMMUTABLE_TYPE) or is_found(module_of(kind), name_of(kind), kind)


def is_found(module: Any, path: Any, value: Any) -> bool:
    """Whether ``value`` is what a module of a library has by the name ``path``."""
    place: Any = sys.modules.get(module) if type(module) is str and module != "__main__" else None
    for part in path.split(".") if type(path) is str else ():
        if type(place) is types.ModuleType:
            place = place.__dict__.get(part)
        else:
            place = members_of(place).get(part) if isinstance(place, type) else None
    return place is value


def class_parts(value: type) -> Parts:
    name = f"{module_of(value)}.{name_of(value)}".encode("utf-8", "surrogatepass")
    if is_by_name(value):
        return (name,), []
    bases = type.__dict__["__bases__"].__get__(value)
    return (name,), [bases, Bag([pair for pair in members_of(value).items() if pair[0] not in _NOISE], paired=True)]


_NOISE = frozenset({"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "_abc_impl"}) | frozenset(
    {"__firstlineno__", "__static_attributes__"}
)


def held(value: Any) -> Parts:
    """The values that one kept in C refers to, for types that hold nothing else."""
    return (), [inner for inner in gc.get_referents(value) if type(inner) is not type]


def reduced(base: Any) -> Read:
    """What ``base`` itself, a type written in C, gives to have its values made anew."""
    reduce = members_of(base)["__reduce__"]
    return lambda value: ((), [reduce(value)])


def nothing(value: Any) -> Parts:
    return (), []


def got(*names: str) -> Callable[[type], Read]:
    """Named attributes, by the descriptors of the type that is known."""

    def of(base: type) -> Read:
        members = [members_of(base)[name] for name in names]
        return lambda value: ((), [member.__get__(value) for member in members])

    return of
