"""The vLLM behind a gateway, one process after another: a new one computes with base weights until it is told others.

So an answer is vouched for only when the very process that gave it was proven to compute with the weights loaded
last. Which process answers is known by its start time, asked for whenever a connection to it is made.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp

from score_distill.agent.completer import OpenAIClient
from score_distill.agent.refusals import ContextOverflow
from score_distill.api import Sampling
from score_distill.contract import Served
from score_distill.errors import Infrastructure, StageError
from score_distill.serving.probe import accept, difference, record_probe
from score_distill.serving.reload import reload
from score_distill.serving.shelf import Shelf
from score_distill.serving.weights import BASE

STARTED = re.compile(r"^process_start_time_seconds\s+(\S+)", re.MULTILINE)
WATCH_SECONDS = 1.0
IDLE_SECONDS = 4.0  # below the time after which vLLM closes an idle connection

log = logging.getLogger(__name__)


class Upstream:
    """Use as an async context manager. Without a shelf its weights never change. ``relay`` is for others' requests."""

    relay: aiohttp.ClientSession

    def __init__(self, root: str, model: str, key_file: str, dtype: str, shelf: Shelf | None) -> None:
        self.root, self.dtype, self.shelf = root, dtype, shelf
        self._served = Served(url=f"{root}/v1", model=model, key_file=key_file)
        self._proven: str | None = None
        self._lock = asyncio.Lock()
        self._settled = asyncio.Event()
        self._settled.set()

    async def __aenter__(self) -> Self:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self.suspect)
        unbounded = aiohttp.ClientTimeout(total=None, sock_connect=5)
        self.relay = aiohttp.ClientSession(
            timeout=unbounded,
            trace_configs=[trace],
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
        )
        self._own = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=600, sock_connect=5), connector=aiohttp.TCPConnector(force_close=True)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.relay.close()
        await self._own.close()

    @property
    def version(self) -> str:
        return self.shelf.current if self.shelf else BASE

    @property
    def proven(self) -> bool:
        """Whether it computes with the weights loaded last, as far as is known."""
        return self._proven is not None

    async def vouched(self) -> bool:
        """Whether an answer that has just begun comes of those weights; waits for a load that is under way."""
        await self._settled.wait()
        return self.proven

    async def suspect(self, *_: Any) -> None:
        """A connection to it was made or broke: it may be another process now."""
        if await self._started() != self._proven:
            self._proven = None

    async def load(self, version: str) -> tuple[float, float]:
        """Have it compute with a version of the shelf; the probe's mean difference after and before.

        Raises ModelFailure when it does not, Infrastructure when it fails; then the last version is loaded again.
        """
        assert self.shelf is not None
        async with self._alone():
            self._proven, process = None, await self._process()
            if self.shelf.probe(BASE) is None:
                await self._record()
            told = await self._take(version)
            self.shelf.loaded(version)
            await self._prove(process)
            return told

    async def watch(self) -> None:
        """Prove each new process, for ever; a reason why not is logged once."""
        said = ""
        while True:
            try:
                if await self._started() != self._proven or not self.proven:
                    await self._renew()
                said = ""
            except Exception as error:  # whatever it is, it stays unproven, and may be well a second later
                if said != (said := str(error) if isinstance(error, StageError) else repr(error)):
                    log.warning("%s", said)
            await asyncio.sleep(WATCH_SECONDS)

    async def _renew(self) -> None:
        async with self._alone():
            if self.proven and await self._started() == self._proven:
                return
            self._proven, process = None, await self._process()
            await self._answers()
            if self.shelf and self.shelf.probe(self.version) is None:
                await self._record()
            elif self.shelf:
                await self._take(self.version)
            await self._prove(process)
        log.info("%s computes with %s", self.root, self.version)

    async def _take(self, version: str) -> tuple[float, float]:
        assert self.shelf is not None
        probe = self.shelf.probe(version)
        assert probe is not None
        async with OpenAIClient(self._served, attempts=2) as client:
            before = await difference(client, probe)
            await reload(self._own, self.root, self.shelf.model(version))
            return accept(await difference(client, probe), before, self.dtype, self.root, version), before

    async def _record(self) -> None:
        assert self.shelf is not None
        async with OpenAIClient(self._served, attempts=2) as client:
            await record_probe(client, self.shelf.base, self.shelf.folder / BASE)

    async def _answers(self) -> None:
        """A server may be up and still fail at log-probabilities: both are asked for."""
        async with OpenAIClient(self._served, attempts=1) as client:
            try:
                await client.generate([1], max_tokens=1, sampling=Sampling(temperature=0), seed=0, stop_token=0)
                await client.prompt_logprobs([1, 2])
            except ContextOverflow as error:
                raise Infrastructure(f"{self.root}: {error}") from error

    async def _prove(self, process: str) -> None:
        if await self._started() != process:
            raise Infrastructure(f"{self.root}: it was restarted meanwhile")
        self._proven = process

    async def _process(self) -> str:
        process = await self._started()
        if process is None:
            raise Infrastructure(f"{self.root}: it is not up")
        return process

    async def _started(self) -> str | None:
        """When the process that answers now was started, "" when it does not say; None when none answers."""
        try:
            timeout = aiohttp.ClientTimeout(total=30, sock_connect=2)
            async with self._own.get(f"{self.root}/metrics", timeout=timeout) as response:
                found = STARTED.search(await response.text())
        except (TimeoutError, aiohttp.ClientError):
            return None
        return found[1] if found else ""

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._lock:
            self._settled.clear()
            try:
                yield
            finally:
                self._settled.set()
