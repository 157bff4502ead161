"""A plugin that vLLM loads in each of its processes: asks Linux for the tile registers (AMX) of newer Intel CPUs.

vLLM's attention in bfloat16 uses them without asking wherever the CPU has them, and its first request ends the engine
by an illegal instruction. A permission holds for a process and what it forks, not beyond exec, so it is asked for there
(Documentation/arch/x86/xstate.rst of Linux).
"""

import ctypes
import platform

_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA = 158, 0x1023, 18


def request() -> None:
    """Without effect where there are none."""
    if platform.machine() == "x86_64":
        ctypes.CDLL(None).syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA)
