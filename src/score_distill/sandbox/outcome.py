"""What a step came to, and the text the model reads of it.

Pure: takes the bytes a step printed and how its process ended, gives the observation. A step that hits a limit or
loses its process is undone: its error says so, and the state after it is the state before it.
"""

import signal
from dataclasses import dataclass

from score_distill.sandbox.limits import MIB, Limits

NOTHING = "None"
_CONTINUATION = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that begin no character


@dataclass(frozen=True)
class Failure:
    """Why a step did not end well: the class name of the error and what the model reads of it."""

    name: str
    line: str


class StateLost(Exception):
    """The machine, or its owner, ended the process that held a state; what it would have done is not known."""


class StepRejected(Exception):
    """The step hits a limit or breaks a rule; carries what the model is told."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.line)
        self.failure = failure


def observation(printed: bytes, failure: Failure | None, limit: int) -> str:
    """What the model sees: what was printed, then the error; at most ``limit`` characters, never empty.

    A file's name in an error can hold what is no text.
    """
    error = shorten(failure.line, limit // 2) if failure else ""
    text = shorten(_text(printed.rstrip(b"\n"), limit), limit - len(error) - 1 if error else limit)
    return clean("\n".join(part for part in (text, error) if part)) or NOTHING


def _text(printed: bytes, limit: int) -> str:
    """``printed`` as text, right at its ends and as long as it is; what lies between will be cut and costs nothing."""
    end, start = 4 * limit, len(printed) - 4 * limit
    if end >= start:
        return printed.decode("utf-8", "replace")
    start += next((at for at in range(4) if not 0x80 <= printed[start + at] < 0xC0), 0)
    between = printed[end:start].translate(None, _CONTINUATION)
    return (printed[:end] + b"?" * len(between) + printed[start:]).decode("utf-8", "replace")


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of ``text`` so that it and the mark in its place have at most ``limit`` characters."""
    if len(text) <= limit:
        return text
    room = limit - len(_mark(len(text)))
    head, tail = room - room // 2, room // 2
    return text[:head] + _mark(len(text) - head - tail) + text[len(text) - tail :]


def _mark(count: int) -> str:
    return f"\n... [{count} characters cut] ...\n"


def clean(text: str) -> str:
    """``text`` without the lone surrogates that JSON can carry and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def timed_out(limits: Limits) -> Failure:
    return Failure("TimeoutError", f"TimeoutError: the step ran longer than {limits.wall_seconds:g} s")


def out_of_cpu(limits: Limits) -> Failure:
    return Failure("TimeoutError", f"TimeoutError: the step used more than {limits.cpu_seconds} s of CPU time")


def unreadable_state() -> Failure:
    return Failure("TimeoutError", "TimeoutError: the step left what takes too long to look through")


def out_of_memory(limits: Limits) -> Failure:
    mib = limits.memory_bytes // MIB
    return Failure("MemoryError", f"MemoryError: the session needed more than {mib} MiB of memory")


def session_too_large(limits: Limits) -> Failure:
    mib = limits.session_memory_bytes // MIB
    return Failure("MemoryError", f"MemoryError: all states of the session together needed more than {mib} MiB")


def printed_too_much(limits: Limits) -> Failure:
    line = f"OutputLimitError: the step printed more than {limits.output_bytes} bytes"
    return Failure("OutputLimitError", line)


def too_much_code(limits: Limits) -> Failure:
    return Failure("CodeLimitError", f"CodeLimitError: the step's code has more than {limits.code_bytes} bytes")


def folder_full(limits: Limits) -> Failure:
    mib = limits.scratch_bytes // MIB
    return Failure("OSError", f"OSError: the step left more than {mib} MiB in its folder")


def folders_full(limits: Limits) -> Failure:
    mib = limits.session_scratch_bytes // MIB
    return Failure("OSError", f"OSError: the folders of all states of the session together need more than {mib} MiB")


def left_open(what: str) -> Failure:
    return Failure("OSError", f"OSError: the step left open what cannot be kept ({what})")


def spoiled(status: int | None) -> Failure:
    """A state whose process ended itself (exit status, or minus the signal), or did not fork (None) when it should."""
    how = "its interpreter does not fork" if status is None else f"its interpreter ended itself ({_how(status)})"
    return Failure("ProcessDiedError", f"ProcessDiedError: the session cannot go on; after its step {how}")


def session_over(limits: Limits) -> Failure:
    line = f"TimeoutError: the session has used its {limits.session_cpu_seconds:g} s of CPU time"
    return Failure("TimeoutError", line)


DISHONEST = Failure("ProcessDiedError", "ProcessDiedError: the step broke the sandbox's rules and was ended")
MACHINE_FULL = Failure("MemoryError", "MemoryError: the machine ran out of memory during the step")
TOO_MANY_CALLS = {"error": "this step has called tools too often"}


def limit_of(name: str, limits: Limits) -> Failure | None:
    """The limit that an error of this name, raised in the session itself, stands for."""
    match name:
        case "MemoryError":
            return out_of_memory(limits)
        case "OutputLimitError":
            return printed_too_much(limits)
    return None


def died(status: int | None) -> Failure:
    """What a process's end means when nobody here ended it: exit status, or minus the signal; None: it fell silent."""
    if status is None:
        return DISHONEST
    if status == -signal.SIGKILL:
        return MACHINE_FULL
    return Failure("ProcessDiedError", f"ProcessDiedError: the step ended its own interpreter ({_how(status)})")


def _how(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
