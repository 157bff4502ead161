"""Inside a session: a frozen interpreter state that forks on request, and the step its child then executes.

Runs in every session process, so nothing here can be trusted once model code has run: the daemon learns who speaks
from the kernel, and what is said is bytes to validate. The loop is flat, so many steps are not many frames: wait for a
fork, be the child, execute, report, wait again. A state that nobody will go back to executes the step itself. The fork
is a plain clone that makes the child a child of the daemon and runs no at-fork hook, because one of those (of
``random``) changes the state.
"""

import array
import builtins
import ctypes
import json
import os
import platform
import signal
import socket
import struct
import sys
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from score_distill.sandbox import chance, errors, threads
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.outcome import shorten
from score_distill.sandbox.places import PLACE, Places
from score_distill.sandbox.state import digest
from score_distill.sandbox.streams import STDOUT, Streams, answer_nothing
from score_distill.sandbox.wire import WireError, check_depth

CONTROL = 3
APART = 4  # in the first process of a session, until it is set apart
FORK_FLAGS = 0x8000 | signal.SIGCHLD  # CLONE_PARENT: a child of the daemon
PR_SET_PDEATHSIG = 1
TOKEN = struct.Struct("=Q")
ITSELF = 0  # in a token's place: no child, but the state itself is to execute the step

_LINE_CHARS = 2048  # of an error, so that its report is never too long
_HEADER = struct.Struct(">I")
_CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]
_LANDLOCK_RESTRICT_SELF = 446
_LIBC = ctypes.PyDLL(None, use_errno=True)
_NO_TIME = (ctypes.c_long * 4)()


class ToolError(Exception):
    """A tool refused the call."""

    __module__ = "builtins"  # so that the model reads the name alone


class Session:
    """One interpreter state; every forked child carries its own copy of this object on."""

    def __init__(self, daemon: int, limits: Limits, places: Places) -> None:
        self._daemon = daemon
        self._report_bytes = limits.report_bytes
        self._line_chars = min(_LINE_CHARS, limits.observation_chars // 2)
        self._tools: list[str] = []
        self._speaking = threading.Lock()
        self._steps = 0
        self._is_asked = False
        self._streams = Streams()
        self._places = places
        answer_nothing()
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        self._namespace = main.__dict__
        self._namespace["__file__"] = f"{PLACE}/main.py"
        builtins.final_answer_print = self._answer  # type: ignore[attr-defined]

    def live(self) -> NoReturn:
        """Be a frozen state until asked to fork; the child executes a step and is then a state itself."""
        while True:
            _wait_for_fork()
            if os.getppid() != self._daemon:
                os._exit(0)
            step = receive()
            if step["apart"]:
                _set_apart()
            _carry(step["files"])
            self._is_asked = step["digest"]
            self._finish(self._execute(step))

    def _execute(self, step: Mapping[str, Any]) -> dict[str, Any]:
        """Run one step in its folder, with its output and its tools; the first step of a session also has a seed."""
        self._places.enter(step["folder"])
        self._streams.begin()
        self._bind(step["tools"])
        if (seed := step.get("seed")) is not None:
            chance.begin(seed)
        self._steps += 1
        self._code, self._source = step["code"], errors.remember(step["code"], self._steps)
        try:
            exec(compile(self._code, self._source, "exec", dont_inherit=True), self._namespace)
        except SystemExit as end:
            return self._ended(end)
        except BaseException as error:
            return self._failure(error)
        return {"done": True}

    def _ended(self, end: SystemExit) -> dict[str, Any]:
        """Leaving is no error; what it was left with is told, a message as the interpreter does."""
        try:
            if end.code:
                self._streams.complain(f"SystemExit: {end.code:d}" if isinstance(end.code, int) else str(end.code))
        except BaseException as error:
            return self._failure(error)
        return {"done": True}

    def _bind(self, names: list[str]) -> None:
        for name in self._tools:
            vars(builtins).pop(name, None)
        for name in names:
            setattr(builtins, name, self._tool(name))
        self._tools = names

    def _tool(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            message = {"call": name, "args": args, "kwargs": kwargs}
            body = _encode(message)
            try:
                check_depth(message)
            except WireError as error:
                raise ValueError(f"{name}() was given what is {error}") from None
            if len(body) > self._report_bytes:
                raise ValueError(f"{name}() was given {len(body)} bytes; at most {self._report_bytes} are allowed")
            with self._speaking:
                _write(packed(body))
                reply = receive()
            if "error" in reply:
                raise ToolError(reply["error"])
            return reply["value"]

        call.__name__ = call.__qualname__ = name
        return call

    def _answer(self, answer: object) -> NoReturn:
        """Print ``answer``, report it, and be the next state on the spot: the rest of the step does not run."""
        if not threads.is_main():
            raise RuntimeError("final_answer_print() can be called in the main thread alone")
        report = {"answer": str(answer)}
        if (size := len(_encode(report))) > self._report_bytes:
            raise ValueError(f"the answer has {size} bytes; at most {self._report_bytes} are allowed")
        self._streams.print(report["answer"])
        self._finish(report)
        self.live()

    def _finish(self, report: dict[str, Any]) -> None:
        """Report the end of the step, and then, if asked, in time that is not the step's, what state it left."""
        _disarm()
        try:
            threads.end_all()
            self._streams.flush()
        except Exception as error:
            report = self._failure(error)
        self._streams.let_go()
        self._places.leave()
        send(report)
        if self._is_asked:
            send({"state": digest(self._namespace, here=self._places.here)})

    def _failure(self, error: BaseException) -> dict[str, Any]:
        text = errors.described(error, self._code, self._source)
        return {"error": type(error).__name__, "line": shorten(text, self._line_chars)}


def _disarm() -> None:
    """Stop the timers that the step set: a fork would not inherit them, and the state must not die of them."""
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        _LIBC.setitimer(timer, _NO_TIME, None)


def _wait_for_fork() -> None:
    """Return in a child of this process, or in this one when the step is to be its own.

    A child's first word to the daemon, by which it gets a channel and an output of its own, is that it dies with it.
    """
    while True:
        token = _read(TOKEN.size)
        if TOKEN.unpack(token) == (ITSELF,):
            (output,) = _receive_descriptors()
            os.dup2(output, STDOUT)
            os.close(output)
            return
        pid = _LIBC.syscall(_CLONE, FORK_FLAGS, 0, 0, 0, 0)
        if pid < 0:
            send({"refused": ctypes.get_errno()})
        elif pid == 0:
            if _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, ctypes.c_ulong(*TOKEN.unpack(token)), 0, 0):
                os._exit(1)
            return


def _set_apart() -> None:
    """Be out of the sight of all that does not come of this process."""
    if _LIBC.syscall(_LANDLOCK_RESTRICT_SELF, APART, 0):
        os._exit(1)
    os.close(APART)


def _carry(numbers: list[int]) -> None:
    """Put the files that the state before had open in their places, opened anew in this step's folder.

    Those that were inherited go first, so that both never count at once. What then comes takes the lowest numbers that
    are free, in order, so none comes above its place, and from the top down each place is free when its turn comes.
    """
    if not numbers:
        return
    for number in numbers:
        os.close(number)
    for number, descriptor in zip(reversed(numbers), reversed(_receive_descriptors()), strict=True):
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)
    send({"carried": 1})
    receive()


def _receive_descriptors() -> "array.array[int]":
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, CONTROL)
    try:
        _, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(32 * 4))
    finally:
        control.detach()
    return array.array("i", b"".join(part for _, _, part in ancillary))


def _plain(value: Any) -> Any:
    """What JSON can carry of a set, an array or a NumPy number."""
    if isinstance(value, set | frozenset | range):
        return list(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a tool takes numbers, text, lists and dicts, not {type(value).__name__}")


_encoder = json.JSONEncoder(default=_plain, ensure_ascii=False)


def _encode(message: Mapping[str, Any]) -> bytes:
    return _encoder.encode(message).encode("utf-8", "surrogatepass")


def packed(body: bytes) -> bytes:
    return _HEADER.pack(len(body)) + body


def send(message: Mapping[str, Any]) -> None:
    _write(packed(_encode(message)))


def _write(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(CONTROL, left) :]


def receive() -> Any:
    (size,) = _HEADER.unpack(_read(_HEADER.size))
    return json.loads(_read(size))


def _read(size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = os.read(CONTROL, size - len(data))
        if not part:
            os._exit(0)
        data += part
    return bytes(data)
