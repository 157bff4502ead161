"""Every step is answered, whatever its code leaves or says; and no daemon, of whatever kind, keeps a client waiting."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from score_distill.sandbox.client import Sandbox, SandboxError, SandboxLost, ToolCall
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start
from score_distill.sandbox.wire import PROTOCOL

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = Limits(wall_seconds=20, cpu_seconds=3, files=2000, message_bytes=1 << 20)
PATIENCE = 30


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with start(LIMITS, libraries=()) as sandbox:
        yield sandbox


LONG_TREES = {
    "a tree renamed past the longest path": """
import os
for tree in 'ab':
    for n in range(14):
        os.mkdir(tree + ('/' + 'x' * 240) * n)
os.rename('b', 'a' + ('/' + 'x' * 240) * 13 + '/b')
""",
    "six hundred nested folders": "import os\nfor n in range(600): os.mkdir('d'); os.chdir('d')",
    "a folder moved into a deep one": """
import os
os.makedirs('/'.join('a' * 60)); os.makedirs('/'.join('b' * 60))
os.rename('b', '/'.join('a' * 60) + '/b')
""",
}


@pytest.mark.parametrize("code", LONG_TREES.values(), ids=LONG_TREES)
async def test_a_tree_too_deep_to_walk_is_refused_to_the_step_that_makes_it(sandbox: Sandbox, code: str) -> None:
    async with asyncio.timeout(PATIENCE):
        branch = await sandbox.open()
        result = await branch.run(code)
        assert result.error == "OSError" and "name too long" in result.output, result.output
        assert (await result.branch.run("print('alive')")).output == "alive"


def tool(calls: list[object]) -> dict[str, ToolCall]:
    async def look(args: list[object], kwargs: dict[str, object]) -> str:
        calls.append(args)
        return "seen"

    return {"look": look}


@pytest.mark.parametrize("depth", [50, 200, 978, 5000])
async def test_arguments_of_any_depth_are_answered(sandbox: Sandbox, depth: int) -> None:
    calls: list[object] = []
    code = f"x = 0\nfor _ in range({depth}): x = [x]\nprint(look(x))"
    async with asyncio.timeout(PATIENCE):
        result = await (await sandbox.open(tools=tool(calls))).run(code)
        if depth == 50:
            assert (result.output, len(calls)) == ("seen", 1)
        else:
            assert result.error in ("ValueError", "RecursionError") and not calls, result.output
        assert (await result.branch.run("print('alive')")).output == "alive"


@pytest.mark.parametrize("depth", [200, 960, 978, 990])
async def test_forged_arguments_of_any_depth_end_only_their_step(sandbox: Sandbox, depth: int) -> None:
    calls: list[object] = []
    code = (
        "import os, struct\n"
        f"body = b'{{\"call\": \"look\", \"kwargs\": {{}}, \"args\": ' + b'[' * {depth} + b']' * {depth} + b'}}'\n"
        "os.write(3, struct.pack('>I', len(body)) + body); os.read(3, 100)"
    )
    async with asyncio.timeout(PATIENCE):
        branch = await sandbox.open(tools=tool(calls))
        assert (await branch.run(code)).error == "ProcessDiedError"
        assert not calls
        assert (await branch.run("print('alive')")).output == "alive"


async def test_a_full_disk_is_an_error_that_says_retry() -> None:
    async with start(LIMITS, libraries=()) as sandbox, asyncio.timeout(PATIENCE):
        branch = (await (await sandbox.open()).run("open('a', 'w').write('x')")).branch
        assert branch is not None
        kept, live = scratch_of(sandbox) / "kept", scratch_of(sandbox) / "live"
        assert list(kept.iterdir())
        with full(live), pytest.raises(SandboxError, match="retry") as caught:
            await branch.run("print(1)")
        assert not isinstance(caught.value, SandboxLost)
        assert (await branch.run("print(open('a').read())")).output == "x"


def scratch_of(sandbox: Sandbox) -> Path:
    return Path(sandbox.socket_path).parent / "scratch"


class full:
    """A folder in which nothing new can be made, as on a disk without room: another, read-only folder in its place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        self._folder.rename(self._folder.with_name("away"))
        self._folder.write_text("")

    def __exit__(self, *_: object) -> None:
        self._folder.unlink()
        self._folder.with_name("away").rename(self._folder)


def framed(message: object) -> bytes:
    body = json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body


WELCOMES = {
    "of another version": framed({"protocol": 999, "layers": []}),
    "of no version": framed({"layers": []}),
    "without layers": framed({"hello": 1}),
    "of another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
}


@pytest.mark.parametrize("welcome", WELCOMES.values(), ids=WELCOMES)
async def test_a_daemon_that_speaks_otherwise_is_refused_at_once(tmp_path: Path, welcome: bytes) -> None:
    async with daemon(tmp_path, welcome) as path, asyncio.timeout(PATIENCE):
        with pytest.raises(SandboxError, match="protocol"):
            await Sandbox.connect(path)


REPLIES = {
    "that lacks a field": framed({"id": 1}),
    "that is no message": b"\xff\xff\xff\xff",
    "without a number": framed({"reply": 1}),
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
async def test_a_reply_that_is_none_ends_the_call(tmp_path: Path, reply: bytes) -> None:
    async with daemon(tmp_path, WELCOME, reply) as path, asyncio.timeout(PATIENCE):
        sandbox = await Sandbox.connect(path)
        with pytest.raises(SandboxError, match="protocol"):
            await sandbox.open()


async def test_a_daemon_that_falls_silent_is_lost(tmp_path: Path) -> None:
    async with daemon(tmp_path, WELCOME) as path, asyncio.timeout(PATIENCE):
        sandbox = await Sandbox.connect(path, silence_seconds=0.3)
        with pytest.raises(SandboxLost, match=r"silent for 0\.3 s"):
            await sandbox.open()


WELCOME = framed({"protocol": PROTOCOL, "layers": [], "code_bytes": 1000, "message_bytes": 1000})


class daemon:
    """A fake daemon: says ``welcome`` to who connects and ``reply`` to what is asked, and nothing else."""

    def __init__(self, folder: Path, welcome: bytes, reply: bytes = b"") -> None:
        self._path, self._welcome, self._reply = folder / "sock", welcome, reply

    async def __aenter__(self) -> Path:
        self._server = await asyncio.start_unix_server(self._talk, self._path)
        return self._path

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._welcome)
        while await reader.read(1 << 16):
            writer.write(self._reply)
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


async def test_a_client_is_told_that_the_daemon_lives_while_a_step_takes_long(sandbox: Sandbox) -> None:
    impatient = await Sandbox.connect(sandbox.socket_path, silence_seconds=5)
    assert (await (await impatient.open()).run("import time; time.sleep(7); print('done')")).output == "done"
    await impatient.close()
