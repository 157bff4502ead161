"""Asking a model: the protocol, and the client of an OpenAI-compatible server behind it.

The student is asked by token ids and answers in token ids; a teacher is asked by messages. A server that fails now and
then (time-outs, 5xx, 429 with Retry-After, cut or invalid replies) is asked again with a bound; a refusal is final.
The key comes from a file and appears in no message.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from score_distill.agent.chat import Message
from score_distill.api import Sampling
from score_distill.contract import Served


class EndpointRefused(Exception):
    """The server will not answer such a request: wrong key, unknown model, malformed request. Not worth a retry."""


class EndpointUnavailable(Exception):
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


class OpenAIClient:
    """One server, many requests at once; use as an async context manager.

    ``attempts`` bounds the tries of one request, ``timeout`` (seconds) each try. ``concurrency`` bounds requests in
    flight: above it callers wait here, not in the server.
    """

    def __init__(
        self, served: Served, *, concurrency: int = 64, attempts: int = 6, timeout: float = 600, wait: float = 1.0
    ) -> None:
        self.served = served
        self._attempts, self._wait = attempts, wait
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=10)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {}
        if self.served.key_file:
            headers["Authorization"] = f"Bearer {Path(self.served.key_file).read_text().strip()}"
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
        reply, usage = await self._ask("completions", body)
        choice = reply["choices"][0]
        return Completion(
            text=choice["text"],
            usage=usage,
            truncated=choice["finish_reason"] == "length",
            tokens=tuple(choice["token_ids"]),
            logprobs=tuple(choice["logprobs"]["token_logprobs"]) if logprobs else (),
        )

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
        reply, usage = await self._ask("chat/completions", body)
        choice = reply["choices"][0]
        return Completion(choice["message"]["content"] or "", usage, truncated=choice["finish_reason"] == "length")

    async def prompt_logprobs(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of each token after the first, given those before it (vLLM's ``prompt_logprobs``)."""
        body = {"model": self.served.model, "prompt": list(tokens), "max_tokens": 1, "prompt_logprobs": 0}
        reply, _ = await self._ask("completions", body)
        given = reply["choices"][0]["prompt_logprobs"]
        return [float(at[str(token)]["logprob"]) for token, at in zip(tokens[1:], given[1:], strict=True)]

    async def _ask(self, route: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], Usage]:
        async with self._slots:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(EndpointUnavailable),
                stop=stop_after_attempt(self._attempts),
                wait=self._pause,
                reraise=True,
            ):
                with attempt:
                    reply = await self._post(route, body)
                    return reply, _usage(reply)
        raise AssertionError("AsyncRetrying ends in a reply or an error")

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, EndpointUnavailable) else 0.0
        return max(min(asked, 120.0), wait_random_exponential(multiplier=self._wait, max=30)(state))

    async def _post(self, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("OpenAIClient is used outside its async context")
        where = f"{self.served.url}/{route}"
        try:
            async with self._session.post(where, json=body) as response:
                content = await response.read()
                status, retry_after = response.status, response.headers.get("Retry-After", "")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EndpointUnavailable(f"{where}: {type(error).__name__}: {error}") from error
        if status == 429 or status == 408 or status >= 500:
            raise EndpointUnavailable(f"{where}: HTTP {status}", float(retry_after) if retry_after.isdigit() else 0.0)
        said = content[:500].decode("utf-8", "replace")
        if status in (401, 403):
            raise EndpointRefused(f"{where}: HTTP {status}: the key was refused; check the endpoint's apiKeySecret")
        if status == 400 and "context length" in said:
            raise ContextOverflow(said)
        if status != 200:
            raise EndpointRefused(f"{where}: HTTP {status}: {said}")
        try:
            reply = json.loads(content)
            reply["choices"][0]["finish_reason"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise EndpointUnavailable(f"{where}: not a completion: {said!r}") from error
        return dict(reply)


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
    return Usage(usage.get("prompt_tokens", 0), details.get("cached_tokens") or 0, usage.get("completion_tokens", 0))
