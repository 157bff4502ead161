"""What a value is counts in the digest of a real session, wherever its type keeps it; a replay has the same digest."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from score_distill.sandbox.client import Sandbox
from score_distill.sandbox.local import start

SLOTS = "from dataclasses import dataclass\n@dataclass(slots=True)\nclass P:\n    n: int\n    m: str = 'a'\n"
PLAIN = "class A:\n    __slots__ = ('n',)\n    def __init__(self, n): self.n = n\nclass B(A): __slots__ = ('m',)\n"
LINES = r"""
from sympy import *; x = symbols('x'); r = solve(x**2-4) | from sympy import *; x = symbols('x'); r = solve(x**2-9)
from sympy import Integer; r = Integer(3) | from sympy import Integer; r = Integer(4)
from sympy import Rational; r = Rational(1, 3) | from sympy import Rational; r = Rational(1, 4)
from sympy import Float; r = Float('1.5') | from sympy import Float; r = Float('1.25')
from sympy import Float; r = Float('1.5', 15) | from sympy import Float; r = Float('1.5', 30)
from sympy import Symbol; r = Symbol('x') | from sympy import Symbol; r = Symbol('y')
from sympy import Symbol; r = Symbol('x') | from sympy import Symbol; r = Symbol('x', positive=True)
from sympy import Symbol; r = Symbol('x', real=True) | from sympy import Symbol; r = Symbol('x', positive=True)
from sympy import *; r = sin(Symbol('x')) | from sympy import *; r = cos(Symbol('x'))
from sympy import *; r = Symbol('x') + 1 | from sympy import *; r = Symbol('x') + 2
from sympy import *; r = Eq(Symbol('x'), 1) | from sympy import *; r = Ne(Symbol('x'), 1)
from sympy import *; r = Matrix([[1, 2]]) | from sympy import *; r = Matrix([[1], [2]])
from sympy import *; r = Matrix([[1, 2]]) | from sympy import *; r = Matrix([[1, 3]])
from sympy import *; r = ImmutableMatrix([[1, 2]]) | from sympy import *; r = ImmutableMatrix([[1, 3]])
from sympy import *; r = SparseMatrix(2, 2, {(0, 0): 1}) | from sympy import *; r = SparseMatrix(2, 2, {(0, 0): 2})
from sympy import *; r = FiniteSet(1, 2) | from sympy import *; r = FiniteSet(1, 3)
from sympy import *; r = Interval(0, 1) | from sympy import *; r = Interval.open(0, 1)
from sympy import *; r = Poly(Symbol('x')**2 - 1) | from sympy import *; r = Poly(Symbol('x')**2 - 2)
from sympy import *; r = Function('f')(Symbol('x')) | from sympy import *; r = Function('g')(Symbol('x'))
from sympy import *; r = Function('f') | from sympy import *; r = Function('f', real=True)
from sympy import *; r = pi | from sympy import *; r = E
from sympy import *; r = Piecewise((1, Symbol('x') > 0), (2, True)) | from sympy import *; r = Piecewise((1, True))
from sympy import *; r = solveset(Symbol('x') - 1) | from sympy import *; r = solveset(Symbol('x') - 2)
from sympy import *; r = [Lambda(Symbol('x'), 1)] | from sympy import *; r = [Lambda(Symbol('x'), 2)]
from mpmath import mpf; r = mpf('1.5') | from mpmath import mpf; r = mpf('2.5')
import mpmath | import mpmath; mpmath.mp.dps = 50
from pathlib import Path; r = Path('a') | from pathlib import Path; r = Path('b')
from uuid import UUID; r = UUID(int=1) | from uuid import UUID; r = UUID(int=2)
import re; r = re.compile('a') | import re; r = re.compile('b')
import re; r = re.compile('a') | import re; r = re.compile('a', re.I)
import re; r = re.match('a', 'ab') | import re; r = re.match('a', 'ac')
from functools import partial; r = partial(int, base=2) | from functools import partial; r = partial(int, base=3)
from functools import partial; r = partial(max, 1) | from functools import partial; r = partial(max, 2)
r = iter([1, 2]) | r = iter([1, 2]); next(r)
r = iter((1, 2)) | r = iter((1, 3))
r = iter({1: 2, 3: 4}) | r = iter({1: 2, 3: 4}); next(r)
r = iter({1, 2}) | r = iter({1, 2}); next(r)
r = iter(range(5)) | r = iter(range(5)); next(r)
r = iter('ab') | r = iter('ac')
r = zip([1], [2]) | r = zip([1], [3])
r = map(str, [1]) | r = map(str, [2])
r = map(str, [1]) | r = map(repr, [1])
r = filter(None, [1]) | r = filter(None, [2])
r = enumerate([1]) | r = enumerate([1], 1)
r = reversed([1, 2]) | r = reversed([1, 2]); next(r)
import itertools; r = itertools.count(1) | import itertools; r = itertools.count(2)
import itertools; r = itertools.cycle([1, 2]) | import itertools; r = itertools.cycle([1, 2]); next(r)
import itertools; r = itertools.chain([1], [2]) | import itertools; r = itertools.chain([1], [3])
import itertools; r = itertools.islice(range(9), 2) | import itertools; r = itertools.islice(range(9), 3)
import itertools; r = itertools.permutations('ab') | import itertools; r = itertools.permutations('ab'); next(r)
import itertools; r = itertools.product([1], [2]) | import itertools; r = itertools.product([1], [3])
import itertools; r = itertools.accumulate([1, 2]) | import itertools; r = itertools.accumulate([1, 3])
import itertools; r = itertools.tee([1, 2]) | import itertools; r = itertools.tee([1, 2]); next(r[0])
import itertools; r = itertools.pairwise([1, 2, 3]) | import itertools; r = itertools.pairwise([1, 2, 3]); next(r)
import itertools; r = itertools.groupby([1, 1]) | import itertools; r = itertools.groupby([1, 2])
def g():\n for n in [1, 2, 3]: yield 0\nr = g(); next(r) | def g():\n for n in [1, 2, 4]: yield 0\nr = g(); next(r)
def g(): yield from [1, 2, 3]\nr = g(); next(r) | def g(): yield from [1, 2, 3]\nr = g(); next(r); next(r)
r = (n for n in [1, 2]) | r = (n + 1 for n in [1, 2])
import io; r = io.StringIO('a') | import io; r = io.StringIO('b')
import io; r = io.StringIO('ab') | import io; r = io.StringIO('ab'); r.read(1)
import io; r = io.BytesIO(b'a') | import io; r = io.BytesIO(b'b')
from datetime import *; r = timezone.utc | from datetime import *; r = timezone(timedelta(hours=1))
from datetime import *; r = datetime(2026, 1, 1, tzinfo=timezone.utc) | from datetime import *; r = datetime(2026, 1, 1)
from datetime import *; r = time(1, 2) | from datetime import *; r = time(1, 3)
from datetime import *; r = timedelta(1) | from datetime import *; r = timedelta(2)
from collections import deque; r = deque([1], 2) | from collections import deque; r = deque([1], 3)
from collections import deque; r = deque([1]) | from collections import deque; r = deque([1], 3)
import decimal | import decimal; decimal.getcontext().prec = 5
import decimal; r = decimal.Context(5) | import decimal; r = decimal.Context(6)
from fractions import Fraction; r = Fraction(1, 2) | from fractions import Fraction; r = Fraction(1, 3)
from collections import Counter; r = Counter('aab') | from collections import Counter; r = Counter('abb')
from collections import ChainMap; r = ChainMap({1: 2}) | from collections import ChainMap; r = ChainMap({1: 3})
import collections as c; r = c.namedtuple('P', 'x')(1) | import collections as c; r = c.namedtuple('P', 'x')(2)
from collections import namedtuple as n; P = n('P', 'xy') | from collections import namedtuple as n; P = n('P', 'yx')
from enum import Enum; E = Enum('E', 'a b'); r = E.a | from enum import Enum; E = Enum('E', 'a b'); r = E.b
from types import SimpleNamespace as N; r = N(a=1) | from types import SimpleNamespace as N; r = N(a=2)
r = memoryview(b'a') | r = memoryview(b'b')
import random; r = random.Random(1) | import random; r = random.Random(2)
import random; r = random.Random(1) | import random; r = random.Random(1); r.random()
import numpy as np; r = np.random.default_rng(1) | import numpy as np; r = np.random.default_rng(2)
import numpy as np; r = np.random.default_rng(1) | import numpy as np; r = np.random.default_rng(1); r.random()
import numpy as np; r = np.random.RandomState(1) | import numpy as np; r = np.random.RandomState(2)
import numpy as np | import numpy as np; np.random.default_rng()
import numpy as np | import numpy as np; np.random.rand()
import os | import os; os.urandom(1)
import numpy as np | import numpy as np; np.set_printoptions(precision=3)
import numpy as np; r = np.dtype('f4') | import numpy as np; r = np.dtype('f8')
import numpy as np; r = np.dtype([('a', 'i4')]) | import numpy as np; r = np.dtype([('b', 'i4')])
import numpy as np; r = np.ma.array([1, 2], mask=[0, 1]) | import numpy as np; r = np.ma.array([1, 2], mask=[1, 0])
import numpy as np; r = np.zeros(2, 'i4,f8') | import numpy as np; r = np.ones(2, 'i4,f8')
import numpy as np; r = np.datetime64('2026-01-01') | import numpy as np; r = np.datetime64('2026-01-02')
import numpy as np; r = np.float64(1) | import numpy as np; r = np.float32(1)
import numpy as np; r = np.poly1d([1, 2]) | import numpy as np; r = np.poly1d([1, 3])
from numpy import dot as r | from numpy import sin as r
import numpy as np; r = np.arange(3).flat | import numpy as np; r = np.arange(3).flat; next(r)
import hashlib; r = hashlib.sha256(b'a') | import hashlib; r = hashlib.sha256(b'b')
import hashlib; r = hashlib.shake_128(b'a') | import hashlib; r = hashlib.shake_128(b'b')
import hmac; r = hmac.new(b'k', b'a', 'md5') | import hmac; r = hmac.new(b'k', b'b', 'md5')
import struct; r = struct.Struct('i') | import struct; r = struct.Struct('h')
from operator import itemgetter as i; r = i(1) | from operator import itemgetter as i; r = i(2)
from operator import attrgetter as a; r = a('b') | from operator import attrgetter as a; r = a('c')
r = {1: 2}.keys() | r = {2: 2}.keys()
r = {1: 2}.items() | r = {1: 3}.items()
import weakref; s = {1}; r = weakref.ref(s) | import weakref; s = {1}; r = weakref.ref({1})
import threading; r = threading.Lock() | import threading; r = threading.Lock(); r.acquire()
import threading; r = threading.RLock() | import threading; r = threading.RLock(); r.acquire()
import threading; r = threading.Event() | import threading; r = threading.Event(); r.set()
r = ValueError('a') | r = ValueError('b')
r = OSError(1, 'a', 'f') | r = OSError(1, 'a', 'g')
r = KeyError('a'); r.add_note('x') | r = KeyError('a'); r.add_note('y')
from string import Template; r = Template('a') | from string import Template; r = Template('b')
import csv; r = csv.reader(['a', 'b']) | import csv; r = csv.reader(['a', 'b']); next(r)
import csv; r = csv.DictReader(['a', 'b']) | import csv; r = csv.DictReader(['a', 'b', 'c'])
import csv, io; r = csv.writer(io.StringIO('a')) | import csv, io; r = csv.writer(io.StringIO('b'))
def f(a): pass | def f(*a): pass
def f(): f.n += 1\nf.n = 1 | def f(): f.n += 1\nf.n = 2
from functools import cache\n@cache\ndef f(n): return n | from functools import cache\n@cache\ndef f(n): return n\nf(1)
r = [1].append | r = [2].append
import random; r = random.Random(1).random | import random; r = random.Random(2).random
from fractions import Fraction; r = property(lambda s: 1) | from fractions import Fraction; r = property(lambda s: 2)
r = slice(1, 2) | r = slice(1, 3)
from contextvars import *; v = ContextVar('v') | from contextvars import *; v = ContextVar('v'); v.set(1)
from xml.etree.ElementTree import XML; r = XML('<a/>') | from xml.etree.ElementTree import XML; r = XML('<b/>')
import ast; r = ast.parse('1') | import ast; r = ast.parse('2')
from queue import Queue; r = Queue() | from queue import Queue; r = Queue(); r.put(1)
import statistics; r = statistics.NormalDist(0, 1) | import statistics; r = statistics.NormalDist(0, 2)
import ipaddress; r = ipaddress.ip_address('1.1.1.1') | import ipaddress; r = ipaddress.ip_address('1.1.1.2')
from typing import *; r = List[int] | from typing import *; r = List[str]
r = list[int] | r = list[str]
r = int|str | r = int|bytes
import numpy as np; a = np.arange(4); r = a[1:] | import numpy as np; a = np.arange(4); r = a[1:].copy()
import numpy as np; a = np.arange(4) % 2; r = a[:2] | import numpy as np; a = np.arange(4) % 2; r = a[2:]
import numpy as np; a = np.eye(2); r = a.T | import numpy as np; a = np.eye(2); r = a.copy().T
import numpy as np; a = bytearray(8); r = np.frombuffer(a) | import numpy; a = bytearray(8); r = numpy.zeros(1)
a = bytearray(2); r = memoryview(a) | a = bytearray(2); r = memoryview(a[:])
a = {1: 2}; r = a.keys() | a = {1: 2}; r = {1: 2}.keys()
from threading import *; r = Thread(); r.start(); r.join() | from threading import *; r = Thread()
from threading import *; r = Thread(args=(1,)) | from threading import *; r = Thread(args=(2,))
from threading import *; r = local(); r.a = 1 | from threading import *; r = local(); r.a = 2
from concurrent.futures import *\nwith ThreadPoolExecutor() as r: f = r.submit(abs, 1) | f = 1
import contextvars as c; c.ContextVar('v').set(1); r = c.copy_context() | import contextvars as c; r = c.Context()
from functools import cmp_to_key as c; r = c(max)(1) | from functools import cmp_to_key as c; r = c(max)(2)
from datetime import *; r = date(2024, 1, 1).isocalendar() | from datetime import *; r = date(2024, 1, 8).isocalendar()
import os; open('a', 'w').close(); [r] = os.scandir() | import os; os.mkdir('a'); [r] = os.scandir()
import os; open('a', 'w').close(); [r] = os.scandir('/scratch') | import os; open('a', 'w').close(); [r] = os.scandir()
f = open('a', 'w'); n = f.write('b') | f = open('a', 'w'); n = f.write('c')
f = open('a', 'w+b'); n = f.write(b'b'); f.seek(0) | f = open('a', 'w+b'); n = f.write(b'b')
f = open('a', 'w') | f = open('a', 'w'); f.close()
import gzip\nwith gzip.open('a', 'wb') as r: pass | import gzip\nwith gzip.open('a', 'wt') as r: pass
import tempfile\nwith tempfile.TemporaryFile() as r: pass | import tempfile\nr = tempfile.SpooledTemporaryFile()
import io\nclass A(io.TextIOBase): pass\nr = A(); r.a = 1 | import io\nclass A(io.TextIOBase): pass\nr = A(); r.a = 2
import sqlite3 as s; c = s.connect('a'); r = c.cursor(); c.close() | import sqlite3 as s; c = s.connect('a'); c.close()
import sqlite3 as s; c = s.connect('a'); c.row_factory = s.Row; r = [*c.execute('select 1')]; c.close() | r = 1
import warnings | import warnings; warnings.filterwarnings('ignore')
import logging | import logging; logging.getLogger('a').setLevel(10)
import logging; logging.basicConfig(level=10) | import logging; logging.basicConfig(level=20)
import sys; sys.setrecursionlimit(500) | import sys; sys.setrecursionlimit(600)
import os; os.environ['a'] = '1' | import os; os.environ['a'] = '2'
"""
PAIRS = [
    (SLOTS + "r = P(1)", SLOTS + "r = P(2)"),
    (PLAIN + "r = B(1)", PLAIN + "r = B(2)"),
    *(line.replace(r"\n", "\n").split(" | ") for line in LINES.strip().splitlines()),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with start() as sandbox:
        yield sandbox


async def digest(sandbox: Sandbox, *codes: str) -> str | None:
    branch = await sandbox.open(seed=1)
    for code in codes:
        result = await branch.run(code)
        await branch.close()
        assert result.error is None, result.output
        branch = result.branch
    await branch.close()
    return result.state_hash


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("one", "other"), PAIRS, ids=map(str, range(len(PAIRS))))
async def test_what_a_value_is_counts(sandbox: Sandbox, one: str, other: str) -> None:
    first = await digest(sandbox, one)
    assert first is not None
    assert first == await digest(sandbox, one, "")
    assert first != await digest(sandbox, other)
