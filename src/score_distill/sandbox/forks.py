"""Forks of frozen states, and every session process that lives: who it is, whose it is, how it ended.

A state that waits for the next step of a line is given a spare: a child forked beforehand and stopped before it has
read anything, so that it is what a fork would give later. The step then need not wait for one.
"""

import asyncio
import collections
import contextlib
import errno
import os
import secrets
import signal
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from score_distill.sandbox import descriptors, landlock, outcome
from score_distill.sandbox.channel import Channel, ChannelClosed
from score_distill.sandbox.descriptors import ForbiddenDescriptor, Identity, OpenFile
from score_distill.sandbox.holdings import Frozen, Session
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.outcome import Failure, StateLost, StepRejected
from score_distill.sandbox.process import Output, Reaper, freeze, is_child, kill, thaw
from score_distill.sandbox.seccomp_notify import AwaitedChild, Grants
from score_distill.sandbox.session import APART, CONTROL, ITSELF, TOKEN
from score_distill.sandbox.streams import STDOUT

FORK_SECONDS = 5.0
SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}  # of the machine's or the daemon's own
_SPARES_OF_ZYGOTE = 2
_FORK_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # before a refused fork is tried again


class ForkRefused(Exception):
    """The machine does not let a process fork now: it, or whoever owns it, has as many processes as it may."""


@dataclass(frozen=True)
class Fork:
    """A child that waits for its step."""

    channel: Channel
    output: Output


class Forks:
    """All forks of a daemon: of the zygote, and of the states that came of it."""

    def __init__(self, limits: Limits, zygote: Frozen, listener: int, spares: int = 0) -> None:
        self.zygote = zygote
        self.pids: set[int] = {zygote.channel.pid}
        self.reasons: dict[int, Failure] = {}
        self.grants = Grants(listener, self._dishonest, self._is_new)
        self._limits = limits
        self._tokens = secrets.SystemRandom()
        self._reaper = Reaper()
        self._forked: collections.Counter[int] = collections.Counter()
        self._sessions: dict[int, Session] = {}
        self._most_spares = spares
        self._spares: dict[Fork, tuple[Channel, float]] = {}  # of whom, and since when
        self._coming: set[Channel] = set()  # of spares that are being forked
        self._domain = landlock.domain()
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._null = descriptors.identity(null)
        os.close(null)

    @property
    def sessions(self) -> set[Session]:
        """Those that have a process."""
        return set(self._sessions.values())

    @property
    def spares(self) -> int:
        """How many of ``pids`` are spares, or will be as soon as their fork has ended."""
        return len(self._spares) + sum(channel.pid in self.pids for channel in self._coming)

    async def of(self, before: Frozen) -> Fork:
        """A child of ``before`` with a channel and an output of its own; later where the machine refuses one now."""
        for pause in (*_FORK_PAUSES, None):
            try:
                async with before.forking:
                    fork = self._spare(before.channel) or await self._fork(before, Channel(self._limits.report_bytes))
                    self._enter(fork, before.session)
                    return fork
            except ForkRefused as error:
                if pause is None:
                    raise StateLost(f"the machine allows no other process now ({error}); retry") from None
                self.drop_spares()
                await asyncio.sleep(pause)
        raise AssertionError

    async def itself(self, state: Frozen) -> Fork:
        """The process of ``state``, let go with an output of its own; nothing else can be made from it any more."""
        async with state.forking:
            if state.end:
                raise state.end[0]
            channel, output = state.channel, Output(self._limits.output_bytes)
            for spare in self._spares_of(channel):
                self._discard(spare)
            state.end.append(StateLost("this state was given up to a step"))
            try:
                if channel.has_unread or not is_child(channel.pid):
                    raise ChannelClosed("it has said something, or ended, since it was frozen")
                state.session.stir(channel.pid)
                thaw(channel.pid)
                await channel.write(TOKEN.pack(ITSELF))
                channel.hand_over([output.descriptor])
            except ChannelClosed:
                output.close()
                raise await self._why_it_does_not_go_on(channel) from None
            except BaseException:
                output.close()
                raise
            return Fork(channel, output)

    async def prepare(self, state: Frozen) -> None:
        """Give ``state`` a spare, unless something is against it; what is, the next step from it will say."""
        with contextlib.suppress(ForkRefused, StateLost, StepRejected, OSError):
            while self._wants_spare(state):
                async with state.forking:
                    if not self._wants_spare(state):
                        return
                    channel = Channel(self._limits.report_bytes)
                    self._coming.add(channel)
                    try:
                        fork = await self._fork(state, channel)
                    finally:
                        self._coming.discard(channel)
                    freeze(fork.channel.pid)
                    if state.channel.pid not in self.pids:
                        self._discard(fork)
                        return
                    if not self.is_zygote(state):
                        self._enter(fork, state.session)
                    self._spares[fork] = state.channel, asyncio.get_running_loop().time()

    def is_last_of_line(self, before: Frozen) -> bool:
        """Whether nothing but one step was made from ``before``, so that what came of it is not one branch of many."""
        return self.is_zygote(before) or self._forked[before.channel.pid] <= 1

    def drop_spares(self, kept_seconds: float = 0.0) -> bool:
        """End the spares that have waited for so long; whether there were any."""
        latest = asyncio.get_running_loop().time() - kept_seconds
        late = [fork for fork, (_, since) in self._spares.items() if since <= latest]
        for fork in late:
            if fork in self._spares:  # the end of one can be that of all
                self._discard(fork)
        return bool(late)

    def drop(self, state: Frozen) -> None:
        for fork in self._spares_of(state.channel):
            self._discard(fork)
        self.end(state.channel)

    def end(self, channel: Channel) -> None:
        if channel.pid in self.pids:
            self._leave(channel.pid)
            self._reaper.kill(channel.pid)
        channel.close()

    def stop(self, pid: int, failure: Failure) -> None:
        """End a running step; its model is told ``failure``."""
        self.reasons[pid] = failure
        kill(pid)

    def end_strays(self, strays: set[int]) -> None:
        for pid in strays - self.pids:
            self._reaper.kill(pid)

    async def death(self, pid: int) -> Failure:
        """Why a process that fell silent did so."""
        status = await self._status(pid)
        return self.reasons.pop(pid, None) or outcome.died(status)

    def is_zygote(self, state: Frozen) -> bool:
        return state.channel is self.zygote.channel

    @property
    def sets_apart(self) -> bool:
        """Whether the first process of a session is given a domain of its own."""
        return self._domain is not None

    def open_files(
        self, channel: Channel, folder: Path | None, own: Mapping[int, Identity] | None = None
    ) -> tuple[OpenFile, ...]:
        return descriptors.inspect(channel.pid, {CONTROL: channel.identity, **(own or {})}, self._null, folder)

    def _wants_spare(self, state: Frozen) -> bool:
        if state.end or state.files or state.channel.pid not in self.pids or self.spares >= self._most_spares:
            return False
        if self.is_zygote(state):
            return len(self._spares_of(state.channel)) < _SPARES_OF_ZYGOTE
        return not self._forked[state.channel.pid]

    def _spares_of(self, state: Channel) -> list[Fork]:
        return [fork for fork, (whose, _) in self._spares.items() if whose is state]

    def _spare(self, state: Channel) -> Fork | None:
        """A spare, let go, if one lives as its state does, holds what it was given, and has said nothing."""
        for fork in self._spares_of(state):
            if is_child(state.pid) and self._is_as_made(fork):
                del self._spares[fork]
                thaw(fork.channel.pid)
                return fork
            self._discard(fork)
        return None

    def _is_as_made(self, fork: Fork) -> bool:
        own = {STDOUT: fork.output.identity}
        if self._domain is not None:
            own[APART] = descriptors.identity(self._domain)
        try:
            strangers = self.open_files(fork.channel, None, own)
        except (ForbiddenDescriptor, OSError):
            return False
        return not strangers and is_child(fork.channel.pid) and not fork.channel.has_unread

    def _discard(self, fork: Fork) -> None:
        self._spares.pop(fork, None)
        fork.output.close()
        self.end(fork.channel)

    def _enter(self, fork: Fork, session: Session) -> None:
        self._sessions[fork.channel.pid] = session
        session.enter(fork.channel.pid)
        session.stir(fork.channel.pid)

    async def _fork(self, before: Frozen, channel: Channel) -> Fork:
        """Have the process of ``before`` fork."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.end, channel)
            output = Output(self._limits.output_bytes)
            undo.callback(output.close)
            fork = Fork(channel, output)
            if not before.end:
                await _to_its_end(self._clone(before, fork))
            if before.end:
                raise before.end[0]
            undo.pop_all()
        fork.channel.theirs.close()
        return fork

    async def _clone(self, before: Frozen, child: Fork) -> None:
        """Let the process of ``before`` fork once; then its child holds its channel and its output, or it ends."""
        try:
            await self._let_fork(before, child)
        except (ChannelClosed, ForbiddenDescriptor, OSError) as error:
            if isinstance(error, OSError) and error.errno in SHORTAGES:
                raise ForkRefused(os.strerror(error.errno)) from None
            if self.is_zygote(before):
                raise StateLost(f"no session can begin ({str(error) or type(error).__name__}); retry") from None
            before.end.append(await self._why_it_does_not_go_on(before.channel))

    async def _why_it_does_not_go_on(self, parent: Channel) -> Exception:
        """What is to blame: the machine, which a retry can mend, or the state itself. It is ended."""
        parent.close()
        if parent.pid not in self.pids:
            return StateLost("this state was closed while a step began from it")
        status = await self._status(parent.pid)
        if reason := self.reasons.pop(parent.pid, None):
            return StepRejected(reason)
        if status == -signal.SIGKILL:
            return StateLost("the machine ended the process that held this state; start the session anew and retry")
        return StepRejected(outcome.spoiled(status))

    async def _let_fork(self, before: Frozen, child: Fork) -> None:
        parent = before.channel
        while self.is_zygote(before) and parent.has_unread:
            await parent.receive()
        if parent.pid in self._forked and self.open_files(parent, before.folder) != before.files:
            raise ChannelClosed("it has opened something since it was frozen")
        if parent.has_unread:
            raise ChannelClosed("it has said something since it was frozen")
        places = {CONTROL: child.channel.theirs.fileno(), STDOUT: child.output.descriptor}
        if self._domain is not None and self.is_zygote(before):
            places[APART] = self._domain
        birth = AwaitedChild(child.channel, places, asyncio.get_running_loop().create_future())
        token = self._tokens.randrange(ITSELF + 1, 1 << 64)
        self.grants.births[token] = birth
        self.grants.forks.add(parent.pid)
        parent.stirred = birth.fail
        before.session.stir(parent.pid)
        thaw(parent.pid)
        try:
            async with asyncio.timeout(FORK_SECONDS):
                await parent.write(TOKEN.pack(token))
                await birth.done
        except ChannelClosed:
            if parent.pid not in self.grants.forks and parent.has_unread:
                await _refused(parent)
            raise
        finally:
            freeze(parent.pid)
            parent.stirred = None
            self._forked[parent.pid] += 1
            self.grants.forks.discard(parent.pid)
            self.grants.births.pop(token, None)

    def _is_new(self, pid: int) -> bool:
        """Whether ``pid`` is a child of the daemon that has not yet spoken; from now on it has."""
        if pid in self.pids or not is_child(pid):
            return False
        self.reasons.pop(pid, None)
        self.pids.add(pid)
        return True

    def _dishonest(self, pid: int) -> None:
        if pid != self.zygote.channel.pid:
            self.stop(pid, outcome.DISHONEST)

    async def _status(self, pid: int) -> int | None:
        """How a process ended. It is known until then: as a stray it would be killed, and that told as its end."""
        status = await self._reaper.status(pid)
        self._leave(pid)
        return status

    def _leave(self, pid: int) -> None:
        """A process is collected, or about to be, and its number free for another."""
        self.pids.discard(pid)
        self._forked.pop(pid, None)
        if session := self._sessions.pop(pid, None):
            session.leave(pid)
            if not self._sessions:
                self.drop_spares()


async def _refused(parent: Channel) -> None:
    """`ForkRefused` when all that a process has to say of its fork is that the kernel refused it."""
    match await parent.receive():
        case {"refused": int(code)} if code in SHORTAGES and not parent.has_unread:
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
