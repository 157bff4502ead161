"""Asking a model: the protocol, and the client of an OpenAI-compatible server behind it.

The student is asked by token ids and answers in token ids; a teacher is asked by messages. A server that fails now and
then (time-outs, 5xx, 429 with Retry-After, cut or invalid replies) is asked again with a bound; a refusal is final, but
one for the form of a chat request, which is learned from. Keys come from files and appear in no message.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential
from yarl import URL

from score_distill.agent.chat_template import Message
from score_distill.agent.dialect import FORMS, Dialect, Lesson
from score_distill.agent.refusals import (
    LONGEST_PAUSE,
    UNSUPPORTED,
    EndpointRefused,
    EndpointUnavailable,
    RequestRefused,
    error_of,
    read_refusal,
    seconds_until,
)
from score_distill.agent.replies import content_of, filtered, truncated, unusable
from score_distill.api import Sampling
from score_distill.contract import Served

T = TypeVar("T")
Reply = Mapping[str, Any]
WEIGHTS_HEADER = "x-score-weights"
NEVER_ANSWERED = 32  # refusals after which a server that has answered nothing is taken to refuse everything
FIRST = 4  # requests at once of a form that the server has not yet taken
LESSONS = 3  # vain searches for a form that it takes, after which none is begun

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Usage:
    """Tokens of one request; ``cached`` is the part of ``prompt`` that the server had not to compute again."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass(frozen=True)
class Completion:
    """A reply; ``tokens`` and ``logprobs`` (one for each token) are there when asked for by token ids."""

    text: str
    usage: Usage
    truncated: bool = False
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


class Completer(Protocol):
    async def generate(
        self,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        sampling: Sampling,
        seed: int,
        stop_token: int,
        logprobs: bool = False,
    ) -> Completion:
        """Continue token ids up to and with ``stop_token``."""

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        sampling: Sampling,
        seed: int,
        schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        """Answer messages; with ``schema`` the server is held to that JSON schema."""

    async def score(self, tokens: Sequence[int]) -> Completion:
        """The model's log-probability of each token after the first, given those before it, at temperature 1."""


class OpenAIClient:
    """One server, many requests at once; use as an async context manager.

    ``attempts`` bounds the tries of one request, ``timeout`` (seconds) each try. ``concurrency`` bounds requests in
    flight: above it callers wait here, not in the server. ``version`` names the weights that answers must be of, where
    the server says which; None takes any.

    The forms of chat requests that the server refuses are learned once (`Dialect`); until it has taken a form, few
    requests of it are in flight.
    """

    def __init__(
        self, served: Served, *, concurrency: int = 64, attempts: int = 6, timeout: float = 600, wait: float = 1.0
    ) -> None:
        self.served = served
        self.version: str | None = None
        self._attempts, self._wait = attempts, wait
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=10)
        self._session: aiohttp.ClientSession | None = None
        self._secrets: list[str] = []
        self._answered, self._refused = False, 0
        self._dialect, self._vain = Dialect(), 0
        self._proven: set[str] = set()
        self._first, self._learning = asyncio.Semaphore(FIRST), asyncio.Lock()

    async def __aenter__(self) -> Self:
        headers = {one.name: one.value for one in self.served.headers}
        for one in self.served.headers:
            if one.file:
                headers[one.name] = self._secret(one.file, one.name)
        if self.served.key_file:
            headers["Authorization"] = f"Bearer {self._secret(self.served.key_file, 'Authorization')}"
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=self._timeout, connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    def _secret(self, file: str, header: str) -> str:
        value = Path(file).read_text().strip()
        if not value or not all(" " <= letter <= "~" for letter in value):
            raise EndpointRefused(f"{self._where}: the secret for {header} is empty or no single line of plain letters")
        self._secrets.append(value)
        return value

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def generate(
        self,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        sampling: Sampling,
        seed: int,
        stop_token: int,
        logprobs: bool = False,
    ) -> Completion:
        body = {
            "prompt": list(prompt),
            "stop_token_ids": [stop_token],
            "return_token_ids": True,
            "skip_special_tokens": False,
            **_sampled(self.served.model, max_tokens, sampling, seed),
            **({"logprobs": 0} if logprobs else {}),
        }

        def read(reply: Mapping[str, Any]) -> Completion:
            choice = reply["choices"][0]
            tokens = tuple(choice["token_ids"])
            given = tuple(choice["logprobs"]["token_logprobs"]) if logprobs else ()
            if logprobs and len(given) != len(tokens):
                raise ValueError(f"{len(given)} logprobs for {len(tokens)} tokens")
            return Completion(choice["text"], _usage(reply), truncated(choice), tokens, given)

        with self._counted():
            return await self._ask("completions", body, read)

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        sampling: Sampling,
        seed: int,
        schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        body = {"messages": list(messages), **_sampled(self.served.model, max_tokens, sampling, seed)}
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "schema": dict(schema), "strict": True},
            }

        def read(reply: Mapping[str, Any]) -> Completion:
            choice = reply["choices"][0]
            message = choice["message"]
            text = content_of(message.get("content"))
            if filtered(choice) or (message.get("refusal") and not text):
                raise RequestRefused(f"{self._where}: the model or its filter refused: {message.get('refusal') or ''}")
            return Completion(text, _usage(reply), truncated(choice))

        kept = {name: value for name, value in body.items() if name not in self.served.omit}
        own = self.served.body
        changeable = kept.keys() & FORMS.keys() - own.keys()
        if kept["messages"][0]["role"] != "system":
            changeable -= {"messages"}
        with self._counted():
            async with self._few_at_first(changeable):
                reply = await self._in_dialect(kept, own, changeable, read)
                self._proven |= changeable
        return reply

    async def score(self, tokens: Sequence[int]) -> Completion:
        """By vLLM's ``prompt_logprobs``; it must also sample one token, which is paid for and not read."""
        body = {"model": self.served.model, "prompt": list(tokens), "max_tokens": 1, "prompt_logprobs": 0}

        def read(reply: Mapping[str, Any]) -> Completion:
            given = reply["choices"][0]["prompt_logprobs"]
            found = (float(at[str(token)]["logprob"]) for token, at in zip(tokens[1:], given[1:], strict=True))
            return Completion("", _usage(reply), tokens=tuple(tokens[1:]), logprobs=tuple(found))

        with self._counted():
            return await self._ask("completions", body, read)

    async def prompt_logprobs(self, tokens: Sequence[int]) -> list[float]:
        """What `score` finds, alone."""
        return list((await self.score(tokens)).logprobs)

    async def _in_dialect(
        self, body: Mapping[str, Any], own: Mapping[str, Any], changeable: Set[str], read: Callable[[Reply], T]
    ) -> T:
        async def ask(dialect: Dialect) -> T:
            return await self._ask("chat/completions", {**dialect.spoken(body), **own}, read)

        used = self._dialect
        try:
            return await ask(used)
        except RequestRefused as error:
            if error.refusal is None:
                raise
            refused = error
        async with self._learning:
            if self._dialect != used:  # another request has learned meanwhile
                used = self._dialect
                try:
                    return await ask(used)
                except RequestRefused as error:
                    refused = error
            lesson = Lesson(used, changeable, changeable - self._proven)
            trying: Dialect | None = used
            refusal = refused.refusal
            while self._vain < LESSONS and trying and refusal and (trying := lesson.next(trying, refusal)):
                try:
                    reply = await ask(trying)
                except RequestRefused as error:
                    refusal = error.refusal
                    if lesson.dialect == trying:
                        refused = error
                else:
                    self._dialect = trying
                    log.warning("%s: learned from a refusal: %s", self._where, trying.told())
                    return reply
            self._vain += len(lesson.tried) > 1
        if refused.refusal and refused.refusal.codes & UNSUPPORTED:
            raise EndpointRefused(f"{refused}; see omit and body of spec.teacher.endpoint")
        raise refused

    @asynccontextmanager
    async def _few_at_first(self, names: Set[str]) -> AsyncIterator[None]:
        if not names <= self._proven:
            async with self._first:
                if not names <= self._proven:
                    yield
                    return
        yield

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """A server that has answered nothing and refuses request after request refuses everything."""
        try:
            yield
        except RequestRefused as error:
            self._refused += 1
            if not self._answered and self._refused > NEVER_ANSWERED:
                raise EndpointRefused(str(error)) from error
            raise

    async def _ask(self, route: str, body: Mapping[str, Any], read: Callable[[Reply], T]) -> T:
        async with self._slots:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(_passes),
                stop=stop_after_attempt(self._attempts),
                wait=self._pause,
                reraise=True,
            ):
                with attempt:
                    content = await self._post(route, body)
                    try:
                        return read(json.loads(content))
                    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                        raise EndpointUnavailable(
                            f"{self._where}/{route}: not a completion ({unusable(content, error)}): "
                            f"{self._said(content)!r}"
                        ) from error
        raise AssertionError("AsyncRetrying ends in a reply or an error")

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, EndpointUnavailable) else 0.0
        return max(asked, wait_random_exponential(multiplier=self._wait, max=30)(state))

    @property
    def _where(self) -> str:
        return shown(self.served.url)

    async def _post(self, route: str, body: Mapping[str, Any]) -> bytes:
        if self._session is None:
            raise RuntimeError("OpenAIClient is used outside its async context")
        where = f"{self._where}/{route}"
        try:
            url = address(self.served.url, route)
            async with self._session.post(url, json=body, allow_redirects=False) as response:
                content = await response.read()
                status, headers = response.status, response.headers
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EndpointUnavailable(f"{where}: {type(error).__name__}: {self._hidden(str(error))}") from error
        version = headers.get(WEIGHTS_HEADER)
        if 300 <= status < 400:
            to = shown(headers.get("Location", ""))
            raise EndpointRefused(f"{where}: HTTP {status}: it sends on to {to}; give the address that answers itself")
        refusal = read_refusal(content)
        status = refusal.status if status == 200 and b'"choices"' not in content and refusal.status else status
        if self.version and version and version != self.version and status < 429:
            raise EndpointUnavailable(f"{where}: computes with weights {version}, not with {self.version}")
        if status != 200:
            asked = max(seconds_until(headers.get("Retry-After", ""), datetime.now(UTC)), refusal.retry_after)
            raise error_of(f"{where}: HTTP {status}", status, refusal, asked, self._said(content))
        self._answered = True
        return content

    def _said(self, content: bytes) -> str:
        """The start of a reply, without the keys."""
        return self._hidden(content.decode("utf-8", "replace"))[:500]

    def _hidden(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _passes(error: BaseException) -> bool:
    """Whether to ask again."""
    return isinstance(error, EndpointUnavailable) and error.retry_after <= LONGEST_PAUSE


def address(base: str, route: str) -> URL:
    """The URL of a route below the base, whose query it keeps (some want ``?api-version=``)."""
    url = URL(base)
    return (url / route).with_query(url.query)


def shown(url: str) -> str:
    """A URL without what may be a secret in it."""
    try:
        found = URL(url)
        return str((found.with_user(None) if found.absolute else found).with_query(None))
    except ValueError:
        return "no URL"


def warmer(sampling: Sampling) -> Sampling:
    """The sampling of a question that is asked again: the greedy answer would come back the same."""
    return sampling.model_copy(update={"temperature": max(sampling.temperature, 0.5)})


def _sampled(model: str, max_tokens: int, sampling: Sampling, seed: int) -> dict[str, Any]:
    return {
        "model": model,
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed,
    }


def _usage(reply: Mapping[str, Any]) -> Usage:
    usage = reply.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        usage.get("prompt_tokens") or 0, details.get("cached_tokens") or 0, usage.get("completion_tokens") or 0
    )
