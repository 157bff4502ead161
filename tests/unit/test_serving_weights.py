"""Weight pushes against a fake of vLLM's management routes."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.unit.web_server import serve

from score_distill.agent.completer import OpenAIClient
from score_distill.contract import Served
from score_distill.errors import Infrastructure, ModelFailure
from score_distill.serving.probe import read_probe, record_probe
from score_distill.serving.weights import model_server


class FakeAdmin:
    """A vLLM's management routes; ``broken`` names the route that fails. Its probe gives ``logprobs``, and until its
    weights are reloaded ``before``."""

    def __init__(self, *logprobs: float, before: tuple[float, ...] | None = None, broken: str = "") -> None:
        self.logprobs, self.before, self.broken = logprobs, logprobs if before is None else before, broken
        self.asked: list[str] = []
        self.reload: Any = None

    async def manage(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if request.path == "/collective_rpc":
            self.reload = await request.json()
        return web.Response(status=500 if request.path == f"/{self.broken}" else 200, text="said the server")

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        tokens = (await request.json())["prompt"]
        said = self.before if self.reload is None else self.logprobs
        given = [None, *({str(t): {"logprob": p}} for t, p in zip(tokens[1:], said, strict=True))]
        return web.json_response({"choices": [{"prompt_logprobs": given}]})

    async def push(self, checkpoint: Path, dtype: str = "float32") -> float:
        async with serve(("/v1/completions", self.complete), ("/{route}", self.manage)) as url:
            served = Served(url=f"{url}/v1", model="m", admin_url=url)
            return (await model_server(served, dtype).load(checkpoint)).difference


PAUSED = ["/pause?mode=keep"]
PUSHED = [*PAUSED, "/collective_rpc", "/reset_prefix_cache?reset_running_requests=true", "/resume"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "probe.json").write_text(json.dumps({"ids": [7, 8, 9], "logprobs": [-1.5, -2.5]}))
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": false}')
    return tmp_path


async def test_a_push_is_done_in_order_and_measured(checkpoint: Path):
    admin = FakeAdmin(-1.5, -2.5004, before=(-9.0, -9.0))
    assert await admin.push(checkpoint) == pytest.approx(0.0002)
    assert admin.asked == ["/v1/completions", *PUSHED, "/v1/completions"]
    assert admin.reload == {"method": "reload_weights", "kwargs": {"weights_path": str(checkpoint)}}


@pytest.mark.parametrize(
    ("dtype", "logprobs", "fine"),
    [
        ("float32", (-1.5, -2.497), False),
        ("float32", (-1.5, float("nan")), False),
        ("bfloat16", (-1.4, -2.5), True),
        ("bfloat16", (-1.2, -2.5), False),
    ],
)
async def test_other_logprobs_are_other_weights(checkpoint: Path, dtype: str, logprobs: tuple[float, ...], fine: bool):
    admin = FakeAdmin(*logprobs)
    if fine:
        await admin.push(checkpoint, dtype)
    else:
        with pytest.raises(ModelFailure, match="does not compute with these weights"):
            await admin.push(checkpoint, dtype)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((-1.416, -2.584), (-1.5, -2.5), True),  # 0.084 away before: an untrained SmolLM2 from a trained one
        ((-1.416, -2.584), (-1.48, -2.52), True),  # rounding
        ((-1.416, -2.584), (-1.416, -2.584), False),  # what it was
        ((-1.2, -2.8), (-1.43, -2.57), True),
        ((-1.3, -2.7), (-1.43, -2.57), False),  # the head of before under new embeddings: a third is left
        ((-1.49, -2.51), (-1.49, -2.51), True),  # nobody can tell, and it is logged
    ],
)
async def test_the_weights_of_before_are_told_from_new_ones_that_are_near(
    checkpoint: Path, before: tuple[float, ...], after: tuple[float, ...], told: bool, caplog: pytest.LogCaptureFixture
):
    admin = FakeAdmin(*after, before=before)
    caplog.set_level("INFO")
    if told:
        await admin.push(checkpoint, "bfloat16")
    else:
        with pytest.raises(ModelFailure, match="all or part of the weights that it had"):
            await admin.push(checkpoint, "bfloat16")
    assert ("no proof of the load" in caplog.text) is (before == (-1.49, -2.51))


@pytest.mark.parametrize("broken", ["pause", "collective_rpc", "reset_prefix_cache"])
async def test_the_server_resumes_whatever_breaks(checkpoint: Path, broken: str):
    admin = FakeAdmin(-1.5, -2.5, broken=broken)
    with pytest.raises(Infrastructure, match=f"{broken}: HTTP 500: said the server"):
        await admin.push(checkpoint)
    assert admin.asked[-1] == "/resume"


@pytest.mark.parametrize("probe", ["", "[]", '{"ids": [1, 2], "logprobs": []}', '{"ids": [1], "logprobs": []}', "{}"])
async def test_weights_without_a_probe_are_not_pushed(tmp_path: Path, probe: str):
    (tmp_path / "probe.json").write_text(probe)
    admin = FakeAdmin()
    with pytest.raises(ModelFailure, match="no usable probe"):
        await admin.push(tmp_path)
    assert admin.asked == []


def test_a_server_without_management_routes():
    with pytest.raises(Infrastructure, match="not reachable"):
        model_server(Served(url="http://127.0.0.1:1/v1", model="m"), "float32")


async def test_a_recorded_probe_is_what_the_server_computes(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"vocab_size": 100}')
    admin = FakeAdmin(*(-n / 10 for n in range(63)))
    async with (
        serve(("/v1/completions", admin.complete)) as url,
        OpenAIClient(Served(url=f"{url}/v1", model="m")) as one,
    ):
        await record_probe(one, tmp_path)
    probe = read_probe(tmp_path)
    assert probe.logprobs == admin.logprobs
    assert (len(probe.ids), probe.ids[:3], max(probe.ids) < 100) == (64, (13, 32, 51), True)
