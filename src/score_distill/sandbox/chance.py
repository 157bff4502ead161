"""Chance as a session has it: all of it comes of the seed that the session was opened with.

That of the machine is for a session one generator more, so that a replay draws the same identifiers and tokens.
"""

import posix
import random
import sys
from typing import Any

from score_distill.sandbox.places import put

_ENTROPY_BITS = 19_968  # as many as a generator takes of the machine when it is given no seed
_machine = random.Random(0)
machine_bits = _machine.getrandbits  # one object, by which it is known again


def fit() -> None:
    """Put that generator in the machine's place; only once, in the process from which all sessions come."""
    seed = random.Random.seed

    def seed_given(self: random.Random, a: Any = None, version: int = 2) -> None:
        seed(self, machine_bits(_ENTROPY_BITS) if a is None else a, version)

    put({posix.urandom: lambda size, /: _machine.randbytes(size), seed: seed_given})
    random.Random.seed = seed_given  # type: ignore[method-assign]
    random.seed = random._inst.seed


def begin(seed: int) -> None:
    """Seed everything that a new session can draw from."""
    _machine.seed(seed)
    random.seed(seed)
    if numpy := sys.modules.get("numpy.random"):
        numpy.seed(seed % 2**32)
        sys.modules["numpy.random.bit_generator"].randbits = machine_bits  # type: ignore[attr-defined]


def state() -> Any:
    return _machine.getstate()
