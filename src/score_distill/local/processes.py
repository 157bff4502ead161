"""Starting and ending processes so that nothing outlives the run: each on the leash of a guard (``guard.py``).

Output goes to a log file, never to the terminal. What a guard that was itself killed left behind carries a mark in
its environment, by which ``sweep`` finds it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GRACE = 10.0
MARK = "SCORE_PROCESS"
_GUARD = Path(__file__).with_name("guard.py")


@dataclass
class Process:
    """A running command. ``wait`` gives its exit code, 128 + n when signal n ended it or its guard."""

    name: str
    mark: str
    log: Path
    _guard: asyncio.subprocess.Process
    _leash: int

    @property
    def running(self) -> bool:
        return self._guard.returncode is None

    @property
    def pid(self) -> int:
        """Of the guard; the command is its child."""
        return self._guard.pid

    async def wait(self) -> int:
        code = await self._guard.wait()
        if code >= 0:
            return code
        sweep(self.mark)
        return 128 - code

    async def stop(self) -> None:
        """Ask it to end, kill it after the grace, and return when it and all below it are gone."""
        with suppress(BrokenPipeError):
            os.write(self._leash, b"t")
        await self.wait()

    def close(self) -> None:
        """Let go of the leash: what still runs is killed at once."""
        os.close(self._leash)


async def start(
    name: str, command: Sequence[str], environ: Mapping[str, str], log: Path, folder: Path, grace: float = GRACE
) -> Process:
    """Start ``command`` with its output appended to ``log``; ``folder`` is the run's work folder."""
    reading, leash = os.pipe()
    mark = f"{folder.resolve()}:{name}"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            guard = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(_GUARD), str(reading), str(grace), *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environ, MARK: mark},
                pass_fds=(reading,),
                start_new_session=True,
            )
    except BaseException:
        os.close(leash)
        raise
    finally:
        os.close(reading)
    return Process(name, mark, log, guard, leash)


def sweep(mark: str) -> list[int]:
    """Kill every process whose mark begins so (``FOLDER:`` for all of a run); returns their ids."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        given = next((one for one in environ if one.startswith(f"{MARK}=".encode())), b"")
        if given.startswith(f"{MARK}={mark}".encode()) and pid != os.getpid():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            found.append(pid)
    return found


def last_lines(log: Path, count: int = 20) -> list[str]:
    """The end of a log, at most 64 KiB of it."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 65536))
            return file.read().decode("utf-8", "replace").splitlines()[-count:]
    except FileNotFoundError:
        return []
