"""Tools that model-written code calls: what they are named, how the model reads of them, what they answer.

A tool is a pure step from (state, arguments) to (answer, new state). The agent keeps the state beside the interpreter's
snapshot, so going back to step k also takes a tool's cursor back to step k. Tools run in the agent process, which
holds network and keys; the sandbox has neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from score_distill.agent.trajectory import Task
from score_distill.sandbox.client import ToolError


class Tool(Protocol):
    @property
    def signature(self) -> str: ...

    @property
    def description(self) -> str: ...

    async def call(
        self, task: Task, state: JsonValue, args: Sequence[JsonValue], kwargs: Mapping[str, JsonValue]
    ) -> tuple[JsonValue, JsonValue]:
        """The answer and the tool's state after it; ``state`` is None at the start of a task.

        Raises ToolError for a call that it refuses; the model reads the message.
        """


@dataclass(frozen=True)
class Read:
    """The documents of the task, one a call."""

    signature: str = "read() -> str"
    description: str = "the next document of the task; after the last one, 'End of documents.'"

    async def call(
        self, task: Task, state: JsonValue, args: Sequence[JsonValue], kwargs: Mapping[str, JsonValue]
    ) -> tuple[JsonValue, JsonValue]:
        if args or kwargs:
            raise ToolError("read() takes no arguments")
        cursor = state if isinstance(state, int) else 0
        if cursor >= len(task.documents):
            return "End of documents.", cursor
        return task.documents[cursor], cursor + 1


TOOLS: Mapping[str, Tool] = {"read": Read()}


def chosen(names: Sequence[str]) -> dict[str, Tool]:
    """The tools of a run; ``python`` is the code tool itself."""
    return {name: TOOLS[name] for name in names if name != "python"}
