"""The client of the code sandbox: open a session, run code from any state of it, answer the tools it calls.

    async with start(Limits()) as sandbox:
        branch = await sandbox.open(seed=1)
        first = await branch.run("x = 20")
        second = await first.branch.run("print(x + 1)")
        other = await first.branch.run("x += 1; final_answer_print(x)")   # from the same state again

A `Branch` is a frozen interpreter state; running from it gives a new one and leaves it as it was. A step that is the
last from its state (``keep=False``) runs in that state's own process, which is several times cheaper than a fork; when
it is undone, the state before it is made again by the same steps. Works from any one event loop. A lost daemon raises
`SandboxLost` in every call under way: connect again and start the session anew.
"""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Self

from score_distill.errors import Infrastructure
from score_distill.sandbox.outcome import shorten
from score_distill.sandbox.wire import PROTOCOL, Unpacker, WireError, pack

ToolCall = Callable[[list[Any], dict[str, Any]], Awaitable[Any]]

_MESSAGE_BYTES = 1 << 30
_WELCOME_SECONDS = 30.0
_SILENCE_SECONDS = 120.0
_SCHEME = "unix://"
_RESULT = frozenset({"branch", "output", "answer", "error", "undone", "state_hash"})


class SandboxError(Infrastructure):
    """The sandbox could not run the step; nothing is known about the code. Start the session anew and retry."""


class SandboxLost(SandboxError):
    """The daemon is gone, and every session with it; connect again and retry."""


class SandboxBusy(SandboxError):
    """The daemon's queue or its store of states is full; retry later."""


class ToolError(Exception):
    """Raised by a `ToolCall` to refuse a call; model code sees it as ``ToolError`` with the message."""


@dataclass(frozen=True)
class StepResult:
    """What a step came to.

    ``output`` is what the model sees: what was printed to both outputs, then the error and where in the code it was;
    never empty. ``error`` is the error's class name, ``answer`` what was given to ``final_answer_print``.
    ``state_hash`` is a digest of the state after the step, None where that cannot be told from others. ``branch`` is
    the state after the step; a step that hit a limit or lost its process is ``undone``, and then it is the state before
    it: the very branch that was run from if that was to be kept.
    """

    output: str
    answer: str | None
    error: str | None
    state_hash: str | None
    branch: "Branch"
    undone: bool = False


class Sandbox:
    """One connection to a daemon; closing it ends every session opened over it. ``layers`` are what confines them."""

    layers: tuple[str, ...]
    _transport: asyncio.Transport
    _code_bytes: int
    _message_bytes: int

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path
        self._heard = asyncio.get_running_loop().time()
        self._listening: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tools: dict[int, Mapping[str, ToolCall]] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._lost: SandboxError | None = None
        self._welcome: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(
        cls,
        address: str | os.PathLike[str],
        *,
        welcome_seconds: float = _WELCOME_SECONDS,
        silence_seconds: float = _SILENCE_SECONDS,
    ) -> Self:
        """``address`` is ``unix:///path`` or the path of the socket. A daemon silent for so long counts as lost."""
        socket_path = os.fspath(address).removeprefix(_SCHEME)
        sandbox = cls(socket_path)
        loop = asyncio.get_running_loop()
        try:
            sandbox._transport, _ = await loop.create_unix_connection(lambda: _Wire(sandbox), socket_path)
        except OSError as error:
            raise SandboxLost(f"no sandbox daemon at {socket_path}: {error.strerror}; retry") from error
        try:
            async with asyncio.timeout(welcome_seconds):
                welcome = await sandbox._welcome
                sandbox.layers = tuple(welcome["layers"])
                sandbox._code_bytes, sandbox._message_bytes = welcome["code_bytes"], welcome["message_bytes"]
        except TimeoutError as error:
            sandbox._transport.abort()
            raise SandboxLost(
                f"the sandbox daemon at {socket_path} did not answer in {welcome_seconds:g} s; retry"
            ) from error
        sandbox._listening = asyncio.ensure_future(sandbox._listen(silence_seconds))
        return sandbox

    async def open(self, *, tools: Mapping[str, ToolCall] | None = None, seed: int = 0) -> "Branch":
        """A fresh session; its random state starts from ``seed``, its steps call ``tools`` unless told otherwise."""
        reply = await self._request({"op": "open", "seed": seed}, {"branch"})
        return Branch(self, reply["branch"], tools or {}, _Origin(seed))

    async def close(self) -> None:
        self._transport.close()
        self._disconnected(SandboxLost("the connection was closed"))

    async def _listen(self, silence_seconds: float) -> None:
        """Give the daemon up when it has said nothing for so long, not even that it lives."""
        now = asyncio.get_running_loop().time
        while (left := self._heard + silence_seconds - now()) > 0:
            await asyncio.sleep(left)
        self._transport.abort()
        self._disconnected(SandboxLost(f"the sandbox daemon was silent for {silence_seconds:g} s; retry"))

    async def _run(
        self, branch: "Branch", code: str, tools: Mapping[str, ToolCall], keep: bool, digest: bool
    ) -> StepResult:
        told = code[: self._code_bytes + 1]  # enough for the daemon to refuse it
        replies: list[_Reply] = []
        heard = {name: _heard(tool, replies) for name, tool in tools.items()}
        reply = await self._ask(branch, told, heard, keep=keep, digest=digest)
        if not reply["undone"]:
            origin = _Origin(branch._origin.seed, branch._origin, told, tuple(tools), replies)
            after = Branch(self, reply["branch"], tools, origin)
        elif reply["branch"] is not None:
            after = branch
        else:
            after = await self._made_again(branch)
        said = {name: reply[name] for name in ("output", "answer", "error", "state_hash", "undone")}
        return StepResult(**said, branch=after)

    async def _made_again(self, lost: "Branch") -> "Branch":
        """The state of a branch that is gone, by the steps that made it; its tools answer as they did."""
        branch = await self.open(seed=lost._origin.seed)
        for made in lost._origin.steps():
            replies = iter(made.replies)
            tools = {name: _told(replies) for name in made.tools}
            reply = await self._ask(branch, made.code, tools, keep=False, digest=False)
            if reply["undone"]:
                raise SandboxError(f"a state could not be made again ({reply['error']}); start anew and retry")
            branch = Branch(self, reply["branch"], {}, made)
        return Branch(self, branch._number, lost._tools, lost._origin)

    async def _ask(
        self, branch: "Branch", code: str, tools: Mapping[str, ToolCall], *, keep: bool, digest: bool
    ) -> dict[str, Any]:
        request = {"op": "run", "branch": branch._number, "code": code, "tools": list(tools)}
        return await self._request({**request, "keep": keep, "digest": digest}, _RESULT, tools)

    async def _request(
        self, message: dict[str, Any], fields: Set[str], tools: Mapping[str, ToolCall] | None = None
    ) -> dict[str, Any]:
        """The reply to ``message``, which has ``fields``."""
        if self._lost:
            raise self._lost
        number = next(self._numbers)
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        self._tools[number] = tools or {}
        self._transport.write(pack({**message, "id": number}))
        try:
            answer = await reply
            if missing := fields - answer.keys():
                raise _other_protocol(f"a reply without {', '.join(sorted(missing))}")
            return answer
        except asyncio.CancelledError:
            self._transport.write(pack({"op": "cancel", "id": number}))
            raise
        finally:
            del self._replies[number], self._tools[number]

    def _tell(self, message: dict[str, Any]) -> None:
        if not self._lost:
            self._transport.write(pack(message))

    def _received(self, message: dict[str, Any]) -> None:
        if "fatal" in message:
            self._disconnected(SandboxError(f"the daemon ended the connection: {message['fatal']}"))
        elif not self._welcome.done():
            if message.get("protocol") != PROTOCOL:
                raise WireError(f"this client speaks version {PROTOCOL} of it, not {message.get('protocol')}")
            self._welcome.set_result(message)
        elif "call" in message:
            task = asyncio.ensure_future(self._answer(message))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        elif "alive" not in message and (reply := self._replies.get(message["id"])) and not reply.done():
            if error := _error(message):
                reply.set_exception(error)
            else:
                reply.set_result(message)

    async def _answer(self, message: dict[str, Any]) -> None:
        """Call the tool that a step asks for; an error that is no `ToolError` is the caller's, and ends the step."""
        run, call = message["id"], message["call"]
        try:
            tool = self._tools[run][message["name"]]
            body = {"op": "reply", "call": call, "value": await tool(message["args"], message["kwargs"])}
            if (size := len(pack(body))) > self._message_bytes:
                raise ToolError(f"the answer has {size} bytes; at most {self._message_bytes} are allowed")
            self._tell(body)
        except ToolError as error:
            self._tell({"op": "reply", "call": call, "error": shorten(str(error), self._message_bytes // 8)})
        except Exception as error:
            self._tell({"op": "cancel", "id": run})
            if (reply := self._replies.get(run)) and not reply.done():
                reply.set_exception(error)

    def _disconnected(self, error: SandboxError) -> None:
        self._lost = self._lost or error
        if self._listening:
            self._listening.cancel()
        for reply in (self._welcome, *self._replies.values()):
            if not reply.done():
                reply.set_exception(error)


@dataclass(frozen=True, eq=False)
class Branch:
    """A frozen interpreter state, held by the daemon until it is closed or the connection ends."""

    _sandbox: Sandbox = field(repr=False)
    _number: int
    _tools: Mapping[str, ToolCall] = field(repr=False)
    _origin: "_Origin" = field(repr=False)

    async def run(
        self, code: str, tools: Mapping[str, ToolCall] | None = None, *, keep: bool = True, digest: bool = True
    ) -> StepResult:
        """Execute ``code`` from this state, which does not change, or is closed by it without ``keep``.

        ``tools`` are what the code may call by name, those of this branch when not given. A step that ran out of time,
        memory or output, or whose process ended, is undone: ``result.branch`` is this branch, or without ``keep`` one
        made again by the same steps. Without ``digest`` there is no ``state_hash``. The value of a last expression is
        not printed.
        """
        return await self._sandbox._run(self, code, self._tools if tools is None else tools, keep, digest)

    async def close(self) -> None:
        """Drop the state; those that came of it stay."""
        self._sandbox._tell({"op": "close", "branch": self._number})


_Reply = Any


@dataclass(frozen=True, eq=False)
class _Origin:
    """How a state was made: the seed of its session, and of its last step what it ran and what its tools replied."""

    seed: int
    before: "_Origin | None" = None
    code: str = ""
    tools: tuple[str, ...] = ()
    replies: list[_Reply] = field(default_factory=list)

    def steps(self) -> "list[_Origin]":
        """Those that made the state, the first one first."""
        made, origin = [], self
        while origin.before is not None:
            made.append(origin)
            origin = origin.before
        return made[::-1]


def _heard(tool: ToolCall, replies: list[_Reply]) -> ToolCall:
    """``tool``, whose replies are kept."""

    async def call(args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            reply = await tool(args, kwargs)
        except ToolError as refusal:
            replies.append(refusal)
            raise
        replies.append(reply)
        return reply

    return call


def _told(replies: Iterator[_Reply]) -> ToolCall:
    """A tool that replies what another did."""

    async def call(args: list[Any], kwargs: dict[str, Any]) -> Any:
        match next(replies, None):
            case ToolError() as refusal:
                raise refusal
            case reply:
                return reply

    return call


class _Wire(asyncio.Protocol):
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._unpacker = Unpacker(_MESSAGE_BYTES)

    def data_received(self, data: bytes) -> None:
        self._sandbox._heard = asyncio.get_running_loop().time()
        try:
            for message in self._unpacker.feed(data):
                self._sandbox._received(message)
        except (WireError, KeyError) as error:
            self._sandbox._transport.abort()
            self._sandbox._disconnected(_other_protocol(str(error)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._sandbox._disconnected(SandboxLost("the sandbox daemon is gone; connect again and retry"))


def _other_protocol(what: str) -> SandboxError:
    return SandboxError(f"the daemon speaks another protocol ({what}); give both the same version")


def _error(message: dict[str, Any]) -> SandboxError | None:
    if "lost" in message:
        return SandboxError(message["lost"])
    if "busy" in message:
        return SandboxBusy(message["busy"])
    return None
