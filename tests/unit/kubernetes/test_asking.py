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
    await found.ask(run)
    assert most == asking.AT_ONCE
    assert found.look(run, pods(1024)) == ([], False), "pods that are silent once are asked again"
    await found.ask(run)
    assert found.look(run, pods(1024)) == ([], True)
    assert due == [run]
    found.forget(run)


async def test_pods_are_asked_by_a_clock_and_only_what_is_new_is_told(monkeypatch: Any) -> None:
    asked, done, figures = 0, 1, 0.0
    enough = asyncio.Event()

    async def answers(host: str) -> Progress:
        nonlocal asked, figures
        asked, figures = asked + 1, figures + 1
        if asked == 8:
            enough.set()
        return Progress(done=done, total=9, unit="tasks", figures={"loss": figures})

    monkeypatch.setattr(asking, "progress", answers)
    due: list[tuple[str, str]] = []
    found, run = asking.Asking(due.append, pause=0.0), ("team", "uid")
    found.look(run, pods(2))
    await asyncio.wait_for(enough.wait(), 5)
    assert due == [run], "what pods say again, and figures that no status shows, are no reason for a pass"
    done = 2
    await found.ask(run)
    await found.ask(run)
    assert due == [run, run]
    said, complete = found.look(run, pods(1))
    assert ([one.done for _, one in said], complete) == ([2], True), "of pods that still run"
    assert found.look(run, []) == ([], True)
    await found.ask(run)
    last = asked
    for _ in range(9):
        await asyncio.sleep(0)
    assert asked == last, "where no pod runs none is asked"
    found.forget(run)
    assert found.look(run, [])[0] == []


async def test_a_new_pod_is_asked_at_once(monkeypatch: Any) -> None:
    async def answers(host: str) -> Progress:
        return Progress(done=1, total=9, unit="tasks")

    monkeypatch.setattr(asking, "progress", answers)
    due: list[tuple[str, str]] = []
    found = asking.Asking(due.append)
    for number in range(3):
        found.look(("team", str(number)), pods(1))
        await found.ask(("team", str(number)))
    assert len(due) == 3
    found.look(("team", "0"), pods(2))
    await found.ask(("team", "0"))
    assert due[3:] == [("team", "0")]


def test_no_more_than_a_hundred_runs_a_second_are_asked() -> None:
    assert [asking.pause(runs) for runs in (1, 1000, 2000, 10_000)] == [10, 10, 20, 100]
