"""How a stage, or a whole run, may end: exit codes, and the errors that carry them. Standard library alone.

Every error of the project that a user may see derives from ``StageError`` and says its exit; the few of Python's own
that mean the same are in ``exit_of``. Anything else is a fault of this program, and keeps its trace.
"""

import errno
from enum import IntEnum


class Exit(IntEnum):
    """How a stage, or a whole run, ended; the executors decide by it what to do next."""

    OK = 0
    BUG = 1
    BAD_INPUT = 2
    INFRASTRUCTURE = 3
    MODEL = 4
    BUSY = 5
    CHANGED = 6
    BUDGET = 7
    INTERRUPTED = 130


EXIT_MEANINGS = {
    Exit.OK: "done",
    Exit.BUG: "a fault of this program; the trace is in the log",
    Exit.BAD_INPUT: "manifest, task file, model or machine is not usable; trying again cannot help",
    Exit.INFRASTRUCTURE: "a server, disk or network failed, more often than is retried; the same command goes on",
    Exit.MODEL: "training diverged or did not fit, or a model never did what is needed",
    Exit.BUSY: "another process works on this run",
    Exit.CHANGED: "the manifest is not the one that this run began with",
    Exit.BUDGET: "the budget is spent; raise it and the same command goes on",
    Exit.INTERRUPTED: "stopped by Ctrl-C or a signal; the same command goes on",
}


class StageError(Exception):
    """An end that a stage or an executor understands; the message is for a person. ``exit`` says the kind."""

    exit = Exit.BUG


class BadInput(StageError):
    exit = Exit.BAD_INPUT


class Infrastructure(StageError):
    exit = Exit.INFRASTRUCTURE


class ModelFailure(StageError):
    exit = Exit.MODEL


class Busy(StageError):
    exit = Exit.BUSY


class BudgetSpent(StageError):
    exit = Exit.BUDGET


class StepFailed(StageError):
    """A step ended in a way that is not tried again; ``exit`` is its own exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.exit = code


def cause_of(error: BaseException) -> str:
    """The name of the error that ``exit_of`` tells of, such as StoreUnreachable."""
    if isinstance(error, BaseExceptionGroup):
        understood = [one for one in error.exceptions if exit_of(one)[0] != Exit.BUG]
        return cause_of((understood or error.exceptions)[0])
    return type(error).__name__


def exit_of(error: BaseException) -> tuple[Exit, str]:
    """The exit code and one message for an error; of a group the first that is understood."""
    if isinstance(error, BaseExceptionGroup):
        ends = [exit_of(one) for one in error.exceptions]
        return next((end for end in ends if end[0] != Exit.BUG), ends[0])
    if isinstance(error, StageError):
        return error.exit, str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Exit.INFRASTRUCTURE, f"{error.filename or 'disk'}: {error.strerror}; make room and start again"
    if isinstance(error, ConnectionError | TimeoutError):
        return Exit.INFRASTRUCTURE, str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return Exit.MODEL, str(error) or "no memory is left; lower packTokens or concurrency"
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED, "stopped"
    return Exit.BUG, f"{type(error).__name__}: {error}"
