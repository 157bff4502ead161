"""How a stage, or a whole run, may end: exit codes, and the errors behind them. Standard library alone."""

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
    """An end that a stage or the runner understands; the message is one line for a person. ``exit`` says the kind."""

    exit = Exit.BUG


class BadInput(StageError):
    exit = Exit.BAD_INPUT


class Infrastructure(StageError):
    exit = Exit.INFRASTRUCTURE


class ModelFailure(StageError):
    exit = Exit.MODEL


class BudgetSpent(StageError):
    exit = Exit.BUDGET
