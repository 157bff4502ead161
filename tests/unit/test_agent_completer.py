"""The client against a real server on this machine that misbehaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.unit.web_server import serve

from score_distill.agent.completer import NEVER_ANSWERED, Completion, OpenAIClient, Usage
from score_distill.agent.refusals import ContextOverflow, EndpointRefused, EndpointUnavailable, RequestRefused
from score_distill.api import Sampling
from score_distill.contract import Served

KEY = "sk-very-secret"
GREEDY = Sampling(temperature=0)


def said(text: str = "hello", **more: Any) -> dict[str, Any]:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    return {"choices": [choice | more], "usage": usage}


def sampled(**more: Any) -> dict[str, Any]:
    logprobs = {"token_logprobs": [-0.5, -0.25]}
    choice = {"text": "hi", "token_ids": [5, 2], "finish_reason": "stop", "logprobs": logprobs}
    return {"choices": [choice | more], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


class FakeServer:
    """Answers each request with the next of its answers, the last one for ever; remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), []
        self.headers: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, await request.json()))
        self.headers = dict(request.headers)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            return await answer(request)
        if isinstance(answer, tuple):
            status, body, *headers = answer
            return web.Response(status=status, text=body, headers=headers[0] if headers else None)
        return web.json_response(answer)


@asynccontextmanager
async def client(server: FakeServer, **options: Any) -> AsyncIterator[OpenAIClient]:
    key_file = options.pop("key_file", None)
    async with serve(("/v1/{route:.*}", server.answer)) as url:
        served = Served(url=f"{url}/v1", model="m", key_file=key_file)
        async with OpenAIClient(served, **{"wait": 0, "attempts": 3, **options}) as one:
            yield one


async def chat(one: OpenAIClient, **more: Any) -> Completion:
    return await one.chat([{"role": "user", "content": "q"}], max_tokens=7, sampling=GREEDY, seed=1, **more)


async def generate(one: OpenAIClient, *, logprobs: bool = True) -> Completion:
    return await one.generate([3, 4], max_tokens=7, sampling=GREEDY, seed=1, stop_token=2, logprobs=logprobs)


async def test_chat_says_what_it_wants_and_reads_what_it_gets():
    server = FakeServer(said())
    async with client(server) as one:
        assert await chat(one, schema={"type": "object"}) == Completion("hello", Usage(9, 4, 2))
    ((path, body),) = server.asked
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "q"}],
        "max_tokens": 7,
        "temperature": 0,
        "top_p": 1,
        "seed": 1,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": {"type": "object"}, "strict": True},
        },
    }
    assert "Authorization" not in server.headers


async def test_generate_asks_and_answers_in_token_ids():
    server = FakeServer(sampled())
    async with client(server) as one:
        assert await generate(one) == Completion("hi", Usage(3, 0, 2), False, (5, 2), (-0.5, -0.25))
    body = server.asked[0][1]
    assert (body["prompt"], body["stop_token_ids"], body["logprobs"]) == ([3, 4], [2], 0)
    assert body["return_token_ids"] and not body["skip_special_tokens"]


async def test_logprobs_are_asked_for_only_when_wanted():
    server = FakeServer(sampled(logprobs=None))
    async with client(server) as one:
        assert (await generate(one, logprobs=False)).logprobs == ()
    assert "logprobs" not in server.asked[0][1]


async def test_a_reply_cut_by_its_bound_says_so():
    async with client(FakeServer(said(finish_reason="length"))) as one:
        assert (await chat(one)).truncated


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "prompt_tokens_details": None}])
async def test_a_server_that_counts_no_tokens_is_taken_as_it_is(usage: Any):
    async with client(FakeServer(said() | {"usage": usage})) as one:
        assert (await chat(one)).usage == Usage(0, 0, 0)


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    request.transport.close()
    return response


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


@pytest.mark.parametrize(
    "message",
    [
        {"content": "hello", "reasoning_content": "<code>draft</code>"},
        {"content": "hello", "reasoning": "draft"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "draft"}]},
                {"type": "text", "text": "hello"},
            ]
        },
        {"content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]},
    ],
)
async def test_reasoning_is_no_part_of_what_a_message_says(message: dict[str, Any]):
    async with client(FakeServer(said(message=message))) as one:
        assert (await chat(one)).text == "hello"
    async with client(FakeServer(said(message=message | {"content": None}))) as one:
        assert (await chat(one)).text == ""


TROUBLE = {
    "500": (500, "oops"),
    "502": (502, "<html>"),
    "408": (408, ""),
    "429": (429, "slow down", {"Retry-After": "0"}),
    "429 with a date": (429, "", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "cut body": cut_off,
    "no JSON": (200, "<html>"),
    "half JSON": (200, '{"choices": ['),
    "deep JSON": (200, "[" * 100_000),
    "a list": (200, "[]"),
    "no choice": {"choices": []},
    "an error as a reply": {"error": {"message": "overloaded"}},
    "no message": {"choices": [{"finish_reason": "stop"}]},
    "content of another type": said(["x"]),
    "given up": said(finish_reason="abort"),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE.keys())
async def test_passing_trouble_is_asked_again_and_lasting_trouble_has_a_bound(trouble: Any):
    server = FakeServer(trouble, trouble, said())
    async with client(server) as one:
        assert (await chat(one)).text == "hello"
    assert len(server.asked) == 3
    server = FakeServer(trouble)
    async with client(server) as one:
        with pytest.raises(EndpointUnavailable):
            await chat(one)
    assert len(server.asked) == 3


@pytest.mark.parametrize("wrong", [{"token_ids": None}, {"logprobs": {"token_logprobs": [-0.5]}}, {"logprobs": None}])
async def test_tokens_without_their_logprobs_are_no_reply(wrong: dict[str, Any]):
    server = FakeServer(sampled(**wrong), sampled())
    async with client(server) as one:
        assert (await generate(one)).tokens == (5, 2)
    assert len(server.asked) == 2


async def test_a_server_that_hangs_is_given_up():
    async with client(FakeServer(hang), timeout=0.05, attempts=2) as one:
        with pytest.raises(EndpointUnavailable, match="Timeout"):
            await chat(one)


async def test_a_server_that_is_not_there():
    async with OpenAIClient(Served(url="http://127.0.0.1:1/v1", model="m"), wait=0, attempts=2) as one:
        with pytest.raises(EndpointUnavailable, match=r"127\.0\.0\.1:1"):
            await chat(one)


async def test_retry_after_is_waited_for():
    server = FakeServer((429, "", {"Retry-After": "0.3"}), said())
    async with client(server) as one:
        began = asyncio.get_running_loop().time()
        await chat(one)
        assert asyncio.get_running_loop().time() - began >= 0.3


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_final_and_not_shown(tmp_path: Path, status: int):
    (tmp_path / "key").write_text(f"{KEY}\n")
    server = FakeServer((status, f"Incorrect API key provided: {KEY}"))
    async with client(server, key_file=str(tmp_path / "key")) as one:
        with pytest.raises(EndpointRefused, match="the key was refused") as caught:
            await chat(one)
    assert server.headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(caught.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize("answer", [(404, f"no model for {KEY}"), (200, f"echo {KEY}")])
async def test_no_message_shows_the_key(tmp_path: Path, answer: Any):
    (tmp_path / "key").write_text(KEY)
    async with client(FakeServer(answer), key_file=str(tmp_path / "key")) as one:
        with pytest.raises((EndpointRefused, EndpointUnavailable)) as caught:
            await chat(one)
    assert "***" in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 512 tokens. However, your prompt contains 600",
        "The decoder prompt (length 600) is longer than the maximum model length of 512.",
        '{"error": {"code": "context_length_exceeded"}}',
    ],
)
async def test_a_conversation_that_is_too_long_overflows_at_once(message: str):
    server = FakeServer((400, message))
    async with client(server) as one:
        with pytest.raises(ContextOverflow):
            await chat(one)
    assert len(server.asked) == 1


async def test_one_refused_request_is_told_apart_from_a_refused_key():
    for status, kind in ((400, RequestRefused), (422, RequestRefused), (401, EndpointRefused), (404, EndpointRefused)):
        async with client(FakeServer((status, "content filter"))) as one:
            with pytest.raises(EndpointRefused) as caught:
                await chat(one)
            assert type(caught.value) is kind


async def test_a_server_that_refuses_everything_is_refused_itself():
    async with client(FakeServer((400, "no such parameter"))) as one:
        for _ in range(NEVER_ANSWERED):
            with pytest.raises(RequestRefused):
                await chat(one)
        with pytest.raises(EndpointRefused) as caught:
            await chat(one)
        assert type(caught.value) is EndpointRefused


async def test_another_bad_request_is_refused_with_what_the_server_says():
    async with client(FakeServer((400, "temperature must be a number"))) as one:
        with pytest.raises(EndpointRefused, match="HTTP 400: temperature must be a number"):
            await chat(one)


async def test_no_more_requests_in_flight_than_allowed():
    flying, most, enough = 0, 0, asyncio.Event()

    async def count(_: web.Request) -> web.StreamResponse:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        if flying == 3:
            enough.set()
        await enough.wait()
        await asyncio.sleep(0)
        flying -= 1
        return web.json_response(said())

    async with client(FakeServer(count), concurrency=3) as one:
        await asyncio.gather(*(chat(one) for _ in range(12)))
    assert most == 3


async def test_prompt_logprobs_are_those_of_the_given_tokens():
    given = [None, {"8": {"logprob": -1.5}, "1": {"logprob": -0.1}}, {"9": {"logprob": -2.5}}]
    server = FakeServer(
        {"choices": [{"prompt_logprobs": given}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    )
    async with client(server) as one:
        assert await one.prompt_logprobs([7, 8, 9]) == [-1.5, -2.5]
        said = await one.score([7, 8, 9])
    assert (said.tokens, said.logprobs, said.usage) == ((8, 9), (-1.5, -2.5), Usage(prompt=3, completion=1))
    path, body = server.asked[-1]
    assert (path, body["prompt"], body["max_tokens"]) == ("/v1/completions", [7, 8, 9], 1)
