"""One step: fork the state before it, let the child execute, freeze the child as the state after it.

Sits between the daemon, which knows clients and branches, and the session processes. A step that hits a limit, breaks a
rule or loses its process is undone: the child is ended and there is no state after it.
"""

import asyncio
import collections
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from score_distill.sandbox import descriptors, outcome, reports
from score_distill.sandbox.channel import ChannelClosed
from score_distill.sandbox.clock import Clock
from score_distill.sandbox.descriptors import ForbiddenDescriptor, Identity, OpenFile
from score_distill.sandbox.files import Folder, usage
from score_distill.sandbox.forks import SHORTAGES, Fork, Forks
from score_distill.sandbox.holdings import Ended, Frozen, Session, Step
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.outcome import Failure, StepRejected
from score_distill.sandbox.process import cpu_seconds, freeze, threads_of
from score_distill.sandbox.scratch import Scratch
from score_distill.sandbox.streams import STDOUT
from score_distill.sandbox.wire import WireError

_THREAD_SECONDS, _THREAD_TRIES = 0.002, 50
_QUIET_SECONDS = 0.004  # after a step, before anything is made beforehand
_EXPECTED = 64  # states at most that are prepared for, the latest
_DIGEST_SECONDS = 10.0  # far more than an honest session takes before it gives up

Ask = Callable[[reports.Call], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class _Child(Fork):
    """A fork in which a step runs."""

    folder: Path
    cpu_before: float  # of the process, in seconds

    @property
    def pid(self) -> int:
        return self.channel.pid


class Steps:
    """Runs steps from the zygote and from the states that came of it."""

    def __init__(self, limits: Limits, scratch: Scratch, forks: Forks) -> None:
        self.limits = limits
        self.forks = forks
        self.running: set[int] = set()
        self.kept_bytes = 0
        self.is_short = False  # of memory: then nothing is made beforehand
        self._clocks: dict[int, Clock] = {}
        self._scratch = scratch
        self._grants = forks.grants
        self._folders = forks.grants.folders
        self._lines: collections.deque[Frozen] = collections.deque(maxlen=_EXPECTED)
        self._preparing: asyncio.Task[None] | None = None

    def open(self) -> Frozen:
        """The state that a new session begins from."""
        return replace(self.forks.zygote, session=Session())

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another state."""
        return (
            len(self.forks.pids) - self.forks.spares >= self.limits.states or self.kept_bytes >= self.limits.kept_bytes
        )

    async def run(self, before: Frozen, step: Step, ask: Ask) -> Ended:
        """Execute ``step`` in a child of ``before``, which stays as it is; ``ask`` answers its calls of tools."""
        if before.cpu >= self.limits.session_cpu_seconds:
            return self._nothing(outcome.session_over(self.limits))
        if len(step.code.encode("utf-8", "surrogatepass")) > self.limits.code_bytes:
            return self._nothing(outcome.too_much_code(self.limits))
        try:
            child = await (self._enter(before) if step.keep or self.forks.is_zygote(before) else self._go_on(before))
        except StepRejected as undone:
            return self._nothing(undone.failure)
        after = None
        try:
            done = await self._execute(child, before, step, ask)
            state_hash = await self._digest(child) if step.digest else None
            await self._let_threads_end(child.pid)
            del self._clocks[child.pid]
            freeze(child.pid)
            if child.pid in self._grants.threaded and threads_of(child.pid) > 1:
                raise StepRejected(outcome.left_open("a thread; have it end, and join it, before the step ends"))
            await self._check_memory(before.session)
            after = await self._keep(child, before)
        except StepRejected as undone:
            done, state_hash = reports.Done(None, undone.failure), ""
        finally:
            printed = child.output.read()
            child.output.close()
            self._forget(child.pid)
            if after is None:
                self.forks.end(child.channel)
                self._scratch.drop(child.folder)
        self._expect(before, after if step.keep and done.answer is None else None)
        text = outcome.observation(printed, done.failure, self.limits.observation_chars)
        return Ended(text, done.answer, done.failure.name if done.failure else None, state_hash, after)

    def _nothing(self, failure: Failure) -> Ended:
        """The end of a step that did not begin."""
        return Ended(outcome.observation(b"", failure, self.limits.observation_chars), None, failure.name, "", None)

    def drop(self, state: Frozen) -> None:
        self._account(state.session, -state.kept_bytes)
        self.forks.drop(state)
        self._scratch.drop(state.folder)

    def excess(self, pid: int) -> Failure | None:
        """What a running step is to be stopped for: its time, or more in its folder than that may hold."""
        clock, folder = self._clocks.get(pid), self._folders.get(pid)
        if clock and (failure := clock.over()):
            return failure
        overfull = folder is not None and folder.size > self.limits.scratch_bytes + self.limits.file_bytes
        return outcome.folder_full(self.limits) if overfull else None

    def _expect(self, before: Frozen, after: Frozen | None) -> None:
        """Prepare for the next step of a line, and for the next session, if neither comes at once."""
        if self.forks.is_zygote(before):
            self._lines.append(self.forks.zygote)
        if after and self.forks.is_last_of_line(before):
            self._lines.append(after)
        if not self._preparing:
            self._preparing = asyncio.ensure_future(self._prepare())

    async def _prepare(self) -> None:
        try:
            await asyncio.sleep(_QUIET_SECONDS)
            while self._lines and not self.running and not self.is_short:
                await self.forks.prepare(self._lines.pop())
        finally:
            self._preparing = None

    async def _enter(self, before: Frozen) -> _Child:
        """A child of ``before`` with a folder of its own."""
        folder = await self._scratch.enter(before.folder)
        try:
            fork = await self.forks.of(before)
        except BaseException:
            self._scratch.drop(folder)
            raise
        return self._entered(fork, folder)

    async def _go_on(self, state: Frozen) -> _Child:
        """The process of a state that nobody goes back to, with the folder that it has."""
        folder = self._scratch.again(state.folder)
        self._account(state.session, -state.kept_bytes)
        try:
            fork = await self.forks.itself(state)
        except BaseException:
            self.forks.end(state.channel)
            self._scratch.drop(folder)
            raise
        return self._entered(fork, folder)

    def _entered(self, fork: Fork, folder: Path) -> _Child:
        child = _Child(fork.channel, fork.output, folder, cpu_seconds(fork.channel.pid))
        self.running.add(child.pid)
        self._folders[child.pid] = Folder(folder, self.limits)
        return child

    async def _execute(self, child: _Child, before: Frozen, step: Step, ask: Ask) -> reports.Done:
        """Talk with the child until it reports the end of its step; `StepRejected` when there is no such end."""
        limits, calls = self.limits, 0
        late, busy = outcome.timed_out(limits), outcome.out_of_cpu(limits)
        self._clocks[child.pid] = clock = Clock(child.pid, limits.wall_seconds, limits.cpu_seconds, late, busy)
        try:
            await self._begin(child, before, step)
            self._grants.stepping.add(child.pid)
            while isinstance(said := reports.parse(await child.channel.receive(), step.tools), reports.Call):
                clock.pause()
                calls += 1
                reply = await ask(said) if calls <= limits.tool_calls else outcome.TOO_MANY_CALLS
                clock.resume()
                await child.channel.send(reply)
        except WireError:
            raise StepRejected(outcome.DISHONEST) from None
        except ChannelClosed:
            raise StepRejected(await self.forks.death(child.pid)) from None
        finally:
            self._grants.stepping.discard(child.pid)
        if said.failure and (limit := outcome.limit_of(said.failure.name, self.limits)):
            raise StepRejected(limit)
        return said

    async def _digest(self, child: _Child) -> str | None:
        """What the child says of the state that its step left; the time that this takes is not the step's."""
        slow = outcome.unreadable_state()
        self._clocks[child.pid] = Clock(child.pid, _DIGEST_SECONDS, _DIGEST_SECONDS, slow, slow)
        try:
            return reports.parse_state(await child.channel.receive())
        except WireError:
            raise StepRejected(outcome.DISHONEST) from None
        except ChannelClosed:
            raise StepRejected(await self.forks.death(child.pid)) from None

    async def _let_threads_end(self, pid: int) -> None:
        """A thread that was joined takes a moment more until the kernel has ended it."""
        for _ in range(_THREAD_TRIES if pid in self._grants.threaded else 0):
            if threads_of(pid) == 1:
                return
            await asyncio.sleep(_THREAD_SECONDS)

    async def _begin(self, child: _Child, before: Frozen, step: Step) -> None:
        """Send the step; where the state before had files open, carry them over first and see that nothing else is."""
        files = () if child.channel is before.channel else before.files
        numbers = [file.number for file in files]
        apart = self.forks.sets_apart and self.forks.is_zygote(before)
        message = {"code": step.code, "tools": list(step.tools), "folder": str(child.folder), "files": numbers}
        await child.channel.send({**message, "seed": step.seed, "apart": apart, "digest": step.digest})
        if not numbers:
            return
        opened = descriptors.reopen(files, child.folder)
        try:
            child.channel.hand_over(opened)
        finally:
            for descriptor in opened:
                os.close(descriptor)
        await child.channel.receive()
        self._look(child, {STDOUT: child.output.identity})
        await child.channel.send({})

    async def _check_memory(self, session: Session) -> None:
        if (len(session.pids) + 1) * self.limits.memory_bytes <= self.limits.session_memory_bytes:
            return  # they cannot, each within its own bound
        if await session.needs_more_than(self.limits.session_memory_bytes, self.running):
            raise StepRejected(outcome.session_too_large(self.limits))

    async def _keep(self, child: _Child, before: Frozen) -> Frozen:
        """The state after a step: stopped, holding nothing that another branch could touch."""
        folder = self._folders[child.pid]
        files = self._look(child)
        if folder.had_files and (path := await asyncio.to_thread(descriptors.mapped, child.pid, child.folder)):
            raise StepRejected(outcome.left_open(f"a mapping of {path}"))
        if child.channel.is_unread:
            raise StepRejected(outcome.DISHONEST)
        if reason := self.forks.reasons.get(child.pid):
            raise StepRejected(reason)
        cpu = before.cpu + cpu_seconds(child.pid) - child.cpu_before
        kept, size = self._kept(child.folder, before.session)
        self._account(before.session, size)
        return Frozen(child.channel, before.session, kept, size, files, cpu)

    def _kept(self, folder: Path, session: Session) -> tuple[Path | None, int]:
        """Where what a step left in its folder is kept, and what it takes of a disk."""
        if self._scratch.is_gone(folder):
            return None, 0
        used = usage(folder)
        if used.size > self.limits.scratch_bytes or used.entries > self.limits.files:
            raise StepRejected(outcome.folder_full(self.limits))
        if session.kept_bytes + used.disk > self.limits.session_scratch_bytes:
            raise StepRejected(outcome.folders_full(self.limits))
        return self._scratch.keep(folder), used.disk

    def _account(self, session: Session, kept_bytes: int) -> None:
        session.kept_bytes += kept_bytes
        self.kept_bytes += kept_bytes

    def _look(self, child: _Child, own: Mapping[int, Identity] | None = None) -> tuple[OpenFile, ...]:
        """The open files of a child; there must be nothing else."""
        try:
            return self.forks.open_files(child.channel, child.folder, own)
        except ForbiddenDescriptor as stranger:
            raise StepRejected(outcome.left_open(str(stranger))) from None
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            raise StepRejected(outcome.DISHONEST) from None

    def _forget(self, pid: int) -> None:
        self.running.discard(pid)
        self._clocks.pop(pid, None)
        self.forks.reasons.pop(pid, None)
        self._grants.threaded.discard(pid)
        if folder := self._folders.pop(pid, None):
            folder.close()
