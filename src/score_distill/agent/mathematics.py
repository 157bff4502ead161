"""Equality of mathematical expressions, decided by math-verify in a process of its own.

math-verify takes seconds to import, and an expression such as a tower of powers holds its thread or eats the memory.
Its own bound, SIGALRM, works in a main thread alone and stalls the event loop there. So it runs in one child, started
when first needed, bounded in CPU time and memory, and ended when it does not reply. It goes when this process goes.

The child reads the reference first and says so. What then uses up its time or memory is the answer, which is wrong:
if it were undecided, a model could earn by being unreadable. CPU time counts, so that a busy machine changes nothing.
"""

import json
import logging
import math
import resource
import select
import signal
import subprocess
import sys
from functools import cache, lru_cache
from threading import Lock
from types import FrameType
from typing import Any

SECONDS = 3.0  # of CPU, for reading a reference, and for reading and comparing an answer
WALL_SECONDS = 60.0  # after which the machine is at fault, not the answer
START_SECONDS = 120.0
MEMORY_BYTES = 2 << 30


class Verifier:
    """The child process; callers from any thread take turns."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def equal(self, answer: str, reference: str) -> bool | None:
        """None when the reference is nothing that math-verify can read, or when the child was lost or held up."""
        with self._lock:
            try:
                child = self._child = self._child or self._start()
                return self._ask(child, [answer, reference], WALL_SECONDS)
            except (OSError, ValueError, EOFError):
                self._end()
                return None

    def close(self) -> None:
        with self._lock:
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "score_distill.agent.mathematics", str(self._seconds)]
        child = self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._ask(child, ["1", "1"], START_SECONDS)
        return child

    def _ask(self, child: subprocess.Popen[bytes], question: list[str], seconds: float) -> bool | None:
        if child.stdin is None:
            raise OSError("the child has no pipes")
        child.stdin.write(json.dumps(question).encode() + b"\n")
        if not self._line(child, seconds):
            return None
        try:
            return self._line(child, seconds)
        except EOFError:
            self._end()
            if child.returncode in _ENDED_BY_ANSWER:
                return False
            raise OSError(f"the child ended with {child.returncode}") from None

    @staticmethod
    def _line(child: subprocess.Popen[bytes], seconds: float) -> bool:
        """The next true or false that the child says. Raises EOFError when it ended, TimeoutError after ``seconds``."""
        if child.stdout is None:
            raise OSError("the child has no pipes")
        if not select.select([child.stdout], [], [], seconds)[0]:
            raise TimeoutError(f"no reply in {seconds} s")
        line = child.stdout.readline()
        if not line:
            child.wait()
            raise EOFError
        return bool(json.loads(line))

    def _end(self) -> None:
        if self._child:
            self._child.kill()
            self._child.communicate()
            self._child = None


@cache
def verifier() -> Verifier:
    """The one child of this process."""
    return Verifier()


_ENDED_BY_ANSWER = {-signal.SIGXCPU, -signal.SIGABRT, -signal.SIGSEGV}  # time, GMP's memory, the stack


class _OutOfTime(BaseException):
    """Not an Exception, so that no handler inside of sympy takes it for its own."""


def _serve(seconds: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, _out_of_time)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    _readable("1")
    for line in sys.stdin:
        answer, reference = json.loads(line)
        readable = _in_time(seconds, lambda text=reference: _readable(text))
        print(json.dumps(readable), flush=True)
        if readable:
            equal = _in_time(seconds, lambda text=answer, gold=reference: _equal(text, gold))
            print(json.dumps(equal), flush=True)


def _in_time(seconds: float, work: Any) -> bool:
    """False when it fails or takes longer; where the alarm is not heard, inside of one long sum, the kernel ends us."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = math.ceil(used.ru_utime + used.ru_stime + 2 * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return bool(work())
    except (_OutOfTime, Exception):
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


@lru_cache(maxsize=1024)
def _read(reference: str) -> Any:
    return _parsed(reference)


def _readable(reference: str) -> bool:
    """Whether the reference means something, and can be compared: with a number no answer will be, and with itself."""
    from math_verify import verify

    gold = _read(reference)
    verify(gold, _read("0.72419"), timeout_seconds=None)
    return bool(gold) and bool(verify(gold, gold, timeout_seconds=None))


def _equal(answer: str, reference: str) -> bool:
    from math_verify import verify

    given = _parsed(answer)
    return bool(given) and _consistent(given[0]) and bool(verify(_read(reference), given, timeout_seconds=None))


def _consistent(given: Any) -> bool:
    """Whether the numbers that an answer's equations set equal are equal: 41 = 42 says nothing, x = 42 does."""
    from math_verify import verify
    from sympy import And, Eq  # type: ignore[import-untyped]
    from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]

    equations = given.args if isinstance(given, And) else [given]
    sides = [side for one in equations if isinstance(one, Eq) for side in one.args]
    numbers = [side for side in sides if not side.free_symbols and not side.has(AppliedUndef)]
    return all(verify([numbers[0]], [number], timeout_seconds=None) for number in numbers[1:])


def _parsed(text: str) -> Any:
    from math_verify import parse

    marked = any(mark in text for mark in ("$", "\\boxed", "\\(", "\\["))
    return parse(text if marked else f"${text}$", parsing_timeout=None)


def _out_of_time(signal_number: int, frame: FrameType | None) -> None:
    raise _OutOfTime


if __name__ == "__main__":
    _serve(float(sys.argv[1]))
