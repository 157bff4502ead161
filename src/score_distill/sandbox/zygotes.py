"""Starts the zygote for the daemon and judges its confinement before any model code runs in it."""

import asyncio
import subprocess
import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from score_distill.sandbox import confine, seccomp
from score_distill.sandbox.channel import Channel, ChannelClosed
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.session import CONTROL

_START_SECONDS = 120.0
_MESSAGE_BYTES = 1 << 16
_BOOT = "import os, sys; os.dup2({0}, {1}); sys.path[:] = {2}; from score_distill.sandbox.zygote import main; main()"
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.pthread.rseq=0",  # a thread would register by a call that is not allowed
    "MALLOC_ARENA_MAX": "1",  # an arena of each thread would take address space that the session may use
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
}


class Unsafe(Exception):
    """This machine lacks a layer that sessions must be behind, or the zygote could not put it on."""


@dataclass(frozen=True)
class Zygote:
    channel: Channel
    listener: int
    layers: tuple[str, ...]


async def start_zygote(
    limits: Limits, libraries: Collection[str], scratch: Path, allow_missing: Collection[str]
) -> Zygote:
    """A warm, confined zygote; `Unsafe` when a required layer is missing that is not in ``allow_missing``."""
    if unknown := set(allow_missing) - set(confine.REQUIRED):
        raise Unsafe(f"no layer is called {', '.join(sorted(unknown))}; those that are required: {confine.REQUIRED}")
    request = _request(limits, libraries, scratch)
    channel = Channel(_MESSAGE_BYTES, descriptors=1)
    child = subprocess.Popen(
        [sys.executable, "-s", "-P", "-B", "-c", _BOOT.format(channel.theirs.fileno(), CONTROL, sys.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=_ENVIRONMENT,
        pass_fds=[channel.theirs.fileno()],
        process_group=0,
    )
    channel.theirs.close()
    channel.pid = child.pid
    try:
        async with asyncio.timeout(_START_SECONDS):
            await channel.send(request)
            await channel.receive()
            layers = tuple((await channel.receive())["layers"])
    except (ChannelClosed, TimeoutError):
        child.kill()
        raise Unsafe(f"the zygote did not start; it said why, and ended with status {child.wait()}") from None
    if missing := [layer for layer in confine.REQUIRED if layer not in (*layers, *allow_missing)]:
        child.kill()
        child.wait()
        raise Unsafe(
            f"this machine lacks {', '.join(missing)}, and allow_missing does not name it; see docs/security.md"
        )
    child.returncode = 0  # collected by the daemon with all others, not by Popen
    return Zygote(channel, channel.received[0], layers)


def _request(limits: Limits, libraries: Collection[str], scratch: Path) -> dict[str, object]:
    try:
        filters = {"allow": seccomp.allow_list().hex(), "ask": seccomp.ask_list().hex()}
    except OSError as error:
        raise Unsafe(f"the kernel or libseccomp has no seccomp with user notification: {error.strerror}") from None
    return {"limits": asdict(limits), "libraries": list(libraries), "scratch": str(scratch), **filters}
