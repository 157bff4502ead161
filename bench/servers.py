"""The servers of the quickstart, for benchmarks: the student's vLLM and the sandbox, as a run starts them."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from score_distill import machine, manifest
from score_distill.contract import Served
from score_distill.executors.local.fleet import Fleet
from score_distill.executors.local.layout import RunPaths

QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart.yaml"


@dataclass(frozen=True)
class Servers:
    student: Served
    socket: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {Path(self.student.key_file or '').read_text().strip()}"}

    async def empty_cache(self) -> None:
        async with (
            aiohttp.ClientSession(headers=self.headers) as session,
            session.post(f"{self.student.admin_url}/reset_prefix_cache") as response,
        ):
            response.raise_for_status()


@asynccontextmanager
async def started() -> AsyncIterator[Servers]:
    with TemporaryDirectory() as folder:
        site = RunPaths(
            run=manifest.read(QUICKSTART),
            base=QUICKSTART.parent,
            folder=Path(folder),
            environ=os.environ,
            machine=machine.detect(),
        )
        async with Fleet(site) as fleet:
            needed = fleet.of(("student", "sandbox"))
            for server in needed:
                server.begin()
            for server in needed:
                await server.ready()
            assert fleet.socket is not None
            yield Servers(fleet.served["student"], fleet.socket)
