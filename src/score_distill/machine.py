"""What this machine has, and what follows for the processes of a run. Detecting is one function, the rest is pure."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FEW_CORES = 8


@dataclass(frozen=True)
class Machine:
    cores: int
    memory_gib: float
    gpus: int

    @property
    def cache_gib(self) -> int:
        """Memory of a server's key-value cache where there is no GPU: a sixteenth, at least 1 GiB."""
        return max(1, int(self.memory_gib / 16))


def detect() -> Machine:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = sum(1 for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit())
    return Machine(len(os.sched_getaffinity(0)), memory, gpus)


def settings(machine: Machine) -> dict[str, str]:
    """Environment of every process of a run, unless the user set it otherwise.

    Several processes share few cores here; two OpenMP threads each were 2 to 5 times slower than one.
    """
    threads = (
        {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if not machine.gpus and machine.cores <= FEW_CORES else {}
    )
    return {**threads, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def environment(given: Mapping[str, str], machine: Machine) -> dict[str, str]:
    return {**settings(machine), **given}


def bare_environment(given: Mapping[str, str]) -> dict[str, str]:
    """What a process may know that runs a model's code: where programs are, and nothing of the user."""
    kept = {name: given[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in given}
    return {"PYTHONUNBUFFERED": "1", **kept}
