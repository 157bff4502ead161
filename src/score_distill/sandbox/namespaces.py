"""Namespaces of a session, where the machine allows them: an empty network, and no files but a few read-only folders.

A second wall behind Landlock and the filter, and the only one that hides that a path exists. As root the kernel's
right to mount is used as it is; otherwise a user namespace gives it. A pod under the restricted profile allows neither,
and then there are none: `enter` says so, and the daemon reports it.
"""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_READ_ONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 4, 0x20, 0x1000, 0x4000, 0x40000
_KEPT = 2 | 4 | 8 | 1024 | 2048  # flags of a mount that a copy of it may not lose, numbered alike by statvfs
_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def enter(paths: Iterable[str], mount_point: str) -> bool:
    """Leave the machine's network, IPC and files, but for ``paths`` (read-only); False where that is not allowed.

    The new root is built on ``mount_point``, any folder; what that holds stays reachable if it is among ``paths``.
    """
    user, group = os.geteuid(), os.getegid()
    kinds = _NEWNS | _NEWCGROUP | _NEWUTS | _NEWIPC | _NEWNET
    if _libc.unshare(kinds):
        if user == 0 or _libc.unshare(kinds | _NEWUSER):
            return False
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    try:
        _change_root(sorted(set(paths)), mount_point)
    except PermissionError:
        return False
    return True


def _change_root(paths: list[str], root: str) -> None:
    """Make an empty file system in memory the root, with ``paths`` where they were, and forget the old one."""
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    sources = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in paths]
    _mount("none", root, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    for path, source in sources:
        target = Path(root + path)
        if os.path.isdir(f"/proc/self/fd/{source}"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        kept = os.fstatvfs(source).f_flag & _KEPT
        _mount(f"/proc/self/fd/{source}", str(target), None, _BIND)
        _mount(None, str(target), None, _BIND | _REMOUNT | _READ_ONLY | _NOSUID | kept)
        os.close(source)
    os.chdir(root)
    _checked(_libc.pivot_root(b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", _DETACH), "umount2")
    os.chdir("/")
    _mount(None, "/", None, _BIND | _REMOUNT | _READ_ONLY | _NOSUID | _NODEV)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [part and part.encode() for part in (source, target, kind, data)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _checked(result, f"mount {target}")


def _checked(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
