"""The digest: equal for equal states, different for different ones, and it never runs the session's own code."""

import collections
import contextlib
import copy
import datetime
import decimal
import fractions
import queue
import random
import sqlite3
import types
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

from score_distill.sandbox.state import digest


class Thing:
    def __init__(self, value):
        self.value = value


def of(tmp_path, **variables):
    return digest(variables, str(tmp_path))


def cycle():
    items = [1]
    items.append(items)
    return items


def counter(start):
    def count():
        return start

    return count


def stepped(steps):
    numbers = (number for number in range(9))
    for _ in range(steps):
        next(numbers)
    return numbers


VALUES = [
    *(None, True, 1, 1.0, 1j, "1", b"1", 2**200, float("nan"), -0.0, 0.0),
    *([1, 2], [2, 1], (1, 2), {1, 2}, frozenset({1, 2}), {1: 2}, {1: 3}, [[1], [2]], [[1, 2]], [[1, [2]]]),
    *(collections.deque([1]), collections.Counter("aab"), collections.OrderedDict(a=1)),
    *(collections.defaultdict(int, a=1), collections.defaultdict(list, a=1)),
    *(range(3), slice(1), bytearray(b"1"), decimal.Decimal("1.0"), decimal.Decimal("1.00"), fractions.Fraction(1, 3)),
    *(datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1), datetime.timedelta(1)),
    *(numpy.array([1, 2]), numpy.array([1.0, 2.0]), numpy.array([[1], [2]]), numpy.float64(1), numpy.array([None, 1])),
    *(Thing(1), Thing(2), Thing, cycle(), counter(1), counter(2), stepped(1), stepped(2), random, len, [].append),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_has_one_digest(tmp_path, value):
    held = [value]
    assert of(tmp_path, x=held) == of(tmp_path, x=held)


def test_different_values_have_different_digests(tmp_path):
    digests = [of(tmp_path, x=value) for value in VALUES]
    same = [VALUES[i] for i, found in enumerate(digests) if digests.count(found) > 1]
    assert not same


@pytest.mark.parametrize("value", [[1, [2, {"a": (3,)}]], {"a": {1, 2}}, numpy.arange(5), Thing([1])], ids=repr)
def test_a_copy_has_the_digest_of_the_original(tmp_path, value):
    assert of(tmp_path, x=value) == of(tmp_path, x=copy.deepcopy(value))


class Key:
    def __init__(self, value):
        self.value = value


SCALARS = [0, 8, 16, 24, "a", "b", "ab", None, True, 1.5, 2**70, b"a", 1j]
SHUFFLED = {
    "ints in a set": lambda items: {8 * n for n in items},  # multiples of 8 meet in a set's table
    "texts in a set": lambda items: {f"name {n}" for n in items},
    "a set of all kinds": lambda items: {SCALARS[n] for n in items if n < len(SCALARS)},
    "a set of tuples": lambda items: {(n, (str(n), None)) for n in items},
    "a set of sets": lambda items: {frozenset({n, n + 8, (n, "x")}) for n in items},
    "a set of fractions": lambda items: {fractions.Fraction(n, 7) for n in items},
    "a set of objects": lambda items: {Key([n, {n}]) for n in items},
    "a dict": lambda items: {n: str(n) for n in items},
    "a dict by text": lambda items: {f"name {n}": [n] for n in items},
    "a dict of all kinds": lambda items: {SCALARS[n]: n for n in items if n < len(SCALARS)},
    "a dict by tuples": lambda items: {(n, n): {n: n} for n in items},
    "a counter": lambda items: collections.Counter({n: n for n in items}),
    "a default dict": lambda items: collections.defaultdict(list, {n: [n] for n in items}),
    "attributes": lambda items: attributes(items),
    "a dict that shares a value": lambda items: (lambda one: dict.fromkeys(items, one))([1]),
}


def attributes(items):
    thing = Thing(0)
    for n in items:
        setattr(thing, f"a{n}", n)
    return thing


@pytest.mark.parametrize("make", SHUFFLED.values(), ids=SHUFFLED.keys())
def test_the_order_in_which_sets_and_dicts_are_filled_does_not_count(tmp_path, make):
    order, digests = list(range(40)), set()
    for seed in range(5):
        random.Random(seed).shuffle(order)
        digests.add(of(tmp_path, x=make(order)))
    assert len(digests) == 1
    assert of(tmp_path, x=make([n for n in order if n])) not in digests


def test_the_order_of_an_ordered_dict_counts_as_in_its_equality(tmp_path):
    one, other = collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)
    assert of(tmp_path, x=one) != of(tmp_path, x=other)
    other.move_to_end("b")
    assert of(tmp_path, x=one) == of(tmp_path, x=other)


def test_equal_small_tuples_are_alike_and_shared_lists_are_not(tmp_path):
    one = (1, 2)
    assert of(tmp_path, a=one, b=one) == of(tmp_path, a=one, b=tuple(map(int, "12")))
    row = [0, 0]
    assert of(tmp_path, grid=[row, row]) != of(tmp_path, grid=[row, list(row)])


@pytest.mark.timeout(20)
def test_sorting_has_no_bad_cases(tmp_path):
    deep = frozenset({1})
    for n in range(20_000):
        deep = frozenset({deep, n})
    wide = frozenset({0})
    for n in range(60):
        wide = frozenset({(wide, n), (n, wide)})
    key = Key(None)
    key.value = {key: [key]}
    of(tmp_path, deep=deep, wide=wide, within=key, many=set(range(300_000)), pairs={(n, n) for n in range(50_000)})


def test_names_count_and_their_order_does_not(tmp_path):
    assert of(tmp_path, a=1, b=2) == of(tmp_path, b=2, a=1) != of(tmp_path, a=2, b=1)


def test_the_random_state_counts(tmp_path):
    random.seed(1)
    before = of(tmp_path)
    random.random()
    assert of(tmp_path) != before


def test_files_count_by_name_and_content(tmp_path):
    found = [of(tmp_path)]
    (tmp_path / "a").write_text("1")
    found.append(of(tmp_path))
    (tmp_path / "a").write_text("2")
    found.append(of(tmp_path))
    (tmp_path / "d").mkdir()
    found.append(of(tmp_path))
    assert len(set(found)) == 4


def test_classes_and_functions_count_by_what_they_do(tmp_path):
    def made(text):
        namespace = {"__name__": "__main__"}
        exec(text, namespace)
        namespace.pop("__builtins__")
        return digest(namespace, str(tmp_path))

    texts = ["def f(): return 1", "def f(): return 2", "def f(a=1): return 1", "class f:\n def g(self): return 1"]
    assert len({made(text) for text in texts}) == len(texts)
    assert made(texts[3]) == made(texts[3])


def test_no_code_of_the_session_runs(tmp_path):
    def fail(*_):
        raise AssertionError("called")

    hooks = ("__eq__", "__hash__", "__repr__", "__iter__", "__len__", "__getattr__", "__reduce_ex__", "__bool__")
    loud = [
        types.new_class("Loud", (base,), {}, lambda body: body.update(dict.fromkeys(hooks, fail))) for base in BASES
    ]
    of(tmp_path, x=[kind() for kind in loud])


def test_no_code_of_a_metaclass_a_property_or_a_value_within_runs(tmp_path):
    def fail(*_):
        raise AssertionError("called")

    class Meta(type):
        __hash__ = __eq__ = __getattribute__ = __instancecheck__ = fail

    members = {"__slots__": ("n",), "__reduce__": fail, "__getstate__": fail, "__hash__": fail, "__eq__": fail}
    loud = object.__new__(type.__call__(Meta, "A", (object,), members))
    vars_hidden = type("B", (), {"__dict__": property(fail), "__class__": property(fail), "__repr__": fail})
    zone = type("Z", (datetime.tzinfo,), {"utcoffset": fail, "__repr__": fail, "__reduce__": fail})()
    held = [loud, vars_hidden(), datetime.datetime(2026, 1, 1, tzinfo=zone), range(1), slice(vars_hidden())]
    assert of(tmp_path, x=held) is not None
    assert of(tmp_path, x={(1, 2): loud}) is not None


def test_what_cannot_be_seen_through_is_unknown(tmp_path):
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        for hidden in (zlib.compressobj(), queue.SimpleQueue(), database, ThreadPoolExecutor()):
            assert of(tmp_path, x=[hidden]) is None
    assert of(tmp_path, x=[database]) is not None


BASES = (object, int, str, list, dict, tuple, set, collections.deque, decimal.Decimal)


def test_nesting_and_sharing_have_no_bad_cases(tmp_path):
    deep = wide = [1]
    for _ in range(50_000):
        deep = [deep]
    for _ in range(100):
        wide = [wide, wide]
    of(tmp_path, deep=deep, wide=wide)
