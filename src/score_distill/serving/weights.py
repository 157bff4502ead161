"""Loading weights into whatever serves the student, and proving that it now computes with them.

A stage knows the protocol alone. What is behind it: a vLLM on this machine that reads the checkpoint from the same
disk, or a gateway that takes it over the network, keeps it, and loads it again when its vLLM was restarted.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from score_distill.agent.completer import OpenAIClient
from score_distill.agent.refusals import EndpointRefused
from score_distill.contract import Served
from score_distill.errors import Infrastructure, ModelFailure
from score_distill.serving.parcel import digest, packed
from score_distill.serving.probe import accept, difference, read_probe
from score_distill.serving.reload import reload
from score_distill.serving.untie import copy, tied, untie

LOAD_SECONDS = 1800.0
BASE = "base"


@dataclass(frozen=True)
class Loaded:
    """``version`` names the weights in the header of every answer, ``difference`` is the probe's, in the mean, and
    ``before`` what it was before the load."""

    version: str
    difference: float
    before: float


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
        async with OpenAIClient(self.served) as client, reloadable(checkpoint) as folder:
            before = await difference(client, probe)
            async with _session(self.served) as session:
                await reload(session, self.root, folder)
            off = accept(await difference(client, probe), before, self.dtype, self.served.url, checkpoint)
            return Loaded(await asyncio.to_thread(digest, folder), off, before)


@dataclass(frozen=True)
class BehindGateway:
    """A gateway: asked first for weights that it has, sent them when it has not; the base model it has always."""

    served: Served
    root: str
    dtype: str

    async def load(self, checkpoint: Path) -> Loaded:
        if self.served.model_dir is not None and checkpoint == Path(self.served.model_dir):
            return await self._load(BASE, checkpoint)
        read_probe(checkpoint)
        async with reloadable(checkpoint) as folder:
            return await self._load(await asyncio.to_thread(digest, folder), folder)

    async def _load(self, version: str, folder: Path) -> Loaded:
        url = f"{self.root}/weights/{version}"
        try:
            async with _session(self.served) as session:
                async with session.post(url) as response:
                    status, said = response.status, await response.text()
                    told = await response.json() if status == 200 else {}
                if status == 404 and version != BASE:
                    async with session.put(url, data=packed(folder)) as response:
                        status, said = response.status, await response.text()
                        told = await response.json() if status == 200 else {}
        except (TimeoutError, aiohttp.ClientError) as error:
            raise Infrastructure(f"{url}: {type(error).__name__}: {error}") from error
        return self._loaded(url, folder, status, said[:500], told)

    def _loaded(self, url: str, checkpoint: Path, status: int, said: str, told: Mapping[str, Any]) -> Loaded:
        if status == 422:
            raise ModelFailure(said)
        if status in (401, 403):
            raise EndpointRefused(f"{url}: HTTP {status}: the key was refused")
        if status != 200:
            raise Infrastructure(f"{url}: HTTP {status}: {said}")
        off = accept(told["difference"], told["before"], self.dtype, self.served.url, checkpoint)
        return Loaded(told["version"], off, told["before"])


@asynccontextmanager
async def reloadable(checkpoint: Path) -> AsyncIterator[Path]:
    """The checkpoint with untied embeddings, as the student's server has them, for as long as it is read.

    Of tied ones vLLM would take the embeddings, keep the head that it has, and say nothing.
    """
    if not await asyncio.to_thread(tied, checkpoint):
        yield checkpoint
        return
    with tempfile.TemporaryDirectory(prefix=".untied-", dir=checkpoint.parent) as scratch:
        folder = Path(scratch) / checkpoint.name
        await asyncio.to_thread(untie, checkpoint, folder, copy)
        yield folder


def _session(served: Served) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {Path(served.key_file).read_text().strip()}"} if served.key_file else {}
    timeout = aiohttp.ClientTimeout(total=LOAD_SECONDS, sock_connect=10)
    return aiohttp.ClientSession(headers=headers, timeout=timeout)
