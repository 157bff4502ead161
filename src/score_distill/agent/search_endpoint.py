"""A search engine behind HTTP: POST {"query", "limit"}, answered by {"results": [{"title", "url", "snippet"}]}.

Passing trouble (time-outs, 5xx, 429 with Retry-After, a reply that is none) is asked again with a bound, which leaves
the call of the tool well within the sandbox's; then the model is told. A refused key ends the step, and so does a
server that has failed for many queries in a row. The key appears in no message.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Self

import aiohttp
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from score_distill.agent.refusals import EndpointRefused, EndpointUnavailable
from score_distill.agent.search import Found
from score_distill.sandbox.client import ToolError

SECONDS = 10.0  # of one try
ALL_SECONDS = 30.0  # after which no further try begins
LONGEST_PAUSE = 10.0
REPLY_BYTES = 2**20
FAILURES = 32  # queries in a row without an answer, after which the server is taken to be gone


class SearchEndpoint:
    """One server; use as an async context manager. ``wait`` (seconds) is the pause before the second try."""

    def __init__(
        self, url: str, key: str, results: int, *, attempts: int = 4, seconds: float = SECONDS, wait: float = 1.0
    ) -> None:
        self._url, self._key, self._results = url, key, results
        self._attempts, self._seconds, self._wait = attempts, seconds, wait
        self._failed = 0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=self._seconds))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def find(self, query: str) -> Sequence[Found]:
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(EndpointUnavailable),
                stop=stop_after_attempt(self._attempts) | stop_after_delay(ALL_SECONDS),
                wait=self._pause,
                reraise=True,
            ):
                with attempt:
                    found = self._read(await self._post(query))
                    self._failed = 0
                    return found
        except EndpointUnavailable as error:
            self._failed += 1
            if self._failed >= FAILURES:
                raise
            raise ToolError("the search does not answer now; go on without it, or try later") from error
        raise AssertionError("AsyncRetrying ends in a reply or an error")

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, EndpointUnavailable) else 0.0
        return max(min(asked, LONGEST_PAUSE), wait_random_exponential(multiplier=self._wait, max=LONGEST_PAUSE)(state))

    async def _post(self, query: str) -> bytes:
        if self._session is None:
            raise RuntimeError("SearchEndpoint is used outside its async context")
        body = {"query": query, "limit": self._results}
        content = bytearray()
        try:
            async with self._session.post(self._url, json=body, allow_redirects=False) as response:
                status, retry_after = response.status, response.headers.get("Retry-After", "")
                async for chunk in response.content.iter_chunked(2**16):
                    content += chunk
                    if len(content) > REPLY_BYTES:
                        raise EndpointUnavailable(f"{self._url}: the reply is longer than {REPLY_BYTES} bytes")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EndpointUnavailable(f"{self._url}: {type(error).__name__}: {error}") from error
        if status in (408, 429) or status >= 500:
            seconds = float(retry_after) if re.fullmatch(r"[0-9]{1,6}", retry_after) else 0.0
            raise EndpointUnavailable(f"{self._url}: HTTP {status}", seconds)
        if status in (401, 403):
            raise EndpointRefused(
                f"spec.search.endpoint.apiKeySecret: {self._url}: HTTP {status}: the key was refused, or none was given"
            )
        if status in (400, 422):
            raise ToolError("the search refuses this query; ask in other words")
        if status != 200:
            raise EndpointRefused(f"spec.search.endpoint.url: {self._url}: HTTP {status}: {self._said(content)}")
        return bytes(content)

    def _read(self, content: bytes) -> list[Found]:
        try:
            return [_found(one) for one in json.loads(content)["results"][: self._results]]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise EndpointUnavailable(
                f"{self._url}: not a list of results ({type(error).__name__}: {error}): {self._said(content)!r}"
            ) from error

    def _said(self, content: bytes | bytearray) -> str:
        """The start of a reply, without the key."""
        said = content.decode("utf-8", "replace")
        return (said.replace(self._key, "***") if self._key else said)[:300]


def _found(row: Any) -> Found:
    return Found(**{name: str(row.get(name) or "") for name in ("title", "url", "snippet")})
