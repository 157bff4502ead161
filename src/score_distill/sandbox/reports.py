"""What a session says to the daemon, taken apart with suspicion: the call of a tool, the end of its step,
or a digest of the state that this left.

The session's memory belongs to model code, so a report can claim anything about its own step, and nothing else.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from score_distill.sandbox.outcome import Failure, clean
from score_distill.sandbox.wire import WireError

_STATE = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"\w{1,100}")


@dataclass(frozen=True)
class Call:
    name: str
    args: list[Any]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Done:
    answer: str | None
    failure: Failure | None


def parse(message: dict[str, Any], tools: Collection[str]) -> Call | Done:
    """A call of one of ``tools``, or the end of the step; `WireError` when it is neither."""
    match message:
        case {"call": str(name), "args": list(args), "kwargs": dict(kwargs)} if name in tools:
            return Call(name, _cleaned(args), _cleaned(kwargs))
        case {"error": str(name), "line": str(line)} if _NAME.fullmatch(name):
            return Done(None, Failure(name, clean(line)))
        case {"answer": str(answer)}:
            return Done(clean(answer), None)
        case {"done": True} if len(message) == 1:
            return Done(None, None)
    raise WireError("a session said what no session says")


def parse_state(message: dict[str, Any]) -> str | None:
    """The digest of a state; None when the session cannot tell it from others."""
    match message:
        case {"state": None}:
            return None
        case {"state": str(state)} if _STATE.fullmatch(state):
            return state
    raise WireError("a session said of its state what no session says")


def _cleaned(value: Any) -> Any:
    """A value of JSON whose every text is one that UTF-8 can carry, so that whoever it is handed to can send it on."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    if isinstance(value, dict):
        return {clean(key): _cleaned(inner) for key, inner in value.items()}
    return value
