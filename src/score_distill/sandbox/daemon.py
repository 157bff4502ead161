"""The service: clients come by a Unix socket, open sessions, and run steps from any state they hold.

One connection is one lease: what a client opened is its own, and is gone when the connection is. The daemon relays the
calls of tools to the client and holds neither network nor keys. It owns its process and all children of it.
"""

import asyncio
import contextlib
import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

from score_distill.sandbox.limits import Limits
from score_distill.sandbox.scratch import Scratch
from score_distill.sandbox.steps import Frozen, StateLost, Step, Steps
from score_distill.sandbox.wire import Unpacker, WireError, pack


async def serve(socket_path: str | os.PathLike[str], limits: Limits, libraries: tuple[str, ...] = ()) -> None:
    """Serve until cancelled; the socket appears when the zygote is warm."""
    loop = asyncio.get_running_loop()
    scratch = Scratch(Path(tempfile.mkdtemp(prefix="sandbox-")), limits.scratch_bytes)
    try:
        steps = Steps(limits, scratch)
        root = await steps.start(libraries)
        gate = asyncio.Semaphore(limits.running)
        server = await loop.create_unix_server(lambda: _Client(steps, root, gate), os.fspath(socket_path))
        async with server:
            await server.serve_forever()
    finally:
        scratch.close()


class _Client(asyncio.Protocol):
    """One connection: its branches, its steps under way, its calls of tools that wait for an answer."""

    def __init__(self, steps: Steps, root: Frozen, gate: asyncio.Semaphore) -> None:
        self._steps = steps
        self._root = root
        self._gate = gate
        self._unpacker = Unpacker(steps.limits.message_bytes + steps.limits.code_bytes)
        self._numbers = itertools.count(1)
        self._states: dict[int, Frozen] = {}
        self._seeds: dict[int, int] = {}
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._runs.values():
            task.cancel()
        for number in list(self._states):
            self._drop(number)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unpacker.feed(data):
                self._handle(message)
        except (WireError, KeyError, TypeError) as error:
            self._tell({"fatal": f"{type(error).__name__}: {error}"})
            self._transport.close()

    def _handle(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "open":
                number = next(self._numbers)
                self._states[number] = self._root
                self._seeds[number] = int(message["seed"])
                self._tell({"id": message["id"], "branch": number})
            case "run":
                task = asyncio.ensure_future(self._run(message))
                self._runs[message["id"]] = task
                task.add_done_callback(lambda _: self._runs.pop(message["id"], None))
            case "cancel":
                if task := self._runs.get(message["id"]):
                    task.cancel()
            case "close":
                self._drop(message["branch"])
            case "reply":
                if (call := self._calls.get(message["call"])) and not call.done():
                    call.set_result({key: message[key] for key in ("value", "error") if key in message})

    async def _run(self, message: dict[str, Any]) -> None:
        number = message["branch"]
        before = self._states[number]
        step = Step(message["code"], message["tools"], self._seeds.get(number))

        async def ask(name: str, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
            return await self._ask(message["id"], name, args, kwargs)

        try:
            async with self._gate:
                ended = await self._steps.run(before, step, ask)
        except StateLost as error:
            self._tell({"id": message["id"], "lost": str(error)})
            return
        if ended.after:
            number = next(self._numbers)
            self._states[number] = ended.after
        self._tell(
            {
                "id": message["id"],
                "output": ended.output,
                "answer": ended.answer,
                "error": ended.error,
                "state_hash": ended.state_hash,
                "branch": number,
            }
        )

    async def _ask(self, run: int, name: str, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        self._calls[number] = asyncio.get_running_loop().create_future()
        self._tell({"call": number, "id": run, "name": name, "args": args, "kwargs": kwargs})
        try:
            async with asyncio.timeout(self._steps.limits.tool_seconds):
                return await self._calls[number]
        except TimeoutError:
            return {"error": f"{name}() did not answer within {self._steps.limits.tool_seconds:g} s"}
        finally:
            del self._calls[number]

    def _drop(self, number: int) -> None:
        self._seeds.pop(number, None)
        state = self._states.pop(number, None)
        if state is not None and state is not self._root:
            self._steps.drop(state)

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(RuntimeError):
            self._transport.write(pack(message))
