"""A stage that is there before its models are."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from score_distill.contract import Served
from score_distill.errors import Infrastructure
from score_distill.serving.ready import until_ready


def served(url: str | None) -> Served:
    return Served(url="http://model/v1", model="student", ready_url=url)


async def asked(statuses: list[int], seconds: float) -> int:
    """How often a model was asked that answers with ``statuses``, the last of them from then on."""
    count = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal count
        count += 1
        status = statuses[min(count, len(statuses)) - 1]
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_get("/ready", answer)
    async with TestServer(app) as server:
        await until_ready([served(None), served(str(server.make_url("/ready")))], seconds, pause=0.001)
    return count


def test_a_stage_waits_until_its_models_say_that_they_are_ready() -> None:
    assert asyncio.run(asked([503, 503, 302, 200], 60)) == 4


def test_a_model_that_never_gets_ready_ends_the_attempt_in_a_way_that_is_tried_again() -> None:
    with pytest.raises(Infrastructure, match="not ready after 0 s: HTTP 503"):
        asyncio.run(asked([503], 0))


def test_a_model_that_nobody_answers_for_is_not_ready() -> None:
    with pytest.raises(Infrastructure, match="ClientConnectorError"):
        asyncio.run(until_ready([served("http://127.0.0.1:9/ready")], 0))


def test_models_that_do_not_say_where_to_ask_are_not_waited_for() -> None:
    asyncio.run(until_ready([served(None)], 0))
