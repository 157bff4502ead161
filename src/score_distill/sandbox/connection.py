"""One client of the daemon: the states it holds, its steps under way, its calls of tools that wait for an answer.

Numbers that a client uses mean something in its own connection only, so no client can name what is another's.
"""

import asyncio
import itertools
import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from score_distill.sandbox import requests
from score_distill.sandbox.fair_queue import Full, Turn, Turns
from score_distill.sandbox.holdings import Ended, Frozen, Step
from score_distill.sandbox.outcome import StateLost
from score_distill.sandbox.reports import Call
from score_distill.sandbox.requests import Cancel, Close, Open, Reply, Run
from score_distill.sandbox.steps import Ask, Steps
from score_distill.sandbox.wire import PROTOCOL, Unpacker, WireError, pack

_log = logging.getLogger(__name__)

_JSON_GROWTH = 6  # bytes of JSON for one byte of text, at worst
_FRAME_BYTES = 1 << 16
_UNREAD_BYTES = 64 << 20
_UNREAD_SECONDS = 60.0


@dataclass
class _Held:
    """A state of this client, and the number of the request it came of.

    ``seed`` only for a session that has not made a step yet.
    """

    state: Frozen
    used: float
    request: int
    seed: int | None = None


class Connection(asyncio.Protocol):
    def __init__(self, steps: Steps, turns: Turns, connections: "set[Connection]", layers: Collection[str]) -> None:
        limits = steps.limits
        self._steps = steps
        self._turns = turns
        self._connections = connections
        self._layers = list(layers)
        self._unpacker = Unpacker(_JSON_GROWTH * limits.code_bytes + limits.message_bytes + _FRAME_BYTES)
        self._numbers = itertools.count(1)
        self._held: dict[int, _Held] = {}
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._sending = asyncio.Lock()
        self._room = asyncio.Event()
        self._room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)
        limits = self._steps.limits
        sizes = {"code_bytes": limits.code_bytes, "message_bytes": limits.message_bytes}
        self._tell({"protocol": PROTOCOL, "layers": self._layers, **sizes})

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        for task in self._runs.values():
            task.cancel()
        for number in list(self._held):
            self._drop(number)

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unpacker.feed(data):
                self._handle(requests.parse(message))
        except WireError as error:
            self._tell({"fatal": str(error)})
            self._transport.close()

    def beat(self) -> None:
        """Tell the client that this daemon lives."""
        self._tell({"alive": True})

    def drop_idle(self, seconds: float) -> None:
        """Drop states that nobody ran from for so long."""
        now = asyncio.get_running_loop().time()
        for number, held in list(self._held.items()):
            if held.seed is None and now - held.used > seconds:
                self._drop(number)

    def _handle(self, request: requests.Request) -> None:
        match request:
            case Open():
                number = self._hold(self._steps.open(), request.number, request.seed)
                self._tell({"id": request.number, "branch": number})
            case Run():
                if request.number in self._runs:
                    raise WireError("this number is in use by a step under way")
                task = asyncio.ensure_future(self._run(request))
                self._runs[request.number] = task
                task.add_done_callback(lambda _: self._runs.pop(request.number))
            case Cancel():
                if run := self._runs.get(request.number):
                    run.cancel()
                for branch in [branch for branch, held in self._held.items() if held.request == request.number]:
                    self._drop(branch)  # the step was done, and the client cannot know what came of it
            case Close():
                self._drop(request.branch)
            case Reply():
                if (call := self._calls.get(request.call)) and not call.done():
                    call.set_result(request.body)

    async def _run(self, request: Run) -> None:
        try:
            async with self._turns.turn(self) as turn:
                reply = await self._step(request, turn)
        except StateLost as error:
            reply = {"lost": str(error)}
        except Full:
            reply = {"busy": "the sandbox's queue is full; retry later"}
        except OSError as error:
            _log.warning("a step could not run: %s", error)
            reply = {"lost": f"the sandbox could not run the step ({error.strerror or error}); retry"}
        except Exception as error:
            _log.exception("a step failed in the daemon")
            reply = {"lost": f"the sandbox could not run the step ({error!r}); retry"}
        await self._send({"id": request.number, **reply})

    async def _step(self, request: Run, turn: Turn) -> dict[str, Any]:
        held = self._held.get(request.branch)
        if held is None:
            return {"lost": "this state was closed, or dropped because nobody ran from it for long"}
        if (request.keep or held.seed is not None) and self._steps.is_full:
            return {"busy": "the sandbox holds as many states as it may; close some or retry later"}
        held.used = asyncio.get_running_loop().time()

        async def ask(call: Call) -> dict[str, Any]:
            async with turn.aside():
                return await self._ask(request.number, call)

        step = Step(request.code, request.tools, held.seed, request.keep, request.digest)
        run = self._steps.run if request.keep else partial(self._give_up, request.branch)
        ended = await run(held.state, step, ask)
        kept = request.branch if request.branch in self._held else None
        after = self._hold(ended.after, request.number) if ended.after else kept
        said = {"output": ended.output, "answer": ended.answer, "error": ended.error, "undone": ended.after is None}
        return {**said, "state_hash": ended.state_hash, "branch": after}

    async def _give_up(self, number: int, state: Frozen, step: Step, ask: Ask) -> Ended:
        """Run a step as the last from ``state``; it stays if that did not begin, or was a child's in vain."""
        held = self._held.pop(number)
        ended = None
        try:
            ended = await self._steps.run(state, step, ask)
            return ended
        finally:
            if not state.end and not (ended and ended.after):
                self._held[number] = held
                if self not in self._connections:
                    self._drop(number)

    async def _ask(self, run: int, call: Call) -> dict[str, Any]:
        """Have the client answer the call of a tool."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        message = {"call": number, "id": run, "name": call.name, "args": call.args, "kwargs": call.kwargs}
        seconds = self._steps.limits.tool_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._send(message)
                return await answer
        except TimeoutError:
            return {"error": f"{call.name}() did not answer within {seconds:g} s"}
        finally:
            del self._calls[number]

    def _hold(self, state: Frozen, request: int, seed: int | None = None) -> int:
        number = next(self._numbers)
        self._held[number] = _Held(state, asyncio.get_running_loop().time(), request, seed)
        return number

    def _drop(self, number: int) -> None:
        held = self._held.pop(number, None)
        if held and held.seed is None:
            self._steps.drop(held.state)

    async def _send(self, message: dict[str, Any]) -> None:
        """Write to the client what may be long, when it has read what came before; one that does not read is let go."""
        async with self._sending:
            if not self._room.is_set():
                try:
                    async with asyncio.timeout(_UNREAD_SECONDS):
                        await self._room.wait()
                except TimeoutError:
                    self._transport.abort()
            self._tell(message)

    def _tell(self, message: dict[str, Any]) -> None:
        """Write to the client what is short."""
        if self._transport.get_write_buffer_size() > _UNREAD_BYTES:
            self._transport.abort()
        self._transport.write(pack(message))
