"""The world an agent acts in: an interpreter state and the state of each tool, both frozen after every step.

A `EnvState` is never changed: a step gives the next one. Going back to step k is acting from the world before it, and a
group of rollouts is the same world acted from G times.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from pydantic import JsonValue

from score_distill.agent.tools import Tool
from score_distill.agent.trajectory import Task
from score_distill.sandbox.client import StepResult, ToolCall


class Snapshot(Protocol):
    """A frozen interpreter state (`sandbox.client.Branch`)."""

    async def run(
        self, code: str, tools: Mapping[str, ToolCall] | None = None, *, keep: bool = True, digest: bool = True
    ) -> StepResult: ...

    async def close(self) -> None: ...


@dataclass(frozen=True)
class EnvState:
    """What a task's agent stands in before a step."""

    task: Task
    tools: Mapping[str, Tool]
    snapshot: Snapshot
    memory: Mapping[str, JsonValue]

    async def run(self, code: str, *, keep: bool = True, digest: bool = True) -> "StepOutcome":
        """Execute one step's code and return what came of it; a step that was cut short leaves no trace.

        Without ``keep`` this world is closed by it; without ``digest`` the state that it leaves is not known.
        """
        memory = dict(self.memory)
        tools = {name: _bound(self.task, name, tool, memory) for name, tool in self.tools.items()}
        result = await self.snapshot.run(code, tools, keep=keep, digest=digest)
        if result.undone:
            memory = dict(self.memory)
        after = EnvState(self.task, self.tools, result.branch, memory)
        return StepOutcome(result.output, result.answer, result.error, after.digest(result.state_hash), after)

    def digest(self, interpreter: str | None) -> str | None:
        """One digest over interpreter and tools; None where the interpreter's is not known."""
        if interpreter is None:
            return None
        return hashlib.sha256(f"{interpreter} {json.dumps(self.memory, sort_keys=True)}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StepOutcome:
    """What a step did: the text the model reads, the answer if it gave one, the error's name, and the world after."""

    observation: str
    answer: str | None
    error: str | None
    state: str | None
    world: EnvState


class SnapshotPool:
    """Holds the worlds of one task and closes what is left of them at the end."""

    def __init__(self) -> None:
        self._held: dict[int, Snapshot] = {}

    def hold(self, world: EnvState) -> EnvState:
        self._held[id(world.snapshot)] = world.snapshot
        return world

    def holds(self, world: EnvState) -> bool:
        return id(world.snapshot) in self._held

    def replace(self, world: EnvState, after: EnvState) -> EnvState:
        """Hold ``after`` in the place of the world that was closed by coming to it."""
        del self._held[id(world.snapshot)]
        return self.hold(after)

    async def release(self, worlds: Iterable[EnvState], keep: Iterable[EnvState] = ()) -> None:
        """Close those of ``worlds`` that are held here and not among ``keep``."""
        kept = {id(world.snapshot) for world in keep}
        for key in {id(world.snapshot) for world in worlds} - kept:
            if snapshot := self._held.pop(key, None):
                await snapshot.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._held:
            await self._held.popitem()[1].close()


def _bound(task: Task, name: str, tool: Tool, memory: dict[str, JsonValue]) -> ToolCall:
    async def call(args: Sequence[JsonValue], kwargs: Mapping[str, JsonValue]) -> JsonValue:
        answer, memory[name] = await tool.call(task, memory.get(name), args, kwargs)
        return answer

    return call
