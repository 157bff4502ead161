"""Asking a model: the protocol, and the client of an OpenAI-compatible server behind it.

The student is asked by token ids and answers in token ids; a teacher is asked by messages. A server that fails now and
then (time-outs, 5xx, 429 with Retry-After, cut or invalid replies) is asked again with a bound; a refusal is final.
The key comes from a file and appears in no message.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from score_distill.agent.chat_template import Message
from score_distill.api import Sampling
from score_distill.contract import Served
from score_distill.errors import BadInput, Infrastructure

T = TypeVar("T")
WEIGHTS_HEADER = "x-score-weights"
NEVER_ANSWERED = 32  # refusals after which a server that has answered nothing is taken to refuse everything
TOO_LONG = re.compile(r"context.length|maximum model length")


class EndpointRefused(BadInput):
    """The server will not answer such a request: wrong key, unknown model, malformed request. Not worth a retry."""


class RequestRefused(EndpointRefused):
    """The server will not answer this one request, as a content filter does; it has answered, or may answer, others."""


class EndpointUnavailable(Infrastructure):
    """The server did not give a usable answer within the bound of retries."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ContextOverflow(Exception):
    """The conversation and its next turn do not fit the model's context."""


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
        self._key = ""
        self._answered, self._refused = False, 0

    async def __aenter__(self) -> Self:
        headers = {}
        if self.served.key_file:
            self._key = Path(self.served.key_file).read_text().strip()
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=self._timeout, connector=aiohttp.TCPConnector(limit=0)
        )
        return self

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
            return Completion(choice["text"], _usage(reply), _truncated(choice), tokens, given)

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
            return Completion(_content(choice["message"]["content"]), _usage(reply), _truncated(choice))

        return await self._ask("chat/completions", body, read)

    async def score(self, tokens: Sequence[int]) -> Completion:
        """By vLLM's ``prompt_logprobs``; it must also sample one token, which is paid for and not read."""
        body = {"model": self.served.model, "prompt": list(tokens), "max_tokens": 1, "prompt_logprobs": 0}

        def read(reply: Mapping[str, Any]) -> Completion:
            given = reply["choices"][0]["prompt_logprobs"]
            found = (float(at[str(token)]["logprob"]) for token, at in zip(tokens[1:], given[1:], strict=True))
            return Completion("", _usage(reply), tokens=tuple(tokens[1:]), logprobs=tuple(found))

        return await self._ask("completions", body, read)

    async def prompt_logprobs(self, tokens: Sequence[int]) -> list[float]:
        """What `score` finds, alone."""
        return list((await self.score(tokens)).logprobs)

    async def _ask(self, route: str, body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> T:
        async with self._slots:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(EndpointUnavailable),
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
                            f"{self.served.url}/{route}: not a completion ({type(error).__name__}: {error}): "
                            f"{self._said(content)!r}"
                        ) from error
        raise AssertionError("AsyncRetrying ends in a reply or an error")

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, EndpointUnavailable) else 0.0
        return max(min(asked, 120.0), wait_random_exponential(multiplier=self._wait, max=30)(state))

    async def _post(self, route: str, body: Mapping[str, Any]) -> bytes:
        if self._session is None:
            raise RuntimeError("OpenAIClient is used outside its async context")
        where = f"{self.served.url}/{route}"
        try:
            async with self._session.post(where, json=body) as response:
                content = await response.read()
                status, retry_after = response.status, response.headers.get("Retry-After", "")
                version = response.headers.get(WEIGHTS_HEADER)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EndpointUnavailable(f"{where}: {type(error).__name__}: {error}") from error
        if status == 429 or status == 408 or status >= 500:
            raise EndpointUnavailable(f"{where}: HTTP {status}", _seconds(retry_after))
        if self.version and version and version != self.version:
            raise EndpointUnavailable(f"{where}: computes with weights {version}, not with {self.version}")
        said = self._said(content)
        if status in (401, 403):
            raise EndpointRefused(f"{where}: HTTP {status}: the key was refused; check the endpoint's apiKeySecret")
        if status == 400 and TOO_LONG.search(said):
            raise ContextOverflow(said)
        if status in (400, 422):
            self._refused += 1
            every = not self._answered and self._refused > NEVER_ANSWERED
            raise (EndpointRefused if every else RequestRefused)(f"{where}: HTTP {status}: {said}")
        if status != 200:
            raise EndpointRefused(f"{where}: HTTP {status}: {said}")
        self._answered = True
        return content

    def _said(self, content: bytes) -> str:
        """The start of a reply, without the key."""
        said = content.decode("utf-8", "replace")
        return (said.replace(self._key, "***") if self._key else said)[:500]


def warmer(sampling: Sampling) -> Sampling:
    """The sampling of a question that is asked again: the greedy answer would come back the same."""
    return sampling.model_copy(update={"temperature": max(sampling.temperature, 0.5)})


def _content(content: Any) -> str:
    """What a message says: text, or a list of parts of which those that are text count, and reasoning does not."""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] in ("text", "output_text"))
    if not isinstance(content, str | None):
        raise TypeError(f"content is a {type(content).__name__}")
    return content or ""


def _seconds(retry_after: str) -> float:
    """Seconds of a Retry-After header; a date counts as none."""
    return float(retry_after) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", retry_after) else 0.0


def _truncated(choice: Mapping[str, Any]) -> bool:
    """Whether the bound of tokens ended the reply; a reply that the server itself gave up is none."""
    reason = choice["finish_reason"]
    if reason in ("abort", "error"):
        raise ValueError(f"finish_reason {reason}")
    return bool(reason == "length")


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
