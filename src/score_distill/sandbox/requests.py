"""What a client may ask of the daemon, taken apart: each request is one of these, or the connection ends."""

from dataclasses import dataclass
from typing import Any

from score_distill.sandbox.wire import WireError


@dataclass(frozen=True)
class Open:
    number: int
    seed: int


@dataclass(frozen=True)
class Run:
    """``keep`` says that ``branch`` is still wanted after the step, ``digest`` that one of what it left is."""

    number: int
    branch: int
    code: str
    tools: tuple[str, ...]
    keep: bool
    digest: bool


@dataclass(frozen=True)
class Cancel:
    number: int


@dataclass(frozen=True)
class Close:
    branch: int


@dataclass(frozen=True)
class Reply:
    """The answer to the call of a tool: a value, or why it was refused."""

    call: int
    body: dict[str, Any]


Request = Open | Run | Cancel | Close | Reply


def parse(message: dict[str, Any]) -> Request:
    match message:
        case {"op": "open", "id": int(number), "seed": int(seed)}:
            return Open(number, seed)
        case {
            "op": "run",
            "id": int(number),
            "branch": int(branch),
            "code": str(code),
            "tools": list(tools),
            "keep": bool(keep),
            "digest": bool(digest),
        } if all(isinstance(name, str) and name.isidentifier() for name in tools):
            return Run(number, branch, code, tuple(tools), keep, digest)
        case {"op": "cancel", "id": int(number)}:
            return Cancel(number)
        case {"op": "close", "branch": int(branch)}:
            return Close(branch)
        case {"op": "reply", "call": int(call), "value": value}:
            return Reply(call, {"value": value})
        case {"op": "reply", "call": int(call), "error": str(error)}:
            return Reply(call, {"error": error})
    raise WireError(f"not a request: {str(message.get('op'))[:40]!r} with {sorted(message)[:10]}")
