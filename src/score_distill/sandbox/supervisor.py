"""The process above the daemon: it outlives it just long enough to end whatever the daemon left behind.

Session processes are children of the daemon; when the daemon dies they pass to this process, a child subreaper, which
kills them. It stops the daemon when it is told to by SIGTERM or SIGINT, and, where its standard input is a pipe or a
socket, when that ends or whoever started it does; in a container it is neither. Its one argument is a JSON object with
``limits`` and the arguments of `daemon.serve`.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import select
import signal
import stat
import sys
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    arguments = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    supervisor = os.getpid()
    asked = _asked_to_stop()
    daemon = os.fork()
    if daemon == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        _serve(arguments)
    descriptor = os.pidfd_open(daemon)
    ready, _, _ = select.select([descriptor, asked, *_starter()], [], [])
    with contextlib.suppress(ProcessLookupError):
        os.kill(daemon, signal.SIGKILL)
    _, status = os.waitpid(daemon, 0)
    _end_orphans()
    if asked in ready:
        sys.exit(0)
    sys.exit(abs(os.waitstatus_to_exitcode(status)))


def _asked_to_stop() -> int:
    """A descriptor that can be read once SIGTERM or SIGINT came. PID 1 of a container has no other answer to them."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return read


def _starter() -> list[int]:
    """What tells that whoever started this is gone, or closed standard input; a sibling may hold that open still."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return []
    return [0, os.pidfd_open(os.getppid())] if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else []


def _serve(arguments: dict[str, Any]) -> NoReturn:
    from score_distill.errors import Infrastructure
    from score_distill.sandbox.daemon import serve
    from score_distill.sandbox.limits import Limits
    from score_distill.sandbox.zygotes import Unsafe

    limits = Limits(**arguments.pop("limits"))
    scratch = Path(arguments.pop("scratch"))
    try:
        asyncio.run(serve(arguments.pop("socket"), limits, scratch=scratch, **arguments))
    except (Unsafe, Infrastructure) as error:
        sys.exit(f"sandbox: {error}")
    sys.exit("sandbox: the daemon stopped serving")


def _end_orphans() -> None:
    """Kill children until there are none: those of the daemon are now this process's."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for orphan in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


if __name__ == "__main__":
    main()
