"""Whatever bytes and messages come to the daemon's socket: it answers the next honest session."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from score_distill.sandbox.client import Sandbox
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start
from score_distill.sandbox.wire import pack

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBERS = st.integers(-2, 5) | st.integers(-(1 << 70), 1 << 70)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CODE = st.sampled_from(["x = 1", "1 / 0", "look(1)", "import os; os._exit(1)", "while True: pass", "\0", "("])
REQUESTS = st.fixed_dictionaries(
    {"op": st.sampled_from(["open", "run", "cancel", "close", "reply"]) | VALUES},
    optional={
        "id": NUMBERS | VALUES,
        "seed": NUMBERS | VALUES,
        "branch": NUMBERS | VALUES,
        "call": NUMBERS | VALUES,
        "code": CODE | st.text(max_size=20) | VALUES,
        "tools": st.lists(st.just("look") | st.text(max_size=5), max_size=2) | VALUES,
        "keep": st.booleans() | VALUES,
        "digest": st.booleans() | VALUES,
        "value": VALUES,
        "error": st.text(max_size=20) | VALUES,
    },
)
OPENED = pack({"op": "open", "id": 1, "seed": 0})
RUN = st.fixed_dictionaries(
    {
        "op": st.just("run"),
        "id": NUMBERS,
        "branch": st.integers(0, 3),
        "code": CODE | st.text(max_size=20),
        "tools": st.sampled_from([[], ["look"]]),
        "keep": st.booleans(),
        "digest": st.booleans(),
    }
).map(pack)
WORDS = (
    st.binary(max_size=60).map(lambda body: framed(body))
    | VALUES.map(lambda value: framed(json.dumps(value).encode()))
    | REQUESTS.map(pack)
    | RUN
)
TALK = st.lists(WORDS, min_size=1, max_size=8).map(b"".join) | st.binary(min_size=1, max_size=200)


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with start(Limits(cpu_seconds=1, tool_seconds=0.1), libraries=()) as sandbox:
        yield sandbox


@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(talk=TALK, opened=st.booleans())
async def test_whatever_is_said_the_next_session_is_answered(sandbox: Sandbox, talk: bytes, opened: bool) -> None:
    reader, writer = await asyncio.open_unix_connection(sandbox.socket_path)
    writer.write((OPENED if opened else b"") + talk)
    writer.write_eof()
    async with asyncio.timeout(120):
        await reader.read()
    writer.close()
    honest = await Sandbox.connect(sandbox.socket_path)
    result = await (await honest.open()).run("print(6 * 7)")
    await honest.close()
    assert (result.output, result.error) == ("42", None)
