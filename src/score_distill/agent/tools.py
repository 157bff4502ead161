"""Tools that model-written code calls: what they are named, how the model reads of them, what they answer.

A tool is a pure step from (state, arguments) to (answer, new state). The agent keeps the state beside the interpreter's
snapshot, so going back to step k also takes a tool's cursor back to step k. Tools run in the agent process, which
holds network and keys; the sandbox has neither.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from score_distill.agent.trajectory import Task
from score_distill.sandbox.client import ToolError


class Words(NamedTuple):
    """What a model reads of a tool."""

    signature: str
    description: str


class Tool(Protocol):
    async def call(
        self, task: Task, state: JsonValue, args: Sequence[JsonValue], kwargs: Mapping[str, JsonValue]
    ) -> tuple[JsonValue, JsonValue]:
        """The answer and the tool's state after it; ``state`` is None at the start of a task.

        Raises ToolError for a call that it refuses; the model reads the message.
        """


class Read:
    """The documents of the task, one a call."""

    async def call(
        self, task: Task, state: JsonValue, args: Sequence[JsonValue], kwargs: Mapping[str, JsonValue]
    ) -> tuple[JsonValue, JsonValue]:
        if args or kwargs:
            raise ToolError("read() takes no arguments")
        cursor = state if isinstance(state, int) else 0
        if cursor >= len(task.documents):
            return "End of documents.", cursor
        return task.documents[cursor], cursor + 1


WORDS: Mapping[str, Words] = {
    "read": Words("read() -> str", "the next document of the task; after the last one, 'End of documents.'"),
    "search": Words("search(query: str) -> str", "what is found for the query: titles, addresses and excerpts"),
}


def words(names: Sequence[str], libraries: Sequence[str] = ()) -> dict[str, Words]:
    """What a model reads of the tools of a run; ``python`` is the code tool, which imports the libraries."""
    told = {name: WORDS[name] for name in names if name != "python"}
    imports = {name: Words(f"import {name}", "this library is there besides the standard ones") for name in libraries}
    return told | imports


def chosen(names: Sequence[str], search: Tool | None = None) -> dict[str, Tool]:
    """The tools that the code of a run calls; ``search`` is there where the run has one."""
    there: dict[str, Tool] = {"read": Read()} | ({"search": search} if search else {})
    return {name: there[name] for name in names if name != "python"}
