"""What a session process may not do, put on the zygote once and inherited by every fork.

Each layer says whether this kernel has it. `confine` puts on all that are there; the daemon refuses to start when a
required one is missing, unless told that it may be.
"""

import ctypes
import os
import resource

from score_distill.sandbox.limits import Limits

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS = 38


def no_new_privileges() -> None:
    """No file that is executed can give rights: not by setuid, not by file capabilities."""
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")


def bound_resources(limits: Limits) -> None:
    """The kernel's own limits on each process: CPU time, address space, file size, descriptors, no core."""
    bounds = {
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_AS: _mapped_bytes() + limits.memory_bytes,
        resource.RLIMIT_FSIZE: max(limits.file_bytes, limits.output_bytes),
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))


def _mapped_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def close_descriptors(keep: int) -> None:
    """Leave 0, 1, 2 and ``keep`` open, nothing else."""
    os.closerange(3, keep)
    os.closerange(keep + 1, 1 << 20)
