"""Making a running vLLM read other weights, by its management routes.

Requests in flight are frozen meanwhile and go on with the new weights; their cached prefixes are computed anew.
"""

from pathlib import Path
from typing import Any

import aiohttp

from score_distill.errors import Infrastructure


async def reload(session: aiohttp.ClientSession, root: str, checkpoint: Path) -> None:
    """``checkpoint`` is a path on vLLM's own disk. Whether it then computes with it only a probe shows."""
    try:
        await _post(session, f"{root}/pause", params={"mode": "keep"})
        await _post(
            session,
            f"{root}/collective_rpc",
            json={"method": "reload_weights", "kwargs": {"weights_path": str(checkpoint)}},
        )
        await _post(session, f"{root}/reset_prefix_cache", params={"reset_running_requests": "true"})
    finally:
        await _post(session, f"{root}/resume")


async def _post(session: aiohttp.ClientSession, url: str, **request: Any) -> None:
    try:
        async with session.post(url, **request) as response:
            if response.status != 200:
                said = (await response.text())[:500]
                raise Infrastructure(f"{url}: HTTP {response.status}: {said}")
    except (TimeoutError, aiohttp.ClientError) as error:
        raise Infrastructure(f"{url}: {type(error).__name__}: {error}") from error
