"""Standard streams of a session: both outputs are the step's one output, in order; of input there is nothing."""

import builtins
import io
import os
import sys
from typing import Any

NOTHING, STDOUT, STDERR = 0, 1, 2
_NO_INPUT = "there is no input: nobody answers while a step runs"


class OutputLimitError(Exception):
    """The step printed more than it may."""

    __module__ = "builtins"  # so that the model reads the name alone


class Streams:
    """The streams that each step finds in place, the same ones unless a step before has closed them."""

    def __init__(self) -> None:
        self._out, self._err = _Output(STDOUT), _Output(STDERR)

    def begin(self) -> None:
        os.dup2(STDOUT, STDERR)
        self._out = sys.stdout = sys.__stdout__ = self._out.as_new()  # type: ignore[misc]
        self._err = sys.stderr = sys.__stderr__ = self._err.as_new()  # type: ignore[misc]
        sys.stdin = sys.__stdin__ = _Input(NOTHING)  # type: ignore[misc]

    def print(self, text: str) -> None:
        print(text, file=self._out)

    def complain(self, text: str) -> None:
        print(text, file=self._err)

    def flush(self) -> None:
        for stream in (self._out, self._err):
            if not stream.closed:
                stream.flush()

    def let_go(self) -> None:
        for number in (STDOUT, STDERR):
            try:
                os.dup2(NOTHING, number)
            except OSError:
                os.close(number)


class _Output(io.TextIOWrapper):
    """A file of fixed size, so that a flood costs nobody else."""

    def __init__(self, number: int) -> None:
        raw = _Bounded(number, "wb", closefd=False)
        super().__init__(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)
        self._number = number

    def as_new(self) -> "_Output":
        """This stream as it was made, or where it has been closed another."""
        try:
            self.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=False)
        except ValueError:
            return _Output(self._number)
        return self


class _Bounded(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except PermissionError:
            raise OutputLimitError("the step printed too much") from None


class _Input(io.TextIOWrapper):
    def __init__(self, number: int) -> None:
        super().__init__(io.BufferedReader(io.FileIO(number, closefd=False)), "utf-8")


_read_line = builtins.input


def _input(prompt: object = "", /) -> str:
    try:
        return _read_line(prompt)
    except EOFError:
        raise EOFError(_NO_INPUT) if isinstance(sys.stdin, _Input) else EOFError from None


_input.__name__ = _input.__qualname__ = "input"
_input.__module__ = "builtins"


def answer_nothing() -> None:
    """Have ``input`` say that nobody answers."""
    builtins.input = _input
