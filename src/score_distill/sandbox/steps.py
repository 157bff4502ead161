"""One step: fork the state before it, let the child execute, freeze the child as the state after it.

Sits between the daemon, which knows clients and branches, and the session processes. A step that hits a limit or loses
its process is undone: the child is ended and there is no state after it.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from score_distill.sandbox import outcome, zygote
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.outcome import Failure
from score_distill.sandbox.process import Channel, Gone, Output, Reaper, cpu_seconds, freeze, is_child, thaw
from score_distill.sandbox.scratch import Scratch, ScratchFull
from score_distill.sandbox.session import CONTROL

_FORK_SECONDS = 10.0
_START_SECONDS = 120.0
_FRAME_BYTES = 1024

Ask = Callable[[str, list[Any], dict[str, Any]], Awaitable[dict[str, Any]]]


class StateLost(Exception):
    """The process that held a state is gone or does not fork any more."""


@dataclass(frozen=True)
class Frozen:
    """A state: the stopped process that holds it, the folder kept beside it, the CPU time along its branch."""

    channel: Channel
    folder: Path | None = None
    cpu: float = 0.0
    forking: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)


@dataclass(frozen=True)
class Step:
    code: str
    tools: Sequence[str] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Ended:
    """What came of a step; ``after`` is None when it was undone."""

    output: str
    answer: str | None = None
    error: str | None = None
    state_hash: str = ""
    after: Frozen | None = None


class Steps:
    """Starts the zygote and runs steps from it and from the states that came of it."""

    def __init__(self, limits: Limits, scratch: Scratch) -> None:
        self.limits = limits
        self._scratch = scratch
        self._reaper = Reaper()
        self._pids: set[int] = set()

    async def start(self, libraries: tuple[str, ...]) -> Frozen:
        """The zygote, warm and confined."""
        channel = Channel(self._frame_bytes)
        child = subprocess.Popen(
            [sys.executable, "-s", "-P", "-B", "-c", _BOOT.format(channel.theirs.fileno(), CONTROL)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
            pass_fds=[channel.theirs.fileno()],
            start_new_session=True,
        )
        channel.theirs.close()
        await channel.send(zygote.request(libraries, self.limits))
        try:
            async with asyncio.timeout(_START_SECONDS):
                await channel.receive()
        except (Gone, TimeoutError):
            child.kill()
            raise RuntimeError(f"the zygote did not start: it ended with status {child.wait()}") from None
        self._pids.add(channel.pid)
        freeze(channel.pid)
        return Frozen(channel)

    @property
    def _frame_bytes(self) -> int:
        return 2 * self.limits.message_bytes + _FRAME_BYTES

    def drop(self, state: Frozen) -> None:
        self._end(state.channel)
        self._scratch.drop(state.folder)

    async def run(self, before: Frozen, step: Step, ask: Ask) -> Ended:
        """Execute ``step`` in a child of ``before``, which stays as it is; ``ask`` answers its calls of tools."""
        output = Output(self.limits.output_bytes)
        folder = self._scratch.enter(before.folder)
        channel = Channel(self._frame_bytes)
        after = None
        try:
            await self._fork(before, channel, output)
            report, failure = await self._execute(channel, step, folder, ask)
            if failure is None:
                freeze(channel.pid)
                with contextlib.suppress(ScratchFull):
                    cpu = before.cpu + cpu_seconds(channel.pid)
                    after = Frozen(channel, self._scratch.keep(folder), cpu)
            failure = failure or _reported(report["done"])
            text = outcome.observation(output.close(), failure, self.limits.observation_chars)
        finally:
            if after is None:
                self._end(channel)
                self._scratch.drop(folder)
        answer = report["done"].get("answer") if after else None
        return Ended(text, answer, failure.name if failure else None, report.get("state", ""), after)

    async def _fork(self, before: Frozen, channel: Channel, output: Output) -> None:
        """Make the child of ``before`` that speaks on ``channel``, and verify that it is one."""
        async with before.forking:
            thaw(before.channel.pid)
            try:
                before.channel.hand_over([channel.theirs.fileno(), output.descriptor])
                channel.theirs.close()
                async with asyncio.timeout(_FORK_SECONDS):
                    await channel.receive()
            except (Gone, TimeoutError):
                raise StateLost("the state is gone; run the task again") from None
            finally:
                freeze(before.channel.pid)
        if channel.pid in self._pids or not is_child(channel.pid):
            raise StateLost("the state answered for another process; run the task again")
        self._pids.add(channel.pid)

    async def _execute(
        self, channel: Channel, step: Step, folder: Path, ask: Ask
    ) -> tuple[dict[str, Any], Failure | None]:
        """Talk with the child until it is done; a failure means that the step is undone."""
        message = {"code": step.code, "tools": list(step.tools), "folder": str(folder), "seed": step.seed}
        try:
            async with asyncio.timeout(self.limits.wall_seconds) as clock:
                await channel.send(message)
                while "done" not in (said := await channel.receive()):
                    left = (clock.when() or 0) - asyncio.get_running_loop().time()
                    clock.reschedule(None)
                    reply = await ask(said["call"], said["args"], said["kwargs"])
                    clock.reschedule(asyncio.get_running_loop().time() + left)
                    await channel.send(reply)
        except TimeoutError:
            return {}, outcome.timed_out(self.limits)
        except Gone:
            return {}, await self._death(channel)
        name = said["done"].get("error")
        if name == "MemoryError":
            return said, outcome.out_of_memory(self.limits)
        if name == "OutputLimitError":
            return said, outcome.printed_too_much(self.limits)
        return said, None

    async def _death(self, channel: Channel) -> Failure:
        self._pids.discard(channel.pid)
        status = await self._reaper.status(channel.pid)
        return outcome.died(status, self.limits)

    def _end(self, channel: Channel) -> None:
        if channel.pid in self._pids:
            self._pids.discard(channel.pid)
            self._reaper.kill(channel.pid)
        channel.close()


_BOOT = "import os; os.dup2({0}, {1}); from score_distill.sandbox.zygote import main; main()"


def _reported(done: dict[str, Any]) -> Failure | None:
    return Failure(outcome.clean(done["error"]), outcome.clean(done["line"])) if "error" in done else None
