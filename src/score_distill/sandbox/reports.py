"""What a session says to the daemon, taken apart with suspicion: the call of a tool, or the end of its step.

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
    state_hash: str


def parse(message: dict[str, Any], tools: Collection[str]) -> Call | Done:
    """A call of one of ``tools``, or the end of the step; `WireError` when it is neither."""
    match message:
        case {"call": str(name), "args": list(args), "kwargs": dict(kwargs)} if name in tools:
            return Call(name, _cleaned(args), _cleaned(kwargs))
        case {"error": str(name), "line": str(line), "state": str(state)} if _NAME.fullmatch(name) and _known(state):
            return Done(None, Failure(name, clean(line)), state)
        case {"answer": str(answer), "state": str(state)} if _known(state):
            return Done(clean(answer), None, state)
        case {"state": str(state)} if _known(state) and len(message) == 1:
            return Done(None, None, state)
    raise WireError("a session said what no session says")


def _cleaned(value: Any) -> Any:
    """A value of JSON whose every text is one that UTF-8 can carry, so that whoever it is handed to can send it on."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_cleaned(inner) for inner in value]
    if isinstance(value, dict):
        return {clean(key): _cleaned(inner) for key, inner in value.items()}
    return value


def _known(state: str) -> bool:
    return bool(_STATE.fullmatch(state))
