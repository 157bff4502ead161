"""Equality of mathematical expressions, decided by SymPy in a process of its own.

SymPy takes seconds to import, and an expression such as a tower of powers holds its thread or eats the memory. So it
runs in one child, started when first needed, bounded in CPU time and memory, and ended when it does not reply. It goes
when this process goes.

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
from collections.abc import Callable
from functools import cache
from threading import Lock
from types import FrameType
from typing import TYPE_CHECKING, Any

from score_distill.agent.grading.comparing import same
from score_distill.agent.grading.kinds import read_as
from score_distill.agent.grading.values import formulas
from score_distill.api import AnswerType

if TYPE_CHECKING:
    from score_distill.agent.grading.numeric import SymPyNumeric

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

    def equal(self, answer: str, reference: str, kind: AnswerType | None = None) -> bool | None:
        """None when the reference cannot be read or it is arguable, or when the child was lost or held up."""
        with self._lock:
            try:
                child = self._child = self._child or self._start()
                return self._ask(child, [answer, reference, kind], WALL_SECONDS)
            except (OSError, ValueError, EOFError):
                self._end()
                return None

    def close(self) -> None:
        with self._lock:
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "score_distill.agent.mathematics", str(self._seconds)]
        child = self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._ask(child, ["1", "1", None], START_SECONDS)
        return child

    def _ask(self, child: subprocess.Popen[bytes], question: list[str | None], seconds: float) -> bool | None:
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
    def _line(child: subprocess.Popen[bytes], seconds: float) -> bool | None:
        """The next verdict that the child says. Raises EOFError when it ended, TimeoutError after ``seconds``."""
        if child.stdout is None:
            raise OSError("the child has no pipes")
        if not select.select([child.stdout], [], [], seconds)[0]:
            raise TimeoutError(f"no reply in {seconds} s")
        line = child.stdout.readline()
        if not line:
            child.wait()
            raise EOFError
        verdict: bool | None = json.loads(line)
        return verdict

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
    from score_distill.agent.grading.numeric import SymPyNumeric

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, _out_of_time)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    numeric = SymPyNumeric()
    _readable("x^2+1", None, numeric)
    for line in sys.stdin:
        answer, reference, kind = json.loads(line)
        readable = _in_time(seconds, _readable, reference, kind, numeric)
        print(json.dumps(readable), flush=True)
        if readable:
            print(json.dumps(_in_time(seconds, _equal, answer, reference, kind, numeric)), flush=True)


def _in_time(seconds: float, work: Callable[..., bool | None], *question: Any) -> bool | None:
    """False when it fails or takes longer; where the alarm is not heard, inside of one long sum, the kernel ends us."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = math.ceil(used.ru_utime + used.ru_stime + 2 * seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return work(*question)
    except (_OutOfTime, Exception):
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _readable(reference: str, kind: AnswerType | None, numeric: "SymPyNumeric") -> bool:
    """Whether the reference's formulas have a value, and can be compared with themselves."""
    return all(numeric.equal(formula, formula) for formula in formulas(read_as(reference, kind)))


def _equal(answer: str, reference: str, kind: AnswerType | None, numeric: "SymPyNumeric") -> bool | None:
    return same(read_as(reference, kind), read_as(answer, kind), numeric)


def _out_of_time(signal_number: int, frame: FrameType | None) -> None:
    raise _OutOfTime


if __name__ == "__main__":
    _serve(float(sys.argv[1]))
