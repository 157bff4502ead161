"""Programs that run as long as whoever started them: each on the leash of the product's own guard."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from score_distill.executors.local import process_supervisor
from score_distill.executors.local.processes import last_lines

GRACE = 5.0


@dataclass
class Daemon:
    """A server program. All that it starts, shims of containers too, ends with it, and with this process."""

    name: str
    log: Path
    _guard: "subprocess.Popen[bytes]" = field(repr=False)
    _leash: int | None = field(repr=False)

    def check(self) -> None:
        if (code := self._guard.poll()) is not None:
            end = "\n".join(last_lines(self.log))
            raise RuntimeError(f"{self.name} ended with {code}; its log ends so:\n{end}")

    def signal(self, number: int) -> None:
        """To the program itself."""
        [program] = psutil.Process(self._guard.pid).children()
        program.send_signal(number)

    def has_ended(self) -> bool:
        return self._guard.poll() is not None

    def stop(self) -> None:
        """Ask it to end, and kill it after the grace."""
        if self._leash is not None:
            with suppress(BrokenPipeError):
                os.write(self._leash, b"t")
            self._guard.wait()
            self.kill()

    def kill(self) -> None:
        if self._leash is not None:
            os.close(self._leash)
            self._leash = None
        self._guard.wait()


def start(command: Sequence[object], log: Path, name: str = "", inside: Sequence[str] = ()) -> Daemon:
    """Start ``command``, through the command ``inside`` if one is given."""
    words = [*inside, *map(str, command)]
    log.parent.mkdir(parents=True, exist_ok=True)
    reading, leash = os.pipe()
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", process_supervisor.__file__, str(reading), str(GRACE), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(reading,),
                start_new_session=True,
            )
    except BaseException:
        os.close(leash)
        raise
    finally:
        os.close(reading)
    return Daemon(name or Path(str(command[0])).name, log, process, leash)


def run(*command: object, inside: Sequence[str] = ()) -> str:
    """Output of a command that must succeed."""
    words = [*inside, *map(str, command)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def free_ports(count: int) -> list[int]:
    with ExitStack() as open_at_once:
        found = [open_at_once.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]
