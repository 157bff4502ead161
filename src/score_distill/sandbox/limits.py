"""How much of everything model-written code may use.

One frozen value travels from the manifest to the daemon and from there to the kernel. Each bound is per step unless
its comment says otherwise. What happens at a bound is decided in `outcome`; how it is enforced, in `confine`.
"""

from dataclasses import dataclass, fields
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the zygote has no use for it, and every fork would copy it
    from score_distill.api import Agent

MIB = 1 << 20
LIBRARIES = ("numpy", "sympy")  # what code can import besides the standard library, where installed


@dataclass(frozen=True)
class Limits:
    wall_seconds: float = 10.0  # beside CPU time; waiting for a tool or for a core does not count
    cpu_seconds: int = 10  # the limit that counts
    session_cpu_seconds: float = 300.0  # along the steps of one branch
    tool_seconds: float = 60.0  # one call of a tool
    tool_calls: int = 64
    memory_bytes: int = 256 * MIB  # of one branch, beyond what the zygote holds
    session_memory_bytes: int = 1024 * MIB  # of all states of one session and the steps that run from them
    code_bytes: int = MIB
    report_bytes: int = 1 << 14  # what a step says at once: its answer, or a tool's arguments
    message_bytes: int = 4 * MIB  # a tool's reply
    output_bytes: int = MIB  # printing more than this ends the step
    observation_chars: int = 4096  # what the model sees of it; the middle is cut
    file_bytes: int = 4 * MIB  # one file of the scratch folder
    files: int = 256  # entries of the scratch folder, and calls that change it
    scratch_bytes: int = 16 * MIB  # the scratch folder of one branch
    session_scratch_bytes: int = 256 * MIB  # the scratch folders of all states of one session
    kept_bytes: int = 4096 * MIB  # the scratch folders of all states of the whole daemon
    running: int = 64  # steps at once, of the whole daemon
    waiting: int = 4096  # steps in the queue, of the whole daemon
    states: int = 20_000  # frozen states, of the whole daemon
    idle_seconds: float = 3600.0  # a state nobody ran from for this long is dropped

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = _BOUNDS[field.name]
            if not low <= value <= high:
                raise ValueError(f"limits: {field.name} is {value}, must be from {low} to {high}")


_BOUNDS: dict[str, tuple[float, float]] = {
    "wall_seconds": (0.05, 3600),
    "cpu_seconds": (1, 3600),
    "session_cpu_seconds": (1, 86_400),
    "tool_seconds": (0.05, 3600),
    "tool_calls": (0, 100_000),
    "memory_bytes": (16 * MIB, 1 << 40),
    "session_memory_bytes": (16 * MIB, 1 << 40),
    "code_bytes": (1, 16 * MIB),
    "report_bytes": (1 << 14, MIB),
    "message_bytes": (1024, 64 * MIB),
    "output_bytes": (1024, 64 * MIB),
    "observation_chars": (128, 10 * MIB),
    "file_bytes": (4096, 1 << 40),
    "files": (0, 100_000),
    "scratch_bytes": (0, 1 << 40),
    "session_scratch_bytes": (0, 1 << 40),
    "kept_bytes": (MIB, 1 << 40),
    "running": (1, 4096),
    "waiting": (1, 1_000_000),
    "states": (1, 1_000_000),
    "idle_seconds": (1, 86_400),
}


def limits_of(agent: "Agent", cores: int) -> Limits:
    """What the manifest says of one step's code, as the sandbox takes it.

    More steps at once than the cores can run would only wait for each other, and time out while they do.
    """
    return Limits(
        running=max(8, 4 * cores),
        wall_seconds=agent.step_seconds,
        cpu_seconds=ceil(agent.step_seconds),
        memory_bytes=agent.memory_mib * MIB,
        session_memory_bytes=4 * agent.memory_mib * MIB,
        observation_chars=max(128, agent.observation_chars),
    )
