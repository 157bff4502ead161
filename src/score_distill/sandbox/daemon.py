"""The service: starts the zygote, listens on a Unix socket, and keeps house.

It owns its process and all children of it. What one client may do is in `connection`; here is what concerns all of
them: no process that nobody knows, no state that nobody used for long, no step that takes the machine's last memory.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import socket
import threading
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from score_distill.errors import Infrastructure
from score_distill.sandbox import memory_watch, outcome
from score_distill.sandbox.connection import Connection
from score_distill.sandbox.fair_queue import Turns
from score_distill.sandbox.forks import FORK_SECONDS, Forks
from score_distill.sandbox.holdings import Frozen
from score_distill.sandbox.limits import LIBRARIES, Limits
from score_distill.sandbox.process import children, cpu_seconds, ended, freeze, kill
from score_distill.sandbox.scratch import Scratch
from score_distill.sandbox.steps import Steps
from score_distill.sandbox.zygotes import start_zygote

_log = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4
_THREADS = 4
_WATCH_SECONDS = 0.1
_OWN_DESCRIPTORS, _STEP_DESCRIPTORS = 128, 4  # of the daemon itself, and of a running step besides its state's
_SPARES, _SPARE_DESCRIPTORS = 64, 2  # at most, and of each
_STRAY_SECONDS = 0.5
_BEAT_SECONDS = 1.0
_SPARE_SECONDS = 2.0


class ZygoteLost(Infrastructure):
    """The machine ended the zygote, and without it no session can begin."""


class NoSocket(Infrastructure):
    """The socket cannot be made where it is to be."""


async def serve(
    socket_path: str | os.PathLike[str],
    limits: Limits,
    *,
    scratch: Path,
    libraries: Collection[str] = LIBRARIES,
    allow_missing: Collection[str] = (),
) -> None:
    """Serve until cancelled, or until the zygote dies; the socket appears when it is warm.

    ``scratch`` is a folder of its own; who is in the socket's group may connect. `Unsafe` when the machine lacks a
    layer that is not named in ``allow_missing``.
    """
    os.umask(0o022)
    states, spares = _room(limits)
    limits = replace(limits, states=min(limits.states, states))
    folders = Scratch(scratch.resolve())
    zygote = await start_zygote(limits, libraries, folders.live, allow_missing)
    freeze(zygote.channel.pid)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    steps = Steps(limits, folders, Forks(limits, Frozen(zygote.channel), zygote.listener, spares))
    loop = asyncio.get_running_loop()
    loop.set_default_executor(_threads())
    turns = Turns(limits.running, limits.waiting)
    connections: set[Connection] = set()
    server = await loop.create_unix_server(
        lambda: Connection(steps, turns, connections, zygote.layers), sock=_listener(Path(socket_path))
    )
    async with server:
        await asyncio.gather(
            server.serve_forever(),
            _watch_zygote(zygote.channel.pid),
            _every(_WATCH_SECONDS, _Strays(steps).end),
            _every(_WATCH_SECONDS, partial(_watch_machine, steps)),
            _every(_WATCH_SECONDS, partial(_watch_sessions, steps)),
            _every(_WATCH_SECONDS, partial(_watch_steps, steps)),
            _every(limits.idle_seconds / 4, partial(_drop_idle, connections, limits.idle_seconds)),
            _every(_BEAT_SECONDS, partial(_drop_spares, steps)),
            _every(_BEAT_SECONDS, partial(_beat, connections)),
        )


def _room(limits: Limits) -> tuple[int, int]:
    """How many states the descriptors that this process may have are enough for, one each, and how many spares."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    room = max(1, most - _OWN_DESCRIPTORS - _STEP_DESCRIPTORS * limits.running)
    spares = min(_SPARES, room // (4 * _SPARE_DESCRIPTORS))
    return room - _SPARE_DESCRIPTORS * spares, spares


def _listener(path: Path) -> socket.socket:
    """Of mode 0660 from the first moment; a socket that an earlier daemon left is replaced."""
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)
    try:
        path.unlink(missing_ok=True)
        listener.bind(os.fspath(path))
    except OSError as error:
        raise NoSocket(f"no socket can be made at {path}: {error}; choose another folder, by TMPDIR") from error
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def _threads() -> ThreadPoolExecutor:
    """Threads that have begun, since the machine may not let one begin later."""
    pool = ThreadPoolExecutor(_THREADS)
    together = threading.Barrier(_THREADS)
    for begun in [pool.submit(together.wait) for _ in range(_THREADS)]:
        begun.result()
    return pool


async def _watch_zygote(pid: int) -> None:
    await ended(pid)
    raise ZygoteLost("the machine ended the first interpreter, perhaps for want of memory; start again and retry")


async def _drop_idle(connections: Collection[Connection], idle_seconds: float) -> None:
    for connection in list(connections):
        connection.drop_idle(idle_seconds)


async def _drop_spares(steps: Steps) -> None:
    steps.forks.drop_spares(_SPARE_SECONDS)


async def _beat(connections: Collection[Connection]) -> None:
    for connection in list(connections):
        connection.beat()


class _Strays:
    """Children that were forked but do not say who they are, which takes an honest one no time."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._since: dict[int, float] = {}

    async def end(self) -> None:
        now = asyncio.get_running_loop().time()
        self._since = {pid: self._since.get(pid, now) for pid in children() - self._steps.forks.pids}
        late = {pid for pid, begun in self._since.items() if now - begun > FORK_SECONDS or _is_busy(pid)}
        self._steps.forks.end_strays(late)


def _is_busy(pid: int) -> bool:
    try:
        return cpu_seconds(pid) > _STRAY_SECONDS
    except OSError:
        return False


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do ``work`` again and again; a round that fails is told, once until one succeeds, and the next is tried."""
    failing = False
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
            failing = False
        except Exception as error:
            if not failing:
                _log.exception("the sandbox's watch failed and goes on", exc_info=error)
            failing = True


async def _watch_machine(steps: Steps) -> None:
    """End the spares; then, of the session that holds most beside what all began with, the largest step or state."""
    steps.is_short = memory_watch.is_short()
    if steps.is_short and not steps.forks.drop_spares() and steps.forks.sessions:
        begun_with = memory_watch.held([steps.forks.zygote.channel.pid])
        every = (session.pids for session in steps.forks.sessions)
        pids = max(every, key=lambda pids: memory_watch.held(pids) - begun_with * len(pids))
        if (pid := memory_watch.largest(pids & steps.running)) is not None:
            steps.forks.stop(pid, outcome.MACHINE_FULL)
        elif (pid := memory_watch.largest(pids)) is not None:
            kill(pid)


async def _watch_sessions(steps: Steps) -> None:
    """End the largest step of each session whose processes together hold more than they may."""
    most = steps.limits.session_memory_bytes
    for session in steps.forks.sessions:
        too_large = session.pids & steps.running and await session.needs_more_than(most, steps.running)
        if too_large and (pid := memory_watch.largest(session.pids & steps.running)) is not None:
            steps.forks.stop(pid, outcome.session_too_large(steps.limits))


async def _watch_steps(steps: Steps) -> None:
    """End steps that used their time, or filled their folder.

    RLIMIT_CPU would also count the forks that a state makes after its step.
    """
    for pid in list(steps.running):
        with contextlib.suppress(OSError):
            if failure := steps.excess(pid):
                steps.forks.stop(pid, failure)
