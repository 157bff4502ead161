"""Readers for NumPy, SymPy and mpmath, as far as a session has loaded them."""

import array
import sys
from collections.abc import Callable, Iterator
from typing import Any

from score_distill.sandbox import chance
from score_distill.sandbox.kinds import Kind, Memory, Parts, Read, Unknown, held, is_found, members_of, nothing

_Types = Iterator[tuple[Any, Kind]]


def _array(value: Any) -> Parts:
    numpy: Any = sys.modules["numpy"]
    memory = _memory(numpy.ndarray, value) if isinstance(value, numpy.ndarray) else []
    writable = value.flags.writeable if type(value) is numpy.ndarray else True
    value = numpy.asarray(value)
    form = f"{value.dtype} {value.shape} {writable}".encode()
    if value.dtype.hasobject:
        return (form,), value.ravel().tolist() + memory
    contiguous = numpy.ascontiguousarray(value)
    return (form, contiguous.reshape(-1).view("uint8").data), memory


def _memory(kind: Any, value: Any) -> list[Any]:
    owner, lies = value, kind.__array_interface__.__get__(value)
    while isinstance(owner, kind) and (base := kind.base.__get__(owner)) is not None:
        owner = base
    lent = [owner] if type(owner) in _LENDERS else []
    return [Memory(owner, lies["data"][0], lies["strides"]), *lent]


_LENDERS = (bytearray, memoryview, array.array)


def _dtype(value: Any) -> Parts:
    return (repr(value).encode(),), [dict(value.metadata or {})]


def _ufunc(value: Any) -> Parts:
    if "(" in value.__name__:
        raise Unknown("a function made into one of arrays")
    return (value.__name__.encode(),), []


def _by_name(value: Any) -> Parts:
    return (f"{value.__module__}.{value.__qualname__}".encode(),), []


def _numpy(numpy: Any) -> _Types:
    yield numpy.ndarray, Kind(_array)
    yield from ((base, Kind(_array, by_value=True, family=True)) for base in (numpy.generic, numpy.str_, numpy.bytes_))
    yield numpy.dtype, Kind(_dtype, whole=True, family=True)
    yield numpy.ufunc, Kind(_ufunc, whole=True)
    yield numpy.flatiter, Kind(lambda value: ((b"%d" % value.index,), [value.base]))
    yield type(numpy.dot), Kind(_by_name, whole=True)


def _numpy_random(module: Any) -> _Types:
    for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"):
        base = getattr(module, name)
        yield base, Kind(_state_of(base), whole=True)
    yield module.SeedSequence, Kind(_state_of(module.SeedSequence), whole=True)
    yield module.RandomState, Kind(lambda value: ((), [module.RandomState.get_state(value, legacy=False)]), whole=True)
    yield module.Generator, Kind(lambda value: ((), [members_of(module.Generator)["bit_generator"].__get__(value)]))
    yield type(module.default_rng), Kind(_by_name, whole=True)


def _state_of(base: Any) -> Read:
    state = members_of(base)["state"]

    def parts(value: Any) -> Parts:
        seeds = getattr(value, "_seed_seq", None)
        return (), [state.__get__(value), seeds]

    return parts


def _sympy(sympy: Any) -> _Types:
    basic = sys.modules["sympy.core.basic"].Basic
    yield basic, Kind(nothing, by_value=True, noise=frozenset({"_mhash", "_assumptions"}))
    matrix = sys.modules["sympy.matrices.matrixbase"].MatrixBase
    for name in ("MutableDenseMatrix", "ImmutableDenseMatrix", "MutableSparseMatrix", "ImmutableSparseMatrix"):
        base = getattr(sympy, name)
        if issubclass(base, matrix):
            yield base, Kind(lambda value: ((), [value.shape, value.flat()]), exact=True, whole=True)
    yield sympy.Poly, Kind(_polynomial, exact=True, whole=True, by_value=True)
    yield type(sympy.S), Kind(nothing, whole=True)
    yield type(sympy.Q), Kind(nothing, whole=True)
    for base in (sys.modules["sympy.polys.domains.domain"].Domain, sys.modules["sympy.polys.rings"].PolyRing):
        yield base, Kind(_spelled_by_library, whole=True)
    yield sys.modules["sympy.polys.fields"].FracField, Kind(_spelled_by_library, whole=True)


def _polynomial(value: Any) -> Parts:
    return (str(value.domain).encode(),), [value.as_expr(), value.gens]


def _spelled_by_library(value: Any) -> Parts:
    kind = type(value)
    if not is_found(kind.__module__, kind.__qualname__, kind):
        raise Unknown(kind.__qualname__)
    return (str(value).encode(),), []


def _mpmath(mpmath: Any) -> _Types:
    for context in (mpmath.mp, mpmath.iv):
        yield type(context), Kind(lambda value: ((), [value.prec, value.pretty]), whole=True)
    yield type(mpmath.fp), Kind(nothing, whole=True)


def _elements(tree: Any) -> _Types:
    yield tree.Element, Kind(lambda value: ((), [tree.Element.__getstate__(value)]))


def _gzip(module: Any) -> _Types:
    yield module.GzipFile, Kind(_closed_archive, exact=True, whole=True)


def _closed_archive(value: Any) -> Parts:
    if value.fileobj is not None:
        raise Unknown("an open file")
    return (b"closed",), [value.mode, value.name]


def _json(module: Any) -> _Types:
    yield from ((base, Kind(held)) for base in (module.c_make_scanner,) if base)


_LIBRARIES: dict[str, Callable[[Any], _Types]] = {
    "numpy": _numpy,
    "numpy.random": _numpy_random,
    "sympy": _sympy,
    "mpmath": _mpmath,
    "xml.etree.ElementTree": _elements,
    "gzip": _gzip,
    "json.scanner": _json,
}
_learnt: set[str] = set()


def learn(kinds: dict[int, Kind]) -> None:
    """Add the types of what has been loaded since to those that are known."""
    for name, known in _LIBRARIES.items():
        if name not in _learnt and (module := sys.modules.get(name)):
            kinds.update({id(base): kind for base, kind in known(module)})
            _learnt.add(name)


def settings() -> list[Any]:
    """What of these libraries decides how later steps compute and print."""
    found: list[Any] = []
    if numpy := sys.modules.get("numpy"):
        found += [numpy.get_printoptions(), numpy.geterr()]
    if generator := sys.modules.get("numpy.random"):
        found += [_plain(generator.get_state()), _entropy(sys.modules["numpy.random.bit_generator"].randbits)]
    if mpmath := sys.modules.get("mpmath"):
        found += [mpmath.mp.prec, mpmath.mp.pretty]
    return found


def _plain(state: Any) -> Any:
    """A state of the usual generator without its array; of any other as it is."""
    if type(state) is not tuple:
        return state
    return [value.tobytes() if type(value) is sys.modules["numpy"].ndarray else value for value in state]


def _entropy(source: Any) -> Any:
    """Where generators without a seed take one from: the machine, or the generator that a seeded session has for it."""
    return None if source is chance.machine_bits else source
