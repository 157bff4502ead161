"""How much memory the machine, or the pod, has left, and which step must go when it has too little.

Each session has its own bound; together they may still want more than there is. The kernel would then end whom it
likes, in a pod everybody. So the daemon ends the largest running step first.
"""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_KEPT_FREE = 0.04
_CGROUP = Path("/sys/fs/cgroup")


class _Files(NamedTuple):
    """Where a version of cgroups says what, below the root that a container sees as its own."""

    bound: str
    used: str
    statistics: str
    reclaimable: tuple[str, ...]  # what the kernel gives back before it ends anybody: files it has read, and its own


_V2 = _Files("memory.max", "memory.current", "memory.stat", ("inactive_file", "active_file", "slab_reclaimable"))
_V1 = _Files(
    "memory/memory.limit_in_bytes",
    "memory/memory.usage_in_bytes",
    "memory/memory.stat",
    ("total_inactive_file", "total_active_file"),
)


def is_short(cgroup: Path = _CGROUP) -> bool:
    """Whether less than a twenty-fifth of the memory that may be used is left."""
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":", 1) for line in itertools.islice(file, 3))
    total, left = (int(lines[key].split()[0]) << 10 for key in ("MemTotal", "MemAvailable"))
    for version in (_V2, _V1):
        bound = _number(cgroup / version.bound)
        if bound is not None and bound < total:
            reclaimable = _sum(cgroup / version.statistics, version.reclaimable)
            total, left = bound, min(left, bound - (_number(cgroup / version.used) or 0) + reclaimable)
    return left < total * _KEPT_FREE


def largest(pids: Iterable[int]) -> int | None:
    """The process that holds the most memory."""
    return max(pids, key=_resident, default=None)


def held(pids: Iterable[int]) -> int:
    """Bytes that processes hold at most: what they share with each other counts for each."""
    return sum(map(_resident, pids))


def held_together(pids: Iterable[int]) -> int:
    """Bytes that processes hold: what several share counts once. The kernel walks their memory for it."""
    return sum(map(_proportional, pids))


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            _, resident, shared = file.read().split()[:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _number(path: Path) -> int | None:
    """A bound of a cgroup; None where there is no such bound."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _sum(path: Path, names: tuple[str, ...]) -> int:
    """Bytes that the statistics of a cgroup give for ``names``."""
    try:
        lines = dict(line.split() for line in path.read_text().splitlines())
    except OSError:
        return 0
    return sum(int(lines.get(name, 0)) for name in names)
