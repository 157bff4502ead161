"""A sandbox's daemon as it is in a pod of the restricted profile: an ordinary user, and no namespaces."""

import asyncio
import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Collection
from dataclasses import asdict
from pathlib import Path

import pyseccomp

import score_distill
from score_distill.sandbox.client import Sandbox, SandboxLost
from score_distill.sandbox.limits import Limits

USER = 65532
_NEWNS, _BIND, _PRIVATE = 0x00020000, 0x1000, 0x44000
_EPERM = 1


@contextlib.asynccontextmanager
async def restricted(limits: Limits, libraries: Collection[str] = ()) -> AsyncIterator[Sandbox]:
    with tempfile.TemporaryDirectory(prefix="restricted-") as folder:
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        for path in (folder, scratch):
            os.chmod(path, 0o711)
            if os.geteuid() == 0:
                os.chown(path, USER, USER)
        given = {"limits": asdict(limits), "libraries": list(libraries), "socket": f"{folder}/socket"}
        daemon = subprocess.Popen(
            [sys.executable, "-m", "tests.sandboxes", json.dumps({**given, "scratch": str(scratch)})],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parent.parent,
        )
        try:
            sandbox = await _connected(f"{folder}/socket", daemon)
            try:
                yield sandbox
            finally:
                await sandbox.close()
        finally:
            daemon.communicate()


async def _connected(path: str, daemon: "subprocess.Popen[bytes]") -> Sandbox:
    async with asyncio.timeout(120):
        while True:
            assert daemon.poll() is None, "the daemon did not start"
            try:
                return await Sandbox.connect(path)
            except SandboxLost:
                await asyncio.sleep(0.05)


def main() -> None:
    """Be the supervisor of such a daemon; its argument is the supervisor's."""
    if os.geteuid() == 0:
        _open_the_way({Path(sys.base_prefix), Path(sys.prefix), Path(score_distill.__file__).parents[1]})
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    libc = ctypes.CDLL(None)
    libc.prctl(38, 1, 0, 0, 0)
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    rules.add_rule(pyseccomp.ERRNO(_EPERM), "unshare")
    rules.load()
    os.chdir("/")
    os.execv(sys.executable, [sys.executable, "-m", "score_distill.sandbox.supervisor", *sys.argv[1:]])


def _open_the_way(folders: Collection[Path]) -> None:
    """Show ``folders`` to every user, at their own paths, in place of a folder above them that is closed to others."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: bytes | None, target: Path, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
        assert libc.mount(source, bytes(target), kind, ctypes.c_ulong(flags), data) == 0, os.strerror(
            ctypes.get_errno()
        )

    assert libc.unshare(_NEWNS) == 0
    mount(None, Path("/"), None, _PRIVATE)
    for up in [up for folder in folders for up in reversed(folder.parents)]:
        below = [folder for folder in folders if up in folder.parents]
        if not up.stat().st_mode & 1:
            held = {folder: os.open(folder, os.O_PATH) for folder in below}
            mount(b"none", up, b"tmpfs", 0, b"mode=755")
            for folder, descriptor in held.items():
                folder.mkdir(parents=True)
                mount(f"/proc/self/fd/{descriptor}".encode(), folder, None, _BIND)
                os.close(descriptor)


if __name__ == "__main__":
    main()
