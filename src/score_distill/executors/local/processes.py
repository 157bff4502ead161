"""Starting and ending processes so that nothing outlives the run: each has a supervisor (``process_supervisor.py``).

Output goes to a log file, never to the terminal. By that ``sweep`` finds what a supervisor that was itself killed left
behind: all that a child starts inherits its output, while environments are overwritten (vLLM) and groups left.
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
_GUARD = Path(__file__).with_name("process_supervisor.py")


@dataclass
class Process:
    """A running command. ``wait`` gives its exit code, 128 + n when signal n ended it or its guard."""

    name: str
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
        sweep(self.log)
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
    name: str, command: Sequence[str], environ: Mapping[str, str], log: Path, grace: float = GRACE
) -> Process:
    """Start ``command`` with its output appended to ``log``, which no other process may use at that time."""
    reading, leash = os.pipe()
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            guard = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(_GUARD), str(reading), str(grace), *command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environ,
                pass_fds=(reading,),
                start_new_session=True,
            )
    except BaseException:
        os.close(leash)
        raise
    finally:
        os.close(reading)
    return Process(name, log, guard, leash)


def sweep(log: Path) -> None:
    """Kill every process that writes to ``log``."""
    for pid in writers(log):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def writers(log: Path) -> list[int]:
    """Processes but this one whose output or errors go to ``log``, or to a file below it if it is a folder."""
    log, found = log.resolve(), []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with suppress(OSError):
                outputs = [Path(os.readlink(process / "fd" / number)) for number in "12"]
                if any(output == log or log in output.parents for output in outputs):
                    found.append(int(process.name))
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
