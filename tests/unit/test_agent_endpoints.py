"""The client against real servers on this machine, each of which plays an endpoint with ways of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from tests.unit.web_server import serve

from score_distill.agent.completer import FIRST, OpenAIClient
from score_distill.agent.refusals import (
    ContextOverflow,
    EndpointRefused,
    EndpointUnavailable,
    QuotaSpent,
    RequestRefused,
)
from score_distill.api import Sampling
from score_distill.contract import SentHeader, Served

Body = dict[str, Any]
ASKED = [{"role": "system", "content": "rules"}, {"role": "user", "content": "q"}]


def openai(param: str | None, code: str | None = "unsupported_parameter", message: str = "no") -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return web.json_response({"error": error}, status=400)


def fastapi(name: str) -> web.Response:
    detail = [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}]
    return web.json_response({"object": "error", "message": {"detail": detail}}, status=422)


def google(name: str) -> web.Response:
    violation = {"field": f"generationConfig.{name}", "description": "unknown"}
    error = {"code": 400, "status": "INVALID_ARGUMENT", "message": "bad", "details": [{"fieldViolations": [violation]}]}
    return web.json_response([{"error": error}], status=400)


def vllm(message: str) -> web.Response:
    told = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    return web.json_response(told, status=400)


def said(text: Any = "hello", reason: Any = "stop", **message: Any) -> web.Response:
    choice = {"message": {"content": text, **message}, "finish_reason": reason}
    return web.json_response({"choices": [choice]})


def _o1(body: Body) -> web.Response | None:
    if "max_tokens" in body:
        return openai("max_tokens")
    for name, only in (("temperature", 1), ("top_p", 1)):
        if body.get(name, only) != only:
            return openai(name, "unsupported_value")
    return None


def _o1_mini(body: Body) -> web.Response | None:
    return openai("messages[0].role", "unsupported_value") if body["messages"][0]["role"] == "system" else _o1(body)


def _refuses(*names: str, by: Callable[[str], web.Response] = openai) -> Callable[[Body], web.Response | None]:
    return lambda body: next((by(name) for name in names if name in body), None)


def _no_schema(body: Body) -> web.Response | None:
    asked = body.get("response_format", {}).get("type")
    return openai("response_format.type", "invalid_value") if asked == "json_schema" else None


def _silent(*names: str) -> Callable[[Body], web.Response | None]:
    return _refuses(*names, by=lambda _: web.Response(status=400, text="Bad Request"))


def _both(body: Body) -> web.Response | None:
    if "temperature" in body and "top_p" in body:
        return vllm("`temperature` and `top_p` cannot both be specified for this model")
    return None


def _no_system(body: Body) -> web.Response | None:
    return vllm("System role not supported") if body["messages"][0]["role"] == "system" else None


JSON_ONLY = {"response_format": {"type": "json_object"}}
ENDPOINTS: dict[str, tuple[Callable[[Body], web.Response | None], int, list[str], Body]] = {
    # what refuses, most refusals, fields that are left out, fields that are there instead
    "takes everything": (lambda _: None, 0, [], {}),
    "o1": (_o1, 2, ["max_tokens", "temperature"], {"max_completion_tokens": 7}),
    "o1-mini": (_o1_mini, 3, ["max_tokens", "temperature"], {"messages": [{"role": "user", "content": "rules\n\nq"}]}),
    "top_p absent": (_refuses("top_p"), 1, ["top_p"], {"temperature": 0}),
    "no seed, FastAPI": (_refuses("seed", by=fastapi), 1, ["seed"], {}),
    "no seed, Google": (_refuses("seed", by=google), 1, ["seed"], {"top_p": 1}),
    "max_tokens and seed, FastAPI": (_refuses("max_tokens", "seed", by=fastapi), 2, ["max_tokens", "seed"], {}),
    "no JSON schema": (_no_schema, 1, [], JSON_ONLY),
    "no response_format": (_refuses("response_format"), 2, ["response_format"], {"seed": 1}),
    "named in a sentence": (_refuses("seed", by=lambda n: vllm(f"Unknown field '{n}'")), 1, ["seed"], {"top_p": 1}),
    "one of two": (_both, 1, ["temperature"], {"top_p": 1}),
    "no system message": (_no_system, 6, [], {"messages": [{"role": "user", "content": "rules\n\nq"}], "seed": 1}),
    "says nothing of max_tokens": (_silent("max_tokens"), 6, ["max_tokens"], {"max_completion_tokens": 7, "seed": 1}),
    "says nothing of seed": (_silent("seed"), 6, ["seed"], {"max_tokens": 7, "top_p": 1, "temperature": 0}),
    "says nothing of three": (
        _silent("seed", "top_p", "response_format"),
        9,
        ["seed", "top_p", "response_format"],
        {"max_tokens": 7},
    ),
    "says nothing of all": (
        _silent("max_tokens", "temperature", "top_p", "seed", "response_format"),
        9,
        ["max_tokens", "temperature", "top_p", "seed", "response_format"],
        {"max_completion_tokens": 7},
    ),
}


@dataclass
class Endpoint:
    """Answers by a function of the request, and remembers what it was asked."""

    answer: Callable[[Body], web.Response | None]
    asked: list[Body] = field(default_factory=list)
    taken: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def reply(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers) | {"query": request.query_string})
        await asyncio.sleep(0)
        if (refused := self.answer(body)) is not None:
            return refused
        self.taken.append(body)
        return said("{}")


@asynccontextmanager
async def client(
    endpoint: Endpoint, *, query: str = "", attempts: int = 3, **served: Any
) -> AsyncIterator[OpenAIClient]:
    async with (
        serve(("/v1/{route:.*}", endpoint.reply)) as url,
        OpenAIClient(Served(url=f"{url}/v1{query}", model="m", **served), wait=0, attempts=3) as one,
    ):
        yield one


async def chat(one: OpenAIClient) -> str:
    sampling = Sampling(temperature=0)
    reply = await one.chat(ASKED, max_tokens=7, sampling=sampling, seed=1, schema={"type": "object"})
    return reply.text


@pytest.mark.parametrize(("refuses", "most", "absent", "there"), ENDPOINTS.values(), ids=ENDPOINTS.keys())
async def test_what_an_endpoint_refuses_is_learned_once(refuses, most, absent, there, caplog):
    endpoint = Endpoint(refuses)
    async with client(endpoint) as one:
        assert await chat(one) == "{}"
        assert len(endpoint.asked) - 1 <= most
        refused = len(endpoint.asked) - len(endpoint.taken)
        for _ in range(3):
            await chat(one)
    assert len(endpoint.asked) - len(endpoint.taken) == refused
    for body in endpoint.taken:
        assert not set(absent) & set(body)
        assert body | there == body
    assert len(caplog.records) == (1 if refused else 0)
    assert all(name in caplog.text for name in absent)


@pytest.mark.parametrize("name", ["o1", "says nothing of seed", "no response_format"])
async def test_a_crowd_pays_a_handful_of_refusals(name):
    refuses, most, _, _ = ENDPOINTS[name]
    endpoint = Endpoint(refuses)
    async with client(endpoint) as one:
        assert await asyncio.gather(*(chat(one) for _ in range(64))) == ["{}"] * 64
    assert len(endpoint.taken) == 64
    assert len(endpoint.asked) - 64 <= most + FIRST


async def test_a_parameter_that_nothing_replaces_ends_the_step_at_once():
    endpoint = Endpoint(_refuses("reasoning_effort"))
    async with client(endpoint, body={"reasoning_effort": "high"}) as one:
        with pytest.raises(EndpointRefused, match="see omit and body") as told:
            await chat(one)
    assert type(told.value) is EndpointRefused
    assert len(endpoint.asked) == 1


async def test_a_vain_search_is_not_begun_for_ever():
    endpoint = Endpoint(lambda _: web.Response(status=400, text="Bad Request"))
    async with client(endpoint) as one:
        for _ in range(20):
            with pytest.raises(RequestRefused):
                await chat(one)
    assert len(endpoint.asked) <= 20 + 3 * 9


async def test_a_refused_task_teaches_nothing_where_others_were_taken():
    endpoint = Endpoint(lambda body: openai(None, None, "seed of evil") if len(endpoint.asked) == 2 else None)
    async with client(endpoint) as one:
        await chat(one)
        with pytest.raises(RequestRefused):
            await chat(one)
        await chat(one)
    assert endpoint.asked[0] == endpoint.asked[2]


async def test_the_manifest_has_the_last_word():
    endpoint = Endpoint(lambda _: None)
    own = {"reasoning_effort": "high", "temperature": 1, "provider": {"order": ["x"]}}
    async with client(endpoint, body=own, omit=("seed", "top_p")) as one:
        await chat(one)
    (body,) = endpoint.asked
    assert body | own == body
    assert not {"seed", "top_p"} & set(body)


async def test_headers_and_the_query_of_the_url_are_sent_and_secrets_are_not_shown(tmp_path):
    (tmp_path / "key").write_text("hush-4711\n")
    headers = (SentHeader(name="X-Team", value="distill"), SentHeader(name="api-key", file=str(tmp_path / "key")))
    endpoint = Endpoint(lambda _: web.Response(status=404, text="nothing for hush-4711"))
    async with client(endpoint, headers=headers, query="?api-version=hush-2") as one:
        with pytest.raises(EndpointRefused) as told:
            await chat(one)
    (sent,) = endpoint.headers
    assert (sent["X-Team"], sent["api-key"], sent["query"]) == ("distill", "hush-4711", "api-version=hush-2")
    assert "hush" not in str(told.value)


async def test_a_secret_that_is_no_header_is_told(tmp_path):
    (tmp_path / "key").write_text("two\nlines")
    with pytest.raises(EndpointRefused, match="the secret for api-key") as told:
        async with client(Endpoint(lambda _: None), headers=(SentHeader(name="api-key", file=str(tmp_path / "key")),)):
            pass
    assert "lines" not in str(told.value).replace("no single line", "")


def error(status: int, code: Any = None, message: str = "words", *, kind: str = "t", **headers: str) -> web.Response:
    told = json.dumps({"error": {"message": message, "type": kind, "code": code}})
    return web.Response(status=status, text=told, headers={key.replace("_", "-"): one for key, one in headers.items()})


def far() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)


def retry_info() -> web.Response:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "40000s"}
    told = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "words", "details": [info]}
    return web.json_response([{"error": told}], status=429)


ONCE: dict[str, tuple[Callable[[], web.Response], type[Exception], str]] = {
    "insufficient_quota": (lambda: error(429, "insufficient_quota"), QuotaSpent, "quota.*words"),
    "quota as a type": (lambda: error(429, None, kind="insufficient_quota"), QuotaSpent, "quota.*words"),
    "billing limit": (lambda: error(429, "billing_hard_limit_reached"), QuotaSpent, "quota.*words"),
    "billing limit, 400": (lambda: error(400, "billing_hard_limit_reached"), QuotaSpent, "quota.*words"),
    "quota, 403": (lambda: error(403, "insufficient_quota"), QuotaSpent, "quota.*words"),
    "budget of a gateway": (lambda: error(429, "429", kind="budget_exceeded"), QuotaSpent, "quota.*words"),
    "budget of a gateway, 400": (lambda: error(400, "400", kind="budget_exceeded"), QuotaSpent, "quota.*words"),
    "quota, AWS": (
        lambda: web.json_response(
            {"__type": "com.amazon#ServiceQuotaExceededException", "message": "words"}, status=400
        ),
        QuotaSpent,
        "quota.*words",
    ),
    "payment required": (lambda: error(402, None), QuotaSpent, "402.*quota.*words"),
    "come back tomorrow": (lambda: error(429, "rate_limit", Retry_After="86400"), QuotaSpent, "quota.*words"),
    "come back at a far date": (lambda: error(429, None, Retry_After=far()), QuotaSpent, "quota.*words"),
    "come back, in the body": (retry_info, QuotaSpent, "quota.*words"),
    "quota in a reply of 200": (lambda: error(200, "insufficient_quota"), EndpointUnavailable, "words"),
    "closed till tomorrow": (lambda: error(503, None, Retry_After="86400"), EndpointUnavailable, "503.*words"),
    "too large": (lambda: web.Response(status=413, text="<html>too large"), RequestRefused, "413"),
    "too large for the context": (lambda: error(413, "tokens_limit_reached"), ContextOverflow, "words"),
    "context, a code": (lambda: error(400, "context_length_exceeded"), ContextOverflow, "words"),
    "context, llama.cpp": (lambda: error(400, 400, kind="exceed_context_size_error"), ContextOverflow, "words"),
    "context, Anthropic": (lambda: error(400, None, "prompt is too long: 9 tokens > 8"), ContextOverflow, "9 tokens"),
    "context, Bedrock": (lambda: error(400, None, "Input is too long for requested model."), ContextOverflow, "long"),
    "context, LiteLLM": (lambda: error(400, "400", "litellm.ContextWindowExceededError"), ContextOverflow, "Window"),
    "context, TGI": (
        lambda: error(422, None, "`inputs` tokens + `max_new_tokens` must be <= 8"),
        ContextOverflow,
        "must be <= 8",
    ),
    "content filter": (lambda: error(400, "content_filter", "temperature"), RequestRefused, "temperature"),
    "content filter, 403": (lambda: error(403, "content_policy_violation"), RequestRefused, "words"),
    "wrong key": (lambda: error(401, "invalid_api_key"), EndpointRefused, "invalidapikey.*the key was refused"),
    "forbidden": (lambda: error(403, "unsupported_country"), EndpointRefused, "unsupportedcountry.*apiKeySecret"),
    "no model, 400": (lambda: error(400, "model_not_found"), EndpointRefused, "words"),
    "no route": (lambda: error(404), EndpointRefused, "404: .*words"),
    "not implemented": (lambda: error(501), EndpointRefused, "501: .*words"),
    "a redirect": (
        lambda: web.Response(status=302, headers={"Location": "https://u:hush@login.example/in?token=hush"}),
        EndpointRefused,
        "sends on to https://login.example/in;",
    ),
    "filtered reply": (lambda: said("half", "content_filter"), RequestRefused, "refused"),
    "refusing reply": (lambda: said(None, refusal="I will not"), RequestRefused, "I will not"),
}


@pytest.mark.parametrize(("reply", "kind", "words"), ONCE.values(), ids=ONCE.keys())
async def test_what_asking_again_does_not_mend_is_asked_once(reply, kind, words):
    endpoint = Endpoint(lambda _: reply())
    async with client(endpoint) as one:
        with pytest.raises((EndpointRefused, EndpointUnavailable, ContextOverflow), match=f"(?s){words}") as told:
            await chat(one)
    assert type(told.value) is kind
    assert "hush" not in str(told.value)
    assert len(endpoint.asked) == (3 if "200" in str(reply().status) and kind is EndpointUnavailable else 1)


AGAIN: dict[str, tuple[Callable[[], web.Response], str]] = {
    "busy": (lambda: error(429, "rate_limit_exceeded", Retry_After="0"), "429.*words"),
    "busy, no code": (lambda: web.Response(status=429, text="slow down"), "429: slow down"),
    "busy till a date that is past": (lambda: error(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), "429.*words"),
    "overloaded": (lambda: error(529, kind="overloaded_error"), "529.*words"),
    "unavailable": (lambda: error(503, Retry_After="0"), "503"),
    "an error of status 502 in a reply of 200": (lambda: error(200, 502), "502.*words"),
    "HTML": (lambda: web.Response(text="<!DOCTYPE html><html>Sign in</html>"), "an HTML page; is the URL"),
    "events": (lambda: web.Response(text='data: {"choices": []}\n\n'), "a stream of events"),
    "cut JSON": (lambda: web.Response(text='{"choices": [{"message": {"content": "he'), "ends early"),
    "no JSON": (lambda: web.Response(text="OK"), "no JSON"),
    "nothing": (lambda: web.Response(text=""), "the reply is empty"),
}


@pytest.mark.parametrize(("reply", "words"), AGAIN.values(), ids=AGAIN.keys())
async def test_what_passes_is_asked_again_and_its_words_are_kept(reply, words):
    endpoint = Endpoint(lambda _: reply() if len(endpoint.asked) < 3 else None)
    async with client(endpoint) as one:
        assert await chat(one) == "{}"
    endpoint = Endpoint(lambda _: reply())
    async with client(endpoint) as one:
        with pytest.raises(EndpointUnavailable, match=f"(?s){words}"):
            await chat(one)
    assert len(endpoint.asked) == 3


@pytest.mark.parametrize(
    ("message", "more", "text", "cut"),
    [
        ({"content": None}, {"finish_reason": "stop"}, "", False),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, {}, "ab", False),
        ({"content": "a"}, {"finish_reason": "max_tokens"}, "a", True),
        ({"content": "a"}, {"finish_reason": "MAX_TOKENS"}, "a", True),
        ({"content": "a"}, {"finish_reason": "model_length"}, "a", True),
        ({"content": "a"}, {"finish_reason": None}, "a", False),
        ({"content": "a"}, {"finish_reason": "end_turn"}, "a", False),
        ({"content": "a"}, {}, "a", False),
        ({"role": "assistant"}, {"finish_reason": "tool_calls"}, "", False),
    ],
)
async def test_variations_of_a_reply_are_read(message, more, text, cut):
    endpoint = Endpoint(lambda _: web.json_response({"choices": [{"message": message, **more}]}))
    async with client(endpoint) as one:
        read = await one.chat(ASKED, max_tokens=7, sampling=Sampling(temperature=0), seed=1)
    assert (read.text, read.truncated) == (text, cut)
