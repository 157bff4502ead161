"""Waiting for models that come up while the stage that asks them is there already."""

import asyncio
import time
from collections.abc import Iterable

import aiohttp

from score_distill.contract import Served
from score_distill.errors import Infrastructure

READY_SECONDS = 7200.0
"""For the largest models: fetched, loaded and proven. A stage that waits in vain is tried again, with a bound."""


async def until_ready(models: Iterable[Served], seconds: float = READY_SECONDS, pause: float = 2.0) -> None:
    """Return when each model that says where to ask has said that it is ready; Infrastructure if one never does."""
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        for url in (one.ready_url for one in models if one.ready_url is not None):
            while (said := await _answer(session, url)) is not None:
                if time.monotonic() >= end:
                    raise Infrastructure(f"{url}: not ready after {seconds:g} s: {said}")
                await asyncio.sleep(pause)


async def _answer(session: aiohttp.ClientSession, url: str) -> str | None:
    """None when it is ready, else why it is not."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            return None if response.status == 200 else f"HTTP {response.status}"
    except (TimeoutError, aiohttp.ClientError) as error:
        return f"{type(error).__name__}: {error}"
