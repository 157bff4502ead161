"""The gateway between a client and a vLLM that is restarted, reloads wrongly, or is not there."""

import asyncio
import signal
import socket
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
from tests.integration.serving.fake_vllm import KEY, FakeVllm, write_weights

from score_distill.agent.completer import Completion, OpenAIClient
from score_distill.agent.refusals import EndpointUnavailable
from score_distill.api import Sampling
from score_distill.contract import Served
from score_distill.errors import BadInput, Infrastructure, ModelFailure
from score_distill.serving.parcel import digest
from score_distill.serving.weights import model_server


@dataclass
class Gate:
    """A gateway in a process of its own before a fake vLLM, and what a stage would know of it."""

    vllm: FakeVllm
    folder: Path
    url: str
    process: asyncio.subprocess.Process
    command: tuple[str, ...]

    @property
    def served(self) -> Served:
        key, base = str(self.folder / "key"), str(self.folder / "base")
        return Served(url=f"{self.url}/v1", model="m", key_file=key, weights_url=self.url, model_dir=base)

    def client(self, attempts: int = 1) -> OpenAIClient:
        return OpenAIClient(self.served, attempts=attempts, wait=0.01)

    def session(self, key: str = KEY) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.url, headers={"Authorization": f"Bearer {key}"})

    async def status(self, path: str) -> int:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}") as response:
            return response.status

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    if await self.status("/ready") == 200:
                        return
                except aiohttp.ClientError:
                    assert self.process.returncode is None, "the gateway ended"
                await asyncio.sleep(0.05)

    async def load(self, checkpoint: Path) -> str:
        return (await model_server(self.served, "float32").load(checkpoint)).version

    async def value(self) -> str:
        """Which weights a completion through the gateway is of."""
        async with self.client() as client:
            return (await generate(client)).text.split()[0]

    async def again(self) -> None:
        self.process = await asyncio.create_subprocess_exec(*self.command)


async def generate(client: OpenAIClient, prompt: tuple[int, ...] = (1, 2)) -> Completion:
    return await client.generate(prompt, max_tokens=9, sampling=Sampling(temperature=0), seed=0, stop_token=4)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def gate(folder: Path, *, managed: bool = True) -> AsyncIterator[Gate]:
    base = write_weights(folder / "base", 0.0, probe=False)
    (folder / "key").write_text(KEY + "\n")
    vllm, port = FakeVllm(base), free_port()
    await vllm.start()
    options = {"--port": str(port), "--upstream": vllm.url, "--model": "m", "--key-file": str(folder / "key")}
    options |= {"--dtype": "float32", "--host": "127.0.0.1"}
    words = [word for option in options.items() for word in option]
    if managed:
        words += ["--managed", "--weights", str(folder / "weights"), "--base", str(base)]
    command = (sys.executable, "-m", "score_distill.serving.gateway", *words)
    one = Gate(vllm, folder, f"http://127.0.0.1:{port}", await asyncio.create_subprocess_exec(*command), command)
    try:
        yield one
    finally:
        vllm.answering.set()
        if one.process.returncode is None:
            one.process.kill()
        await one.process.wait()
        await vllm.stop()


async def test_only_the_key_opens_it_and_only_v1_is_behind_it(tmp_path: Path) -> None:
    async with gate(tmp_path) as here:
        await here.ready()
        assert [await here.status(path) for path in ("/healthz", "/metrics", "/ready")] == [200, 200, 200]
        assert await here.status("/v1/models") == 401
        async with here.session("wrong") as session, session.post("/v1/completions", json={}) as response:
            assert response.status == 401
        async with here.session("wrong") as session, session.post("/weights/base") as response:
            assert response.status == 401
        before = list(here.vllm.admin)
        for path in ("/pause", "/collective_rpc", "/v1/../pause", "/v1/%2e%2e/pause", "/v1//../resume", "/v1/"):
            status = await raw_post(here.url, path)
            assert status == 404, path
        assert here.vllm.admin == before
        assert await here.value() == "0.0"


async def raw_post(url: str, path: str) -> int:
    """POST a path as it is: a client would tidy it."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 0\r\n\r\n"
    writer.write(head.encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_weights_come_over_the_network_and_every_answer_names_them(tmp_path: Path) -> None:
    one = write_weights(tmp_path / "one", 1.0)
    async with gate(tmp_path) as here:
        await here.ready()
        version = await here.load(one)
        assert version == digest(one)
        assert here.vllm.admin[-4:] == ["pause", "collective_rpc", "reset_prefix_cache", "resume"]
        assert here.vllm.loaded != one
        async with here.session() as session, session.get("/v1/none") as response:
            assert response.headers["x-score-weights"] == version
        async with here.client() as client:
            client.version = version
            assert (await generate(client)).text.startswith("1.0")
            client.version = digest(tmp_path / "base")
            with pytest.raises(EndpointUnavailable, match=f"weights {version}"):
                await generate(client)


async def test_a_restarted_vllm_is_never_heard_with_its_base_weights(tmp_path: Path) -> None:
    one = write_weights(tmp_path / "one", 1.0)
    async with gate(tmp_path) as here:
        await here.ready()
        await here.load(one)
        for _ in range(5):
            await here.vllm.restart()
            heard = set()
            while "1.0" not in heard:
                try:
                    heard.add(await here.value())
                except EndpointUnavailable:
                    heard.add("503")
            assert heard <= {"1.0", "503"}
        assert await here.status("/ready") == 200


async def test_while_vllm_is_away_it_is_not_ready_and_asks_to_wait(tmp_path: Path) -> None:
    async with gate(tmp_path) as here:
        await here.ready()
        await here.vllm.stop()
        async with here.session() as session, session.post("/v1/completions", json={"prompt": [1]}) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "10")
        assert await here.status("/ready") == 503
        assert await here.status("/healthz") == 200
        await here.vllm.start()
        await here.ready()


async def test_a_vllm_that_fails_at_log_probabilities_is_not_ready(tmp_path: Path) -> None:
    async with gate(tmp_path, managed=False) as here:
        here.vllm.blind = True
        await here.vllm.restart()
        async with asyncio.timeout(60):
            while not any("prompt_logprobs" in body for _, body in here.vllm.asked):
                await asyncio.sleep(0.05)
        assert await here.status("/ready") == 503
        here.vllm.blind = False
        await here.ready()
        async with here.session() as session, session.put("/weights/x") as response:
            assert response.status == 404


async def test_a_reload_that_did_nothing_is_a_model_failure_and_is_not_served(tmp_path: Path) -> None:
    one, two = write_weights(tmp_path / "one", 1.0), write_weights(tmp_path / "two", 2.0)
    async with gate(tmp_path) as here:
        await here.ready()
        await here.load(one)
        here.vllm.deaf = True
        with pytest.raises(ModelFailure, match="does not compute with these weights"):
            await here.load(two)
        here.vllm.deaf = False
        await here.ready()
        assert await here.value() == "1.0"


async def test_an_answer_that_a_load_overtook_is_held_until_the_load_is_verified(tmp_path: Path) -> None:
    one = write_weights(tmp_path / "one", 1.0)
    async with gate(tmp_path) as here:
        await here.ready()
        here.vllm.answering.clear()
        async with here.session() as session:
            body = {"prompt": [1], "max_tokens": 9}
            asked = asyncio.create_task(session.post("/v1/completions", json=body))
            await here.vllm.got.wait()
            version = await here.load(one)
            here.vllm.answering.set()
            response = await asked
            assert response.headers["x-score-weights"] == version
            assert (await response.json())["choices"][0]["text"].startswith("1.0")


async def test_two_loads_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    checkpoints = [write_weights(tmp_path / str(n), float(n)) for n in range(1, 5)]
    async with gate(tmp_path) as here:
        await here.ready()
        versions = await asyncio.gather(*map(here.load, checkpoints))
        assert versions == [digest(one) for one in checkpoints]
        loads = here.vllm.admin[-16:]
        assert loads == ["pause", "collective_rpc", "reset_prefix_cache", "resume"] * 4
        kept = {path.name for path in (here.folder / "weights").iterdir() if path.is_dir()} - {"base"}
        assert len(kept) <= 2 and here.vllm.loaded.name in kept


async def test_a_restarted_gateway_knows_what_it_must_serve(tmp_path: Path) -> None:
    one = write_weights(tmp_path / "one", 1.0)
    async with gate(tmp_path) as here:
        await here.ready()
        version = await here.load(one)
        here.process.kill()
        await here.process.wait()
        await here.vllm.restart()
        await here.again()
        await here.ready()
        assert await here.value() == "1.0"
        async with here.session() as session, session.post(f"/weights/{version}") as response:
            assert response.status == 200


async def test_the_base_model_is_loaded_by_name_with_the_probe_recorded_at_the_start(tmp_path: Path) -> None:
    one = write_weights(tmp_path / "one", 1.0)
    async with gate(tmp_path) as here:
        (tmp_path / "base").chmod(0o555)
        await here.ready()
        await here.load(one)
        assert await here.load(tmp_path / "base") == "base"
        assert await here.value() == "0.0"
        assert not (tmp_path / "base" / "probe.json").exists()
        here.vllm.deaf = True
        here.vllm.loaded = one
        with pytest.raises(ModelFailure):
            await here.load(tmp_path / "base")


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    whole = BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for about, content in members:
            about.size = len(content)
            tar.addfile(about, BytesIO(content))
    return whole.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = tarfile.SYMTYPE, target
    return about


@pytest.mark.parametrize(
    "tar",
    [
        tar_of((tarfile.TarInfo("../outside"), b"x")),
        tar_of((tarfile.TarInfo("/tmp/outside-of-the-gateway"), b"x")),
        tar_of((link("a", "/etc"), b""), (tarfile.TarInfo("a/outside"), b"x")),
        tar_of((tarfile.TarInfo("big"), bytes(4 << 20))),
        tar_of((tarfile.TarInfo("a"), b"x"), (tarfile.TarInfo("a/b"), b"x")),
        tar_of((tarfile.TarInfo("model.safetensors"), b"other than its name says")),
        b"no tar at all" * 1000,
        b"",
    ],
    ids=["parent", "absolute", "link", "big", "under a file", "other content", "no tar", "nothing"],
)
async def test_what_is_no_checkpoint_is_refused_and_leaves_nothing(tmp_path: Path, tar: bytes) -> None:
    async with gate(tmp_path) as here:
        await here.ready()
        async with here.session() as session, session.put(f"/weights/{'0' * 32}", data=tar) as response:
            assert response.status == 400, await response.text()
        assert {path.name for path in (tmp_path / "weights").iterdir()} == {"base"}
        assert not list(tmp_path.glob("**/outside"))
        assert await here.value() == "0.0"


async def test_a_name_that_is_no_version_reaches_no_path(tmp_path: Path) -> None:
    async with gate(tmp_path) as here:
        await here.ready()
        for name in ("..%2fbase", "x", "base"):
            async with here.session() as session, session.put(f"/weights/{name}", data=b"") as response:
                assert response.status in (400, 404), name


async def test_tokens_are_counted_by_route_with_few_labels(tmp_path: Path) -> None:
    async with gate(tmp_path, managed=False) as here:
        await here.ready()
        async with here.client() as client:
            await generate(client, (1, 2, 3))
        async with here.session() as session:
            for n in range(5):
                await (await session.get(f"/v1/other{n}")).read()
            text = await (await session.get("/metrics")).text()
    assert 'score_gateway_tokens_total{kind="prompt",route="completions"} 3.0' in text
    assert 'score_gateway_tokens_total{kind="completion",route="completions"} 2.0' in text
    assert 'score_gateway_requests_total{route="other",status="4xx"} 5.0' in text


async def test_sigterm_lets_what_is_under_way_end_and_takes_nothing_new(tmp_path: Path) -> None:
    async with gate(tmp_path) as here:
        await here.ready()
        here.vllm.answering.clear()
        async with here.client() as client:
            asked = asyncio.create_task(generate(client))
            await here.vllm.got.wait()
            here.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                while True:
                    try:
                        await here.status("/healthz")
                    except aiohttp.ClientError:
                        break
            assert here.process.returncode is None
            here.vllm.answering.set()
            assert (await asked).text.startswith("0.0")
        assert await asyncio.wait_for(here.process.wait(), 10) == 0


async def test_a_stage_is_told_what_kind_of_failure_it_is(tmp_path: Path) -> None:
    one, bare = write_weights(tmp_path / "one", 1.0), write_weights(tmp_path / "bare", 1.0, probe=False)
    async with gate(tmp_path) as here:
        await here.ready()
        with pytest.raises(ModelFailure, match="no usable probe"):
            await here.load(bare)
        await here.vllm.stop()
        with pytest.raises(Infrastructure, match="503"):
            await here.load(one)
        (tmp_path / "other").write_text("wrong")
        stranger = here.served.model_copy(update={"key_file": str(tmp_path / "other")})
        with pytest.raises(BadInput, match="key was refused"):
            await model_server(stranger, "float32").load(one)
    with pytest.raises(Infrastructure):
        await here.load(one)
