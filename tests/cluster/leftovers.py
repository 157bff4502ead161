"""What a node leaves on a machine, also if all that would have ended it was killed: processes, mounts, groups."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.cluster import network
from tests.cluster.settings import CGROUP
from tests.cluster.waiting import eventually

from score_distill.executors.local.processes import sweep

_GROUPS = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """One with version 2 of control groups, else one for each controller."""
    if (_GROUPS / "cgroup.controllers").exists():
        return [_GROUPS]
    return [path for path in _GROUPS.iterdir() if path.is_dir() and not path.is_symlink() and path.name != "unified"]


def make_group(node: str) -> None:
    """The group of all pods of a node, which its kubelet wants to find in every hierarchy."""
    for hierarchy in hierarchies():
        for parent, group in ((hierarchy, hierarchy / CGROUP), (hierarchy / CGROUP, hierarchy / CGROUP / node)):
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if hierarchy != _GROUPS and (parent / name).exists():
                    (group / name).write_text((parent / name).read_text())
            if hierarchy == _GROUPS:
                controllers = (parent / "cgroup.controllers").read_text().split()
                (parent / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def clear(folder: Path, place: Path) -> None:
    """Take away all that is left of a cluster with state in ``folder`` and its sockets in ``place``."""
    sweep(folder / "log")
    eventually(lambda: _end({*_in_groups(), *_shims(place)}), within=30, every=0.1)
    for path in reversed(_mounts(folder)):
        subprocess.run(["umount", "--lazy", path], check=False)
    _remove_groups()
    network.down()
    if still := _mounts(folder):
        raise RuntimeError(f"cannot remove {folder}: still mounted there: {', '.join(still)}")
    shutil.rmtree(folder, ignore_errors=True)
    for socket in place.glob("*.sock*"):
        socket.unlink()


def _end(pids: set[int]) -> None:
    """Return if there are none, else kill them and raise."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not pids, f"processes of the cluster do not end: {sorted(pids)}"


def _in_groups() -> list[int]:
    found: list[int] = []
    for hierarchy in hierarchies():
        for path in (hierarchy / CGROUP).rglob("cgroup.procs"):
            with suppress(OSError):
                found += map(int, path.read_text().split())
    return found


def _shims(place: Path) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with suppress(OSError):
                words = (path / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"containerd-shim-runc-v2") and any(
                    word.startswith(f"{place}/".encode()) for word in words
                ):
                    found.append(int(path.name))
    return found


def _mounts(folder: Path) -> list[str]:
    """Mount points below ``folder``, oldest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    plain = [point.encode().decode("unicode_escape") for point in points]
    return [point for point in plain if Path(folder) in Path(point).parents]


def _remove_groups() -> None:
    for hierarchy in [*hierarchies(), _GROUPS / "unified"]:  # where runc makes them too
        groups = [path for path in (hierarchy / CGROUP).rglob("*") if path.is_dir()]
        for group in [*sorted(groups, reverse=True), hierarchy / CGROUP]:
            eventually(partial(_remove, group), within=10, every=0.1)


def _remove(group: Path) -> None:
    """It is busy for a moment after its last process."""
    with suppress(FileNotFoundError):
        group.rmdir()
