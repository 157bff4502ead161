"""Landlock: which files a session may open, from the kernel's own interface (linux/landlock.h).

Takes away every right over files that this kernel knows, then gives back reading below the folders of libraries and of
running steps; what a step writes, the daemon writes for it (`files`). Where the kernel can, it also takes TCP, signals
to processes outside, and abstract Unix sockets. It does not see ``stat``, ``readlink`` or ``chdir``: that a path exists
stays visible. What has been restricted can look, through ``/proc``, only at processes that have been restricted with it
or since: so each session restricts itself once more, by a `domain` that takes nothing else away.
"""

import ctypes
import os
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

EXECUTE, READ_FILE, READ_DIR = 1, 1 << 2, 1 << 3
_LAST_RIGHT = {1: 1 << 12, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}  # the highest right of each version that added one
_TCP = 3  # bind, connect
_SCOPES = 3  # abstract Unix sockets, signals

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """The version of the interface that this kernel has; 0 for none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _VERSION)))


def handled(abi: int) -> int:
    """Every right over files that a kernel of version ``abi`` can take away."""
    return 2 * max(right for since, right in _LAST_RIGHT.items() if since <= abi) - 1


def restrict(readable: Iterable[str]) -> None:
    """Leave this process, for good, only reading of files and folders below ``readable``."""
    abi = version()
    ruleset = _create(_Ruleset(handled(abi), _TCP if abi >= 4 else 0, _SCOPES if abi >= 6 else 0))
    try:
        for path in readable:
            _allow(ruleset, path)
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def domain() -> int | None:
    """A descriptor by which what is restricted already is set apart from all others; None where there is no Landlock.

    It takes away executing files, which `restrict` did before.
    """
    return _create(_Ruleset(EXECUTE, 0, 0)) if version() else None


def _create(rules: _Ruleset) -> int:
    abi = version()
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    return _checked(_libc.syscall(_CREATE_RULESET, ctypes.byref(rules), size, 0), "landlock_create_ruleset")


def _allow(ruleset: int, path: str) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(READ_FILE | READ_DIR if os.path.isdir(path) else READ_FILE, place)
        _checked(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0), f"landlock_add_rule {path}")
    finally:
        os.close(place)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result
