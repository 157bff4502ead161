"""Equality of mathematical expressions, decided by math-verify in a process of its own.

math-verify takes seconds to import, and an expression such as a tower of powers holds its thread or eats the memory.
Its own bound, SIGALRM, works in a main thread alone and stalls the event loop there. So it runs in one child, started
when first needed, bounded in time and memory, and ended when it does not reply. It goes when this process goes.
"""

import json
import logging
import resource
import select
import signal
import subprocess
import sys
from functools import cache
from threading import Lock
from types import FrameType

SECONDS = 3.0
START_SECONDS = 120.0
MEMORY_BYTES = 2 << 30


class Verifier:
    """The child process; callers from any thread take turns."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def equal(self, answer: str, reference: str) -> bool | None:
        """None when the reference is nothing that math-verify can read, or when it could not decide in time."""
        with self._lock:
            try:
                child = self._child = self._child or self._start()
                return self._ask(child, [answer, reference], 2 * self._seconds)
            except (OSError, ValueError):
                self._end()
                return None

    def close(self) -> None:
        with self._lock:
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "score_distill.agent.mathematics", str(self._seconds)]
        child = self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._ask(child, ["1", "1"], START_SECONDS)
        return child

    def _ask(self, child: subprocess.Popen[bytes], question: list[str], seconds: float) -> bool | None:
        if child.stdin is None or child.stdout is None:
            raise OSError("the child has no pipes")
        child.stdin.write(json.dumps(question).encode() + b"\n")
        child.stdin.flush()
        if not select.select([child.stdout], [], [], seconds)[0]:
            raise TimeoutError(f"no reply in {seconds} s")
        reply: bool | None = json.loads(child.stdout.readline())
        return reply

    def _end(self) -> None:
        if self._child:
            self._child.kill()
            self._child.communicate()
            self._child = None


@cache
def verifier() -> Verifier:
    """The one child of this process."""
    return Verifier()


class _OutOfTime(BaseException):
    """Not an Exception, so that no handler inside of sympy takes it for its own."""


def _serve(seconds: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _out_of_time)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable()
    _equal("1", "1")
    for line in sys.stdin:
        answer, reference = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            equal = _equal(answer, reference)
        except (_OutOfTime, Exception):
            equal = None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(equal), flush=True)


def _equal(answer: str, reference: str) -> bool | None:
    from math_verify import parse, verify

    gold = parse(_marked(reference), parsing_timeout=None)
    if not gold:
        return None
    given = parse(_marked(answer), parsing_timeout=None)
    return bool(given) and bool(verify(gold, given, timeout_seconds=None))


def _marked(text: str) -> str:
    return text if "$" in text or "\\" in text else f"${text}$"


def _out_of_time(signal_number: int, frame: FrameType | None) -> None:
    raise _OutOfTime


if __name__ == "__main__":
    _serve(float(sys.argv[1]))
