"""A leash for one child and all it starts: ``python -I process_supervisor.py LEASH GRACE COMMAND...``.

Standard library alone. LEASH is the reading end of a pipe that the runner holds open. A byte on it asks the child to
end (SIGTERM to its group, SIGKILL after GRACE seconds); its end, also by ``kill -9`` of the runner, kills at once. The
supervisor adopts orphans, so servers' workers in process groups of their own die too. It exits as its child did, or
with 128 + signal.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(arguments: list[str]) -> int:
    leash, grace, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def die_with_guard() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    try:
        started = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, preexec_fn=die_with_guard)
        child = started.pid
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    watch(leash, grace, child)
    code = os.waitstatus_to_exitcode(kill_all()[child])
    return code if code >= 0 else 128 - code


def watch(leash: int, grace: float, child: int) -> None:
    """Return when the child has ended by itself, or must be killed. Orphans that end meanwhile are reaped."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(leash, select.POLLIN)
    deadline: float | None = None
    while True:
        ready = {handle for handle, _ in poll.poll(1000)}
        if ended in ready or (deadline is not None and time.monotonic() > deadline):
            return
        if leash in ready:
            if not os.read(leash, 1):
                return
            deadline = time.monotonic() + grace
            try:
                os.killpg(child, signal.SIGTERM)
            except ProcessLookupError:
                return
        while (orphan := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and orphan.si_pid != child:
            os.waitpid(orphan.si_pid, 0)


def kill_all() -> dict[int, int]:
    """Kill and reap every descendant; the wait status of each by its id."""
    statuses: dict[int, int] = {}
    while pids := descendants(os.getpid()):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        pid, status = os.waitpid(-1, 0)
        statuses[pid] = status
    return statuses


def descendants(root: int) -> list[int]:
    """Processes below ``root``, the dead that nobody has waited for included."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(name))
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
