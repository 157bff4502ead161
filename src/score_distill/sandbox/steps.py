"""One step: fork the state before it, let the child execute, freeze the child as the state after it.

Sits between the daemon, which knows clients and branches, and the session processes. A step that hits a limit, breaks a
rule or loses its process is undone: the child is ended and there is no state after it.
"""

import asyncio
import errno
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from score_distill.sandbox import descriptors, landlock, outcome, reports
from score_distill.sandbox.channel import Channel, ChannelClosed
from score_distill.sandbox.clock import Clock
from score_distill.sandbox.descriptors import ForbiddenDescriptor, Identity, OpenFile
from score_distill.sandbox.files import Folder, usage
from score_distill.sandbox.holdings import Ended, Frozen, Session, Step
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.outcome import Failure, StateLost, StepRejected
from score_distill.sandbox.process import Output, Reaper, cpu_seconds, freeze, is_child, kill, thaw, threads_of
from score_distill.sandbox.scratch import Scratch
from score_distill.sandbox.seccomp_notify import AwaitedChild, Grants
from score_distill.sandbox.session import APART, CONTROL, TOKEN
from score_distill.sandbox.streams import STDOUT
from score_distill.sandbox.wire import WireError

FORK_SECONDS = 5.0
_FORK_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # before a refused fork is tried again
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}  # of the machine's or the daemon's own
_THREAD_SECONDS, _THREAD_TRIES = 0.002, 50
_DIGEST_SECONDS = 10.0  # far more than an honest session takes before it gives up

Ask = Callable[[reports.Call], Awaitable[dict[str, Any]]]


class ForkRefused(Exception):
    """The machine does not let a process fork now: it, or whoever owns it, has as many processes as it may."""


@dataclass(frozen=True)
class _Child:
    """A fork that has not yet become a state."""

    channel: Channel
    output: Output
    folder: Path

    @property
    def pid(self) -> int:
        return self.channel.pid


class Steps:
    """Runs steps from the zygote and from the states that came of it; knows every session process that lives."""

    def __init__(self, limits: Limits, scratch: Scratch, zygote: Frozen, listener: int) -> None:
        self.limits = limits
        self.zygote = zygote
        self.pids: set[int] = {zygote.channel.pid}
        self.running: set[int] = set()
        self.kept_bytes = 0
        self._clocks: dict[int, Clock] = {}
        self._scratch = scratch
        self._grants = Grants(listener, self._dishonest, self._is_new)
        self._tokens = secrets.SystemRandom()
        self._reaper = Reaper()
        self._forked: set[int] = set()
        self._sessions: dict[int, Session] = {}
        self._reasons: dict[int, Failure] = {}
        self._domain = landlock.domain()
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._null = descriptors.identity(null)
        os.close(null)

    def open(self) -> Frozen:
        """The state that a new session begins from."""
        return replace(self.zygote, session=Session())

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another state."""
        return len(self.pids) >= self.limits.states or self.kept_bytes >= self.limits.kept_bytes

    @property
    def sessions(self) -> set[Session]:
        """Those that have a process."""
        return set(self._sessions.values())

    async def run(self, before: Frozen, step: Step, ask: Ask) -> Ended:
        """Execute ``step`` in a child of ``before``, which stays as it is; ``ask`` answers its calls of tools."""
        if before.cpu >= self.limits.session_cpu_seconds:
            return self._nothing(outcome.session_over(self.limits))
        if len(step.code.encode("utf-8", "surrogatepass")) > self.limits.code_bytes:
            return self._nothing(outcome.too_much_code(self.limits))
        try:
            child = await self._fork(before)
        except StepRejected as undone:
            return self._nothing(undone.failure)
        after = None
        try:
            done = await self._execute(child, before, step, ask)
            state_hash = await self._digest(child)
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
                self._end(child.channel, child.folder)
        text = outcome.observation(printed, done.failure, self.limits.observation_chars)
        return Ended(text, done.answer, done.failure.name if done.failure else None, state_hash, after)

    def _nothing(self, failure: Failure) -> Ended:
        """The end of a step that did not begin."""
        return Ended(outcome.observation(b"", failure, self.limits.observation_chars), None, failure.name, "", None)

    def drop(self, state: Frozen) -> None:
        self._account(state.session, -state.kept_bytes)
        self._end(state.channel, state.folder)

    def stop(self, pid: int, failure: Failure) -> None:
        """End a running step; its model is told ``failure``."""
        self._reasons[pid] = failure
        kill(pid)

    def excess(self, pid: int) -> Failure | None:
        """What a running step is to be stopped for: its time, or more in its folder than that may hold."""
        clock, folder = self._clocks.get(pid), self._grants.folders.get(pid)
        if clock and (failure := clock.over()):
            return failure
        overfull = folder is not None and folder.size > self.limits.scratch_bytes + self.limits.file_bytes
        return outcome.folder_full(self.limits) if overfull else None

    def end_strays(self, strays: set[int]) -> None:
        for pid in strays - self.pids:
            self._reaper.kill(pid)

    async def _fork(self, before: Frozen) -> _Child:
        """A child of ``before`` with a channel, an output and a folder of its own."""
        async with AsyncExitStack() as undo:
            folder = await self._scratch.enter(before.folder)
            undo.callback(self._scratch.drop, folder)
            output = Output(self.limits.output_bytes)
            undo.callback(output.close)
            child = _Child(Channel(self.limits.report_bytes), output, folder)
            undo.callback(self._end, child.channel, None)
            await self._clone_patiently(before, child)
            undo.pop_all()
        child.channel.theirs.close()
        self.running.add(child.pid)
        self._sessions[child.pid] = before.session
        before.session.enter(child.pid)
        self._grants.folders[child.pid] = Folder(child.folder, self.limits)
        return child

    async def _clone_patiently(self, before: Frozen, child: _Child) -> None:
        """Have the process of ``before`` fork, again after a while where the machine refuses it."""
        for pause in (*_FORK_PAUSES, None):
            try:
                async with before.forking:
                    if not before.end:
                        await _to_its_end(self._clone(before, child))
                    if before.end:
                        raise before.end[0]
                return
            except ForkRefused as error:
                if pause is None:
                    raise StateLost(f"the machine allows no other process now ({error}); retry") from None
                await asyncio.sleep(pause)

    async def _clone(self, before: Frozen, child: _Child) -> None:
        """Let the process of ``before`` fork once; then its child holds its channel and its output, or it ends."""
        try:
            await self._let_fork(before, child)
        except (ChannelClosed, ForbiddenDescriptor, OSError) as error:
            if isinstance(error, OSError) and error.errno in _SHORTAGES:
                raise ForkRefused(os.strerror(error.errno)) from None
            if self._is_zygote(before):
                raise StateLost(f"no session can begin ({str(error) or type(error).__name__}); retry") from None
            before.end.append(await self._why_it_does_not_fork(before.channel))

    async def _why_it_does_not_fork(self, parent: Channel) -> Exception:
        """What is to blame: the machine, which a retry can mend, or the state itself. It is ended."""
        parent.close()
        if parent.pid not in self.pids:
            return StateLost("this state was closed while a step began from it")
        status = await self._status(parent.pid)
        if reason := self._reasons.pop(parent.pid, None):
            return StepRejected(reason)
        if status == -signal.SIGKILL:
            return StateLost("the machine ended the process that held this state; start the session anew and retry")
        return StepRejected(outcome.spoiled(status))

    async def _let_fork(self, before: Frozen, child: _Child) -> None:
        parent = before.channel
        while self._is_zygote(before) and parent.has_unread:
            await parent.receive()
        if parent.pid in self._forked and self._open_files(parent, before.folder) != before.files:
            raise ChannelClosed("it has opened something since it was frozen")
        if parent.has_unread:
            raise ChannelClosed("it has said something since it was frozen")
        places = {CONTROL: child.channel.theirs.fileno(), STDOUT: child.output.descriptor}
        if self._domain is not None and self._is_zygote(before):
            places[APART] = self._domain
        birth = AwaitedChild(child.channel, places, asyncio.get_running_loop().create_future())
        token = self._tokens.getrandbits(64)
        self._grants.births[token] = birth
        self._grants.forks.add(parent.pid)
        parent.stirred = birth.fail
        before.session.stir(parent.pid)
        thaw(parent.pid)
        try:
            async with asyncio.timeout(FORK_SECONDS):
                await parent.write(TOKEN.pack(token))
                await birth.done
        except ChannelClosed:
            if parent.pid not in self._grants.forks and parent.has_unread:
                await _refused(parent)
            raise
        finally:
            freeze(parent.pid)
            parent.stirred = None
            self._forked.add(parent.pid)
            self._grants.forks.discard(parent.pid)
            self._grants.births.pop(token, None)

    def _is_zygote(self, state: Frozen) -> bool:
        return state.channel is self.zygote.channel

    def _is_new(self, pid: int) -> bool:
        """Whether ``pid`` is a child of the daemon that has not yet spoken; from now on it has."""
        if pid in self.pids or not is_child(pid):
            return False
        self._reasons.pop(pid, None)
        self.pids.add(pid)
        return True

    def _dishonest(self, pid: int) -> None:
        if pid != self.zygote.channel.pid:
            self.stop(pid, outcome.DISHONEST)

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
            raise StepRejected(await self._death(child)) from None
        finally:
            self._grants.stepping.discard(child.pid)
        if said.failure and (limit := outcome.limit_of(said.failure.name, self.limits)):
            raise StepRejected(limit)
        return said

    async def _digest(self, child: _Child) -> str | None:
        """What the child says of the state that its step left; the time that this takes is not the step's."""
        most, slow = cpu_seconds(child.pid) + _DIGEST_SECONDS, outcome.unreadable_state()
        self._clocks[child.pid] = Clock(child.pid, _DIGEST_SECONDS, most, slow, slow)
        try:
            return reports.parse_state(await child.channel.receive())
        except WireError:
            raise StepRejected(outcome.DISHONEST) from None
        except ChannelClosed:
            raise StepRejected(await self._death(child)) from None

    async def _let_threads_end(self, pid: int) -> None:
        """A thread that was joined takes a moment more until the kernel has ended it."""
        for _ in range(_THREAD_TRIES if pid in self._grants.threaded else 0):
            if threads_of(pid) == 1:
                return
            await asyncio.sleep(_THREAD_SECONDS)

    async def _begin(self, child: _Child, before: Frozen, step: Step) -> None:
        """Send the step; where the state before had files open, carry them over first and see that nothing else is."""
        numbers = [file.number for file in before.files]
        apart = self._domain is not None and self._is_zygote(before)
        message = {"code": step.code, "tools": list(step.tools), "folder": str(child.folder), "files": numbers}
        await child.channel.send({**message, "seed": step.seed, "apart": apart})
        if not numbers:
            return
        opened = descriptors.reopen(before.files, child.folder)
        try:
            child.channel.hand_over(opened)
        finally:
            for descriptor in opened:
                os.close(descriptor)
        await child.channel.receive()
        self._look(child, {STDOUT: child.output.identity})
        await child.channel.send({})

    async def _check_memory(self, session: Session) -> None:
        if await session.needs_more_than(self.limits.session_memory_bytes, self.running):
            raise StepRejected(outcome.session_too_large(self.limits))

    async def _keep(self, child: _Child, before: Frozen) -> Frozen:
        """The state after a step: stopped, holding nothing that another branch could touch."""
        folder = self._grants.folders[child.pid]
        files = self._look(child)
        if folder.had_files and (path := await asyncio.to_thread(descriptors.mapped, child.pid, child.folder)):
            raise StepRejected(outcome.left_open(f"a mapping of {path}"))
        if child.channel.is_unread:
            raise StepRejected(outcome.DISHONEST)
        used = usage(child.folder)
        if used.size > self.limits.scratch_bytes or used.entries > self.limits.files:
            raise StepRejected(outcome.folder_full(self.limits))
        if before.session.kept_bytes + used.disk > self.limits.session_scratch_bytes:
            raise StepRejected(outcome.folders_full(self.limits))
        if reason := self._reasons.get(child.pid):
            raise StepRejected(reason)
        cpu = before.cpu + cpu_seconds(child.pid)
        self._account(before.session, used.disk)
        return Frozen(child.channel, before.session, self._scratch.keep(child.folder), used.disk, files, cpu)

    def _account(self, session: Session, kept_bytes: int) -> None:
        session.kept_bytes += kept_bytes
        self.kept_bytes += kept_bytes

    def _look(self, child: _Child, own: Mapping[int, Identity] | None = None) -> tuple[OpenFile, ...]:
        """The open files of a child; there must be nothing else."""
        try:
            return self._open_files(child.channel, child.folder, own)
        except ForbiddenDescriptor as stranger:
            raise StepRejected(outcome.left_open(str(stranger))) from None
        except OSError as error:
            if error.errno in _SHORTAGES:
                raise
            raise StepRejected(outcome.DISHONEST) from None

    def _open_files(
        self, channel: Channel, folder: Path | None, own: Mapping[int, Identity] | None = None
    ) -> tuple[OpenFile, ...]:
        return descriptors.inspect(channel.pid, {CONTROL: channel.identity, **(own or {})}, self._null, folder)

    async def _death(self, child: _Child) -> Failure:
        """Why a process that fell silent did so."""
        status = await self._status(child.pid)
        return self._reasons.pop(child.pid, None) or outcome.died(status)

    async def _status(self, pid: int) -> int | None:
        """How a process ended. It is known until then: as a stray it would be killed, and that told as its end."""
        status = await self._reaper.status(pid)
        self._leave(pid)
        return status

    def _forget(self, pid: int) -> None:
        self.running.discard(pid)
        self._clocks.pop(pid, None)
        self._reasons.pop(pid, None)
        self._grants.threaded.discard(pid)
        if folder := self._grants.folders.pop(pid, None):
            folder.close()

    def _leave(self, pid: int) -> None:
        """A process is collected, or about to be, and its number free for another."""
        self.pids.discard(pid)
        self._forked.discard(pid)
        if session := self._sessions.pop(pid, None):
            session.leave(pid)

    def _end(self, channel: Channel, folder: Path | None) -> None:
        if channel.pid in self.pids:
            self._leave(channel.pid)
            self._reaper.kill(channel.pid)
        channel.close()
        self._scratch.drop(folder)


async def _refused(parent: Channel) -> None:
    """`ForkRefused` when all that a process has to say of its fork is that the kernel refused it."""
    match await parent.receive():
        case {"refused": int(code)} if code in _SHORTAGES and not parent.has_unread:
            raise ForkRefused(os.strerror(code))


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do ``work`` whole, and be cancelled only then: a process that was told to fork, and may not, would be ended."""
    task = asyncio.ensure_future(work)
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled and not task.cancelled() and not task.exception():
        raise cancelled
    task.result()
