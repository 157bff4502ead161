"""Other ways to run code step by step, none of them confined; `bench/sandbox.py` makes their venv and asks them.

A line "PEER MEASURE" on standard input is answered by a line of JSON with the samples.
"""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.steps import MEASURES, Session
from jupyter_client.manager import AsyncKernelManager
from smolagents.local_python_executor import LocalPythonExecutor


class Exec:
    """`exec` in this very process."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}

    async def run(self, code: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, self.names)
        return printed.getvalue()

    async def close(self) -> None:
        self.names.clear()


class Subprocess:
    """`python -c` for each step; what a step needs of earlier ones is run again."""

    def __init__(self) -> None:
        self.before: list[str] = []

    async def run(self, code: str) -> str:
        text = "\n".join([*self.before, code])
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", text, stdout=asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"a step ended with status {process.returncode}")
        if "print" not in code:
            self.before.append(code)
        return printed.decode()

    async def close(self) -> None:
        pass


class Smolagents:
    """The local executor of smolagents: an interpreter of the syntax tree, in this process."""

    def __init__(self) -> None:
        self.executor = LocalPythonExecutor([])
        self.executor.send_tools({})

    async def run(self, code: str) -> str:
        return str(self.executor(code).logs)

    async def close(self) -> None:
        self.executor.state.clear()


class Kernel:
    """A Jupyter kernel: a process for each session, spoken to over ZeroMQ."""

    def __init__(self) -> None:
        self.manager = AsyncKernelManager()

    async def begin(self) -> None:
        await self.manager.start_kernel(extra_arguments=["--log-level=40"])
        self.client = self.manager.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=300)

    async def run(self, code: str) -> str:
        printed: list[str] = []

        def heard(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        reply = await self.client.execute_interactive(code, output_hook=heard, timeout=300)
        if reply["content"]["status"] != "ok":
            raise RuntimeError(f"a step of a kernel failed: {reply['content']}")
        return "".join(printed)

    async def close(self) -> None:
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)


async def opened(peer: str) -> Session:
    peers: dict[str, Callable[[], Session]] = {
        "exec": Exec,
        "subprocess": Subprocess,
        "smolagents": Smolagents,
        "kernel": Kernel,
    }
    session = peers[peer]()
    if isinstance(session, Kernel):
        await session.begin()
    return session


def main() -> None:
    told = sys.stdout
    sys.stdout = sys.stderr
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            peer, measure = line.split()
            samples = runner.run(MEASURES[measure](partial(opened, peer)))
            print(json.dumps(samples), file=told, flush=True)


if __name__ == "__main__":
    main()
