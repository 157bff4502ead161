"""The tool ``search``: a query goes to a backend, what comes back is sifted, and one function says how it reads.

Results are other people's text. Each part of one stands on a line of its own, without control characters, so that no
result can pass for another; pages that the manifest blocks and pages that state the task's own question are left out.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict, JsonValue

from score_distill.agent.scripts import words
from score_distill.agent.trajectory import Task
from score_distill.sandbox.client import ToolError

QUERY_CHARS = 400
TITLE_CHARS, URL_CHARS, SNIPPET_CHARS = 160, 300, 500
TOLD_APART = 5  # words from which on a question is not met by chance in a page about something else
NOTHING = "No results."


class Found(BaseModel):
    """One result; ``page`` is the whole text where the backend has it, and is shown to nobody."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    title: str = ""
    url: str = ""
    snippet: str = ""
    page: str = ""

    def bounded(self) -> "Found":
        """What can be shown of it."""
        return Found(
            title=line(self.title, TITLE_CHARS),
            url=line(self.url, URL_CHARS),
            snippet=line(self.snippet, SNIPPET_CHARS),
        )


class Backend(Protocol):
    async def find(self, query: str) -> Sequence[Found]:
        """The results of a normalised query, best first; ToolError for a query that cannot be answered now."""


class Search:
    """``blocked`` as in the manifest; a list of results is at most ``longest`` characters."""

    def __init__(self, backend: Backend, blocked: Iterable[str], longest: int) -> None:
        self._backend, self._longest = backend, longest
        self._blocked = tuple(map(_place, blocked))

    async def call(
        self, task: Task, state: JsonValue, args: Sequence[JsonValue], kwargs: Mapping[str, JsonValue]
    ) -> tuple[JsonValue, JsonValue]:
        found = await self._backend.find(normalised(_query(args, kwargs)))
        sifted = await asyncio.to_thread(self._sifted, task, found)  # whole pages may be read
        return observation(sifted, self._longest), state

    def _sifted(self, task: Task, found: Sequence[Found]) -> list[Found]:
        question = words(task.question)
        asked = _phrase(question) if len(question) >= TOLD_APART else None
        return [
            one
            for one in found
            if not self._is_blocked(one.url)
            and (asked is None or asked not in _phrase(words(f"{one.title} {one.snippet} {one.page}")))
        ]

    def _is_blocked(self, url: str) -> bool:
        host, rest = _place(url)
        return any(f".{host}".endswith(f".{site}") and f"{rest}/".startswith(below) for site, below in self._blocked)


class Recorded:
    """A backend of which every answer is written down: a query has one answer for as long as the run lasts.

    ``known`` are rows written before, by any step of the run; of several for one query the first counts.
    """

    def __init__(
        self, backend: Backend, known: Iterable[Mapping[str, Any]], write: Callable[[dict[str, Any]], None]
    ) -> None:
        self._backend, self._write = backend, write
        self._known: dict[str, tuple[Found, ...]] = {}
        for row in known:
            self._known.setdefault(row["query"], tuple(map(Found.model_validate, row["found"])))
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def find(self, query: str) -> Sequence[Found]:
        lock = self._locks.setdefault(query, asyncio.Lock())
        async with lock:
            if query not in self._known:
                found = tuple(one.bounded() for one in await self._backend.find(query))
                self._write({"query": query, "found": [one.model_dump(exclude={"page"}) for one in found]})
                self._known[query] = found
        return self._known[query]


def observation(found: Sequence[Found], longest: int) -> str:
    """How results read, in every step of a run: numbered, the best first, as many as ``longest`` characters hold."""
    told: list[str] = []
    for number, one in enumerate(found, 1):
        shown = one.bounded()
        text = "\n   ".join(part for part in (f"[{number}] {shown.title}", shown.url, shown.snippet) if part)
        if told and sum(map(len, told)) + len(told) + len(text) > longest:
            break
        told.append(text[:longest])
    return "\n".join(told) or NOTHING


def normalised(query: str) -> str:
    """What is asked, and under which name the answer is kept: case and spaces tell no two queries apart."""
    return " ".join(query.encode("utf-8", "ignore").decode().casefold().split())


def line(text: str, most: int) -> str:
    """``text`` on one line of at most ``most`` characters."""
    plain = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def _query(args: Sequence[JsonValue], kwargs: Mapping[str, JsonValue]) -> str:
    given = [*args, *kwargs.values()]
    if len(given) != 1 or kwargs.keys() - {"query"} or not isinstance(given[0], str):
        raise ToolError("search takes one text, the query")
    if not given[0].strip():
        raise ToolError("the query is empty")
    if len(given[0]) > QUERY_CHARS:
        raise ToolError(f"the query has {len(given[0])} characters; at most {QUERY_CHARS} are searched for")
    return given[0]


def _place(address: str) -> tuple[str, str]:
    """Host, and path with what follows, of an address with or without its scheme, in the spelling that is compared."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return "", ""
    with suppress(UnicodeError):
        host = host.encode("idna").decode()
    rest = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return host.casefold(), unquote(rest).casefold()


def _phrase(found: Sequence[str]) -> str:
    return f" {' '.join(found)} "
