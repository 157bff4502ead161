"""The student's real vLLM: answers for its key alone, takes pushed weights, and leaves nothing behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from score_distill import manifest
from score_distill.agent.completer import OpenAIClient
from score_distill.executors.local import processes
from score_distill.executors.local.fleet import Fleet
from score_distill.executors.local.layout import run_paths
from score_distill.machine import detect
from score_distill.serving.weights import model_server

pytestmark = pytest.mark.timeout(1800)

QUICKSTART = Path(__file__).parents[4] / "examples" / "quickstart.yaml"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("run")
    site = run_paths(manifest.read(QUICKSTART), QUICKSTART.parent, folder, os.environ, detect())
    async with Fleet(site) as fleet:
        await fleet.servers["student"].ready()
        yield fleet
    assert processes.writers(folder / "logs") == []


@pytest.mark.asyncio(loop_scope="module")
async def test_it_answers_for_its_key_alone_and_the_key_is_in_no_argument_or_log(fleet: Fleet) -> None:
    served = fleet.served["student"]
    assert served.key_file is not None
    async with OpenAIClient(served) as client:
        assert len(await client.prompt_logprobs([5, 6, 7])) == 2
    async with aiohttp.ClientSession() as session, session.get(f"{served.url}/models") as response:
        assert response.status == 401
    key = Path(served.key_file).read_bytes()
    for pid in processes.writers(fleet.site.logs):
        assert key not in Path(f"/proc/{pid}/cmdline").read_bytes()
    for path in fleet.site.logs.iterdir():
        assert key not in path.read_bytes()


@pytest.mark.asyncio(loop_scope="module")
async def test_weights_can_be_pushed_to_it_and_proved(fleet: Fleet) -> None:
    served = fleet.served["student"]
    assert served.model_dir is not None
    loaded = await model_server(served, "float32").load(Path(served.model_dir))
    assert loaded.difference < 1e-4


@pytest.mark.asyncio(loop_scope="module")
async def test_when_its_engine_is_killed_a_new_server_takes_its_place(fleet: Fleet) -> None:
    server, before = fleet.servers["student"], fleet.served["student"].url
    engine = next(
        pid for pid in processes.writers(fleet.site.logs) if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(engine, signal.SIGKILL)
    assert await asyncio.wait_for(server.death(), 120)
    await server.ready()
    assert fleet.served["student"].url != before
    async with OpenAIClient(fleet.served["student"]) as client:
        assert len(await client.prompt_logprobs([5, 6, 7])) == 2
    assert not Path(f"/proc/{engine}").exists()
