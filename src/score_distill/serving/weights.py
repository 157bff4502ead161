"""Pushing new weights into a running vLLM, and proving that it now computes with them.

A checkpoint carries a probe: token ids with the log-probabilities that its trainer computed. After a push the server
must give the same; a reload that silently went wrong (vLLM does so for tied embeddings) ends the stage.
Requests in flight are frozen during a push and go on with the new weights; their cached prefixes are computed anew.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from score_distill.agent.completer import ContextOverflow, EndpointRefused, EndpointUnavailable, OpenAIClient
from score_distill.contract import Served
from score_distill.errors import Infrastructure, ModelFailure

PROBE = "probe.json"
MEAN_DIFFERENCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.1}


@dataclass(frozen=True)
class Probe:
    """``logprobs[i]`` is the log-probability of ``ids[i + 1]`` after ``ids[: i + 1]``."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


def read_probe(checkpoint: Path) -> Probe:
    """Raises ModelFailure when the checkpoint has none."""
    try:
        data = json.loads((checkpoint / PROBE).read_text())
        probe = Probe(tuple(data["ids"]), tuple(data["logprobs"]))
        if not len(probe.ids) - 1 == len(probe.logprobs) > 0:
            raise ValueError(f"{len(probe.ids)} ids, {len(probe.logprobs)} log-probabilities")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFailure(f"{checkpoint}: no usable {PROBE}; weights without one cannot be verified") from error
    return probe


async def record_probe(client: OpenAIClient, folder: Path) -> None:
    """Write the probe of a model that the server has just loaded from disk by itself."""
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    tokens = [(7919 * n + 13) % vocabulary for n in range(64)]
    logprobs = await client.prompt_logprobs(tokens)
    (folder / PROBE).write_text(json.dumps({"ids": tokens, "logprobs": logprobs}))


async def push(served: Served, checkpoint: Path, *, dtype: str, timeout: float = 600) -> float:
    """Make the server compute with ``checkpoint`` and return the mean difference of the probe's log-probabilities.

    Raises ModelFailure when it still computes something else, Infrastructure when it does not take the weights.
    """
    if served.admin_url is None:
        raise Infrastructure(f"{served.url}: its management routes are not reachable from here")
    probe = read_probe(checkpoint)
    headers = {"Authorization": f"Bearer {Path(served.key_file).read_text().strip()}"} if served.key_file else {}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=timeout)) as session:
        try:
            await _post(session, f"{served.admin_url}/pause", params={"mode": "keep"})
            reload = {"method": "reload_weights", "kwargs": {"weights_path": str(checkpoint)}}
            await _post(session, f"{served.admin_url}/collective_rpc", json=reload)
            await _post(session, f"{served.admin_url}/reset_prefix_cache", params={"reset_running_requests": "true"})
        finally:
            await _post(session, f"{served.admin_url}/resume")
    try:
        async with OpenAIClient(served) as client:
            given = await client.prompt_logprobs(probe.ids)
    except (EndpointRefused, EndpointUnavailable, ContextOverflow) as error:
        raise Infrastructure(f"after the push of {checkpoint}: {error}") from error
    difference = sum(abs(a - b) for a, b in zip(given, probe.logprobs, strict=True)) / len(given)
    if not difference <= MEAN_DIFFERENCE[dtype]:
        raise ModelFailure(
            f"{served.url}: after the push of {checkpoint} its log-probabilities are off by {difference:.3g} in the "
            f"mean (bound {MEAN_DIFFERENCE[dtype]} for {dtype}): it does not compute with these weights"
        )
    return difference


async def _post(session: aiohttp.ClientSession, url: str, **request: Mapping[str, Any]) -> None:
    try:
        async with session.post(url, **request) as response:  # type: ignore[arg-type]
            if response.status != 200:
                said = (await response.text())[:500]
                raise Infrastructure(f"{url}: HTTP {response.status}: {said}")
    except (TimeoutError, aiohttp.ClientError) as error:
        raise Infrastructure(f"{url}: {type(error).__name__}: {error}") from error
