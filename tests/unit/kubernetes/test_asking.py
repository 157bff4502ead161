"""Pods are asked how far they are: whatever they answer, and however slowly, a pass goes on."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.unit.kubernetes.world import Body

from score_distill.contract import Progress
from score_distill.executors.kubernetes import asking

GOOD = b'{"done": 3, "total": 9, "unit": "tasks"}'
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def says(reply: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        writer.close()

    return answer


async def drips(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"H")
        await asyncio.sleep(0.01)


async def drips_after_the_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
    await drips(writer)


async def is_silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def floods(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


@asynccontextmanager
async def pod(answer: Answer) -> AsyncIterator[tuple[int, list[bytes]]]:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            await answer(writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_a_pod_that_answers_has_progress(version: bytes) -> None:
    async with pod(says(version + b" 200 OK\r\nContent-Type: application/json\r\n\r\n" + GOOD)) as (port, asked):
        assert await asking.progress("127.0.0.1", port) == Progress(done=3, total=9, unit="tasks")
    assert asked[0].startswith(b"GET /progress HTTP/1.0\r\n")


BAD = {
    "nothing": b"",
    "no head": GOOD,
    "half a head": b"HTTP/1.0 200 OK\r\n",
    "malformed status": b"HTTP/1.0 twohundred OK\r\n\r\n" + GOOD,
    "no code": b"HTTP/1.0\r\n\r\n" + GOOD,
    "another protocol": b"\x00\xff\xfe 200 OK\r\n\r\n" + GOOD,
    "an error": b"HTTP/1.0 500 Oh\r\n\r\n" + GOOD,
    "null": b"HTTP/1.0 200 OK\r\n\r\nnull",
    "not JSON": b"HTTP/1.0 200 OK\r\n\r\n{",
    "not UTF-8": b'HTTP/1.0 200 OK\r\n\r\n{"done": 3, "total": 9, "unit": "\xff"}',
    "too deep": b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 50000,
    "a cut answer": b"HTTP/1.0 200 OK\r\n\r\n" + GOOD[:-3],
    "too long": b"HTTP/1.0 200 OK\r\n\r\n" + GOOD + b" " * 65536,
    "endless head": b"HTTP/1.0 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n" + GOOD,
}


@pytest.mark.parametrize("reply", BAD.values(), ids=BAD)
async def test_any_other_answer_is_none(reply: bytes) -> None:
    async with pod(says(reply)) as (port, _):
        assert await asking.progress("127.0.0.1", port) is None


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_nothing_is_followed(code: int) -> None:
    async with pod(says(b"HTTP/1.0 200 OK\r\n\r\n" + GOOD)) as (there, asked):
        to = f"HTTP/1.0 {code} Go\r\nLocation: http://127.0.0.1:{there}/progress\r\n\r\n".encode()
        async with pod(says(to)) as (port, _):
            assert await asking.progress("127.0.0.1", port) is None
    assert asked == []


@pytest.mark.parametrize("answer", [drips, drips_after_the_head, is_silent, floods])
async def test_the_whole_answer_has_one_deadline(answer: Answer) -> None:
    async with pod(answer) as (port, _):
        began = time.monotonic()
        assert await asking.progress("127.0.0.1", port, seconds=0.3) is None
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "not an address", ""])
async def test_a_pod_that_is_not_there_does_not_answer(host: str) -> None:
    assert await asking.progress(host, 1) is None


def pods(count: int, step: str = "mentor") -> list[tuple[str, Body]]:
    return [(step, {"metadata": {"uid": f"{step}-{i}"}, "status": {"podIP": "127.0.0.1"}}) for i in range(count)]


async def test_a_thousand_silent_pods_hold_no_pass_and_are_asked_a_few_at_a_time(monkeypatch: Any) -> None:
    now = most = 0

    async def silent(host: str) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    monkeypatch.setattr(asking, "progress", silent)
    due: list[tuple[str, str]] = []
    found = asking.Asking(due.append)
    run = ("team", "uid")
    assert found.look(run, pods(1024)) == ([], False)
    assert due == [], "looking waits for no pod"
    await found.finish(run)
    assert most == asking.AT_ONCE
    assert found.look(run, pods(1024)) == ([], False), "pods that are silent once are asked again"
    await found.finish(run)
    assert found.look(run, pods(1024)) == ([], True)
    assert due == [run]


async def test_new_answers_are_read_before_pods_are_asked_again_and_only_those_of_pods_that_run(
    monkeypatch: Any,
) -> None:
    asked = 0

    async def answers(host: str) -> Progress:
        nonlocal asked
        asked += 1
        return Progress(done=asked, total=9, unit="tasks")

    monkeypatch.setattr(asking, "progress", answers)
    due: list[tuple[str, str]] = []
    found, run = asking.Asking(due.append), ("team", "uid")
    found.look(run, pods(2))
    found.look(run, pods(2))
    await found.finish(run)
    assert (asked, due) == (2, [run])
    said, complete = found.look(run, pods(1))
    assert ([one.done for _, one in said], complete) == ([1], True)
    await found.finish(run)
    assert asked == 2
    found.look(run, pods(1))
    await found.finish(run)
    assert asked == 3
    assert found.look(run, []) == ([], True)
    found.forget(run)
    assert found.look(run, [])[0] == []
