"""Loading weights into whatever serves the student, and proving that it now computes with them.

A stage knows the protocol alone. What is behind it: a vLLM on this machine that reads the checkpoint from the same
disk, or a gateway that takes it over the network, keeps it, and loads it again when its vLLM was restarted.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from score_distill.agent.completer import EndpointRefused, OpenAIClient
from score_distill.contract import Served
from score_distill.errors import Infrastructure, ModelFailure
from score_distill.serving.parcel import digest, packed
from score_distill.serving.probe import accept, difference, read_probe
from score_distill.serving.reload import reload

LOAD_SECONDS = 1800.0
BASE = "base"


@dataclass(frozen=True)
class Loaded:
    """``version`` names the weights in the header of every answer, ``difference`` is the probe's, in the mean."""

    version: str
    difference: float


class ModelServer(Protocol):
    async def load(self, checkpoint: Path) -> Loaded:
        """Make the server compute with ``checkpoint``.

        Raises ModelFailure when it still computes something else, Infrastructure when it does not take the weights.
        """


def model_server(served: Served, dtype: str) -> ModelServer:
    if served.weights_url is not None:
        return BehindGateway(served, served.weights_url, dtype)
    if served.admin_url is not None:
        return OnThisMachine(served, served.admin_url, dtype)
    raise Infrastructure(f"{served.url}: its management routes are not reachable from here")


@dataclass(frozen=True)
class OnThisMachine:
    """A vLLM that sees the checkpoint's path, by its management routes."""

    served: Served
    root: str
    dtype: str

    async def load(self, checkpoint: Path) -> Loaded:
        probe = read_probe(checkpoint)
        async with _session(self.served) as session:
            await reload(session, self.root, checkpoint)
        async with OpenAIClient(self.served) as client:
            off = accept(await difference(client, probe), self.dtype, self.served.url, checkpoint)
        return Loaded(await asyncio.to_thread(digest, checkpoint), off)


@dataclass(frozen=True)
class BehindGateway:
    """A gateway: asked first for weights that it has, sent them when it has not; the base model it has always."""

    served: Served
    root: str
    dtype: str

    async def load(self, checkpoint: Path) -> Loaded:
        if self.served.model_dir is not None and checkpoint == Path(self.served.model_dir):
            version = BASE
        else:
            read_probe(checkpoint)
            version = await asyncio.to_thread(digest, checkpoint)
        url = f"{self.root}/weights/{version}"
        try:
            async with _session(self.served) as session:
                async with session.post(url) as response:
                    status, said = response.status, await response.text()
                    told = await response.json() if status == 200 else {}
                if status == 404 and version != BASE:
                    async with session.put(url, data=packed(checkpoint)) as response:
                        status, said = response.status, await response.text()
                        told = await response.json() if status == 200 else {}
        except (TimeoutError, aiohttp.ClientError) as error:
            raise Infrastructure(f"{url}: {type(error).__name__}: {error}") from error
        return self._loaded(url, checkpoint, status, said[:500], told)

    def _loaded(self, url: str, checkpoint: Path, status: int, said: str, told: Mapping[str, Any]) -> Loaded:
        if status == 422:
            raise ModelFailure(said)
        if status in (401, 403):
            raise EndpointRefused(f"{url}: HTTP {status}: the key was refused")
        if status != 200:
            raise Infrastructure(f"{url}: HTTP {status}: {said}")
        return Loaded(told["version"], accept(told["difference"], self.dtype, self.served.url, checkpoint))


def _session(served: Served) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {Path(served.key_file).read_text().strip()}"} if served.key_file else {}
    timeout = aiohttp.ClientTimeout(total=LOAD_SECONDS, sock_connect=10)
    return aiohttp.ClientSession(headers=headers, timeout=timeout)
