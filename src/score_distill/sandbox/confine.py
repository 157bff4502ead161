"""Gives up every right of a session, in the zygote, once: what a fork inherits it cannot take back.

Puts the layers on in the one order in which each is still allowed, and reports which this machine has. The daemon
decides from that report whether to serve. The layers and what each covers are described in `docs/security.md`.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from score_distill.sandbox import landlock, namespaces
from score_distill.sandbox.limits import Limits

REQUIRED = ("unprivileged", "no_new_privs", "landlock", "seccomp")

_PR_SET_PDEATHSIG, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 23, 24, 38, 47
_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_DESCRIPTORS = 32
_NOBODY = 65534
_OOM_FIRST = "1000"
_CPU_SECONDS = 3600  # of a process that outlives the daemon; while that lives, it ends steps far sooner

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Plan:
    """What the daemon asks of the zygote: the two filters, what may be read, and where the steps' folders are."""

    allow_list: bytes
    ask_list: bytes
    scratch: str
    limits: Limits


@dataclass(frozen=True)
class Confined:
    """The layers now on, and the descriptor by which the daemon grants calls."""

    layers: Sequence[str]
    listener: int


def confine(plan: Plan, mounts: Sequence[str], readable: Sequence[str]) -> Confined:
    """Put on every layer there is except the last, `close_filter`, which forbids handing the listener over."""
    mapped = _mapped_bytes()
    layers = ["namespaces"] if namespaces.enter([*mounts, plan.scratch, os.devnull], plan.scratch) else []
    if _drop_privileges():
        layers.append("unprivileged")
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        layers.append("no_new_privs")
    _bound_resources(plan.limits, mapped)
    if landlock.version():
        landlock.restrict([*readable, plan.scratch, os.devnull])
        layers.append("landlock")
    return Confined(layers, _filter(plan.ask_list, _NEW_LISTENER))


def close_filter(plan: Plan) -> None:
    """Put on the allow-list; from here on only what it names can be called."""
    _filter(plan.allow_list, 0)


def first_to_be_killed() -> None:
    """Have the kernel end sessions before anything else when the machine runs out of memory."""
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_FIRST)


def _drop_privileges() -> bool:
    """Be an ordinary user without capabilities, also in name; whether that is so in the end."""
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            _drop_capability_bounds()
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except PermissionError:
            return False
    _drop_capability_bounds()
    _libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    return bool(_libc.capset(header, (ctypes.c_uint32 * 6)()) == 0)


def _drop_capability_bounds() -> None:
    capability = 0
    while _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        capability += 1


def _bound_resources(limits: Limits, mapped: int) -> None:
    bounds = {
        resource.RLIMIT_AS: mapped + limits.memory_bytes,
        resource.RLIMIT_FSIZE: max(limits.file_bytes, limits.output_bytes),
        resource.RLIMIT_NOFILE: _DESCRIPTORS,
        resource.RLIMIT_CPU: _CPU_SECONDS,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 0,
    }
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))


def _mapped_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _filter(program: bytes, flags: int) -> int:
    """Install a compiled filter; the descriptor that the kernel gave for it, if one was asked for."""

    class Program(ctypes.Structure):
        _fields_ = (("count", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    compiled = Program(len(program) // 8, program)
    result = _libc.syscall(_SECCOMP, _SET_MODE_FILTER, flags, ctypes.byref(compiled))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"seccomp with user notification (Linux 5.14): {os.strerror(code)}")
    return int(result)
