"""A daemon of one's own: started as a child process, gone with everything it started when the block ends."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import asdict
from pathlib import Path

from score_distill.sandbox.client import Sandbox, SandboxError
from score_distill.sandbox.limits import LIBRARIES, Limits

_PREFIX = "sandbox-"
_IN_USE = "in-use"
_START_SECONDS = 120.0
_POLL_SECONDS = 0.01
_END_SECONDS = 10.0


@contextlib.asynccontextmanager
async def start(
    limits: Limits | None = None, libraries: Collection[str] = LIBRARIES, allow_missing: Collection[str] = ()
) -> AsyncIterator[Sandbox]:
    """A sandbox with its own daemon. ``libraries`` are imported beforehand, and are all besides the standard ones."""
    _clear()
    with _folder() as folder:
        path, scratch = folder / "sandbox.sock", folder / "scratch"
        scratch.mkdir()
        arguments = {
            "limits": asdict(limits or Limits()),
            "socket": str(path),
            "scratch": str(scratch),
            "libraries": list(libraries),
            "allow_missing": list(allow_missing),
        }
        read, write = os.pipe()
        daemon = subprocess.Popen(
            [sys.executable, "-m", "score_distill.sandbox.supervisor", json.dumps(arguments)],
            stdin=read,
            process_group=0,
        )
        os.close(read)
        try:
            await _ready(path, daemon)
            sandbox = await Sandbox.connect(path)
            try:
                yield sandbox
            finally:
                await sandbox.close()
        finally:
            os.close(write)
            await _ended(daemon)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder of one's own, with a file that is locked for as long as whoever made it lives."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, tempfile.NamedTemporaryFile(dir=name) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.link(lock.name, f"{name}/{_IN_USE}")
        os.chmod(name, 0o711)
        yield Path(name)


def _clear() -> None:
    """Remove the folders of those that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), open(folder / _IN_USE) as lock:
            if os.fstat(lock.fileno()).st_uid != os.geteuid():
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for closed in folder.glob("scratch/*"):
                closed.chmod(0o700)
            shutil.rmtree(folder)


async def _ready(path: Path, daemon: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while not _listens(path):
            if daemon.poll() is not None:
                raise SandboxError(
                    f"the sandbox daemon did not start and said why; its exit status is {daemon.returncode}"
                )
            await asyncio.sleep(_POLL_SECONDS)


def _listens(path: Path) -> bool:
    """The socket is in the folder some time before anybody listens on it; why nobody ever does, the daemon says."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


async def _ended(daemon: subprocess.Popen[bytes]) -> None:
    try:
        async with asyncio.timeout(_END_SECONDS):
            while daemon.poll() is None:
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
