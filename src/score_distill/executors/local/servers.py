"""Keeping a server of the run up: started early, waited for when a step needs it, restarted with a bound when it dies.

A server is ready when it has answered a real request. Which servers there are is ``fleet.py``; how a process and all
it starts is ended is ``processes.py``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from score_distill.errors import BadInput, Infrastructure
from score_distill.executors.local import processes

POLL_SECONDS = 0.3
STARTS = 3
USAGE = 2  # the exit code of argparse, and so of vLLM, for arguments that it does not take


@dataclass(frozen=True)
class Launch:
    """One start of a server: ``ready`` says whether it has answered a real request.

    ``words`` is the field of the manifest from which its command has words, if it has any.
    """

    command: Sequence[str]
    environ: Mapping[str, str]
    ready: Callable[[], Awaitable[bool]]
    words: str = ""


class Server:
    """``launch`` is asked anew for every start, so that a port that was taken meanwhile is not asked for twice.

    ``state`` is for people: stopped, starting, ready, restarting.
    """

    def __init__(self, name: str, launch: Callable[[], Awaitable[Launch]], *, log: Path, deadline: float) -> None:
        self.name = name
        self.state = "stopped"
        self._launch, self._log, self._deadline = launch, log, deadline
        self._process: processes.Process | None = None
        self._coming: asyncio.Task[None] | None = None
        self._failures = 0
        self._answered = False

    def begin(self) -> None:
        """Start it, unless it is up or coming up; return at once."""
        if self._coming is None:
            self.state = "restarting" if self._failures else "starting"
            self._coming = asyncio.create_task(self._come_up())

    async def ready(self) -> None:
        """Return when it answers, after as many starts as the bound allows; Infrastructure after that.

        BadInput at once when it refuses the words that the manifest has for it.
        """
        while True:
            self.begin()
            assert self._coming is not None
            try:
                await asyncio.shield(self._coming)
            except _Died as death:
                await self._fell(str(death))
                continue
            if self._process is not None and self._process.running:
                self.state, self._answered = "ready", True
                return
            await self._fell("it ended")

    async def death(self) -> str:
        """Return why, when it has died; do not return while it lives."""
        if self._process is None:
            return "it is not running"
        return _said(await self._process.wait())

    @property
    def up(self) -> bool:
        """Whether its process lives; it may not answer yet."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int | None:
        """Of its guard, while there is one."""
        return self._process.pid if self._process else None

    def succeeded(self) -> None:
        """A step has ended well with it: earlier deaths no longer count."""
        self._failures = 0

    async def stop(self) -> None:
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await coming
        process, self._process = self._process, None
        if process is not None:
            await process.stop()
            process.close()
        self.state = "stopped"

    async def _fell(self, why: str) -> None:
        await self.stop()
        self._failures += 1
        if self._failures >= STARTS:
            raise Infrastructure(f"server {self.name}: {why}, {self._failures} times; {self._last_words()}")

    async def _come_up(self) -> None:
        launch = await self._launch()
        self._process = await processes.start(self.name, launch.command, launch.environ, self._log)
        ended = asyncio.create_task(self._process.wait())
        try:
            async with asyncio.timeout(self._deadline):
                while not await launch.ready():
                    await asyncio.wait({ended}, timeout=POLL_SECONDS)
                    if ended.done():
                        raise self._ended(launch, ended.result())
        except TimeoutError as error:
            raise _Died(f"no answer within {self._deadline:.0f} s") from error
        finally:
            ended.cancel()

    def _ended(self, launch: Launch, code: int) -> Exception:
        """What it means that it ended with ``code`` before it was ready."""
        if code != USAGE or self._answered or not launch.words:
            return _Died(_said(code))
        told = f"{launch.words}: server {self.name} refuses its arguments (exit code {code}); mend or remove them"
        return BadInput(f"{told}; {self._last_words()}")

    def _last_words(self) -> str:
        end = "\n".join(f"  {line}" for line in processes.last_lines(self._log, 15))
        return f"the end of {self._log}:\n{end}"


class _Died(Exception):
    pass


def _said(code: int) -> str:
    return f"it was ended by signal {code - 128}" if code > 128 else f"it ended with exit code {code}"
