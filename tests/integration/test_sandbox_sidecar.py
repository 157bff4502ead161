"""The sandbox as a container of its own: standard input is /dev/null, signals end it, and it is started again."""

import asyncio
import json
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from score_distill.sandbox.client import Sandbox, SandboxLost


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sidecar-") as name:
        Path(name).chmod(0o711)
        (Path(name) / "scratch").mkdir()
        yield Path(name)


@asynccontextmanager
async def container(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The supervisor as a container runtime starts it, killed with all of its children at the end."""
    given = {"limits": {}, "libraries": [], "socket": str(folder / "sock"), "scratch": str(folder / "scratch")}
    command = [sys.executable, "-m", "score_distill.sandbox.supervisor", json.dumps(given)]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def connected(folder: Path, process: asyncio.subprocess.Process) -> Sandbox:
    async with asyncio.timeout(120):
        while True:
            assert process.returncode is None, "the sandbox ended"
            try:
                return await Sandbox.connect(f"unix://{folder}/sock")
            except SandboxLost:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_soon_and_well_in_the_midst_of_a_step(folder: Path, number: signal.Signals) -> None:
    async with container(folder) as process:
        sandbox = await connected(folder, process)
        hanging = asyncio.ensure_future((await sandbox.open()).run("import time; time.sleep(99)"))
        assert (await (await sandbox.open()).run("print(6 * 7)")).output == "42"
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 60) == 0  # the step would take 99 s
        with pytest.raises(SandboxLost):
            await hanging


async def test_a_container_that_was_killed_starts_again_over_what_it_left(folder: Path) -> None:
    for _ in range(2):
        async with container(folder) as process:
            sandbox = await connected(folder, process)
            branch = (await (await sandbox.open()).run("print(open('a', 'w').write('x'))")).branch
            assert (await branch.run("print(open('a').read())")).output == "x"
            assert len(list((folder / "scratch" / "kept").iterdir())) <= 2
            assert stat.S_IMODE((folder / "sock").stat().st_mode) == 0o660


async def test_a_daemon_that_does_not_welcome_is_lost(tmp_path: Path) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(mute, tmp_path / "sock")
    try:
        with pytest.raises(SandboxLost, match="did not answer in"):
            await Sandbox.connect(tmp_path / "sock", welcome_seconds=0.2)
    finally:
        server.close()
        await server.wait_closed()
