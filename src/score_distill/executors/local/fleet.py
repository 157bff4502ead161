"""The servers that a run needs on one machine: a vLLM for the teacher, one for the student, the sandbox daemon.

Says how each is started and when it is ready, and what a step is told of it. A teacher behind an endpoint is no
server of ours. How a server is kept up is ``servers.py``.
"""

import asyncio
import json
import shutil
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self

import aiohttp

from score_distill import machine, secret_keys
from score_distill.agent.completer import OpenAIClient
from score_distill.api import Serving
from score_distill.artifacts.models import model_folder
from score_distill.contract import SentHeader, Served
from score_distill.executors.local import keys
from score_distill.executors.local.layout import RunPaths
from score_distill.executors.local.servers import Launch, Server
from score_distill.sandbox.client import Sandbox, SandboxError
from score_distill.sandbox.limits import limits_of
from score_distill.serving import vllm
from score_distill.serving.probe import PROBE, record_probe
from score_distill.serving.untie import untie

Name = Literal["teacher", "student", "sandbox"]
MODEL_SECONDS, SANDBOX_SECONDS = 1800.0, 120.0
# Model and agents share the cores: who asks goes first, so that each pass of the model serves more requests.
_YIELD = ("nice", "-n", "10")


class Fleet:
    """Use as an async context manager: at its end every server and all it started are gone."""

    def __init__(self, site: RunPaths) -> None:
        self.site = site
        self._socket_folder = tempfile.TemporaryDirectory(prefix="score-", ignore_cleanup_errors=True)
        self.servers: dict[Name, Server] = {
            "teacher": self._server("teacher", self.teacher, MODEL_SECONDS),
            "student": self._server("student", self.student, MODEL_SECONDS),
            "sandbox": self._server("sandbox", self.sandbox, SANDBOX_SECONDS),
        }
        self.served: dict[Name, Served] = {}
        self.socket: Path | None = None
        if endpoint := site.run.spec.teacher.endpoint:
            del self.servers["teacher"]
            key_file = None
            if endpoint.api_key_secret:
                found = secret_keys.find(endpoint.api_key_secret, site.environ)
                key_file = str(keys.keep(site.work / "keys" / "endpoint", found))
            headers = []
            for i, one in enumerate(endpoint.headers):
                file = None
                if one.secret:
                    found = secret_keys.find(one.secret, site.environ)
                    file = str(keys.keep(site.work / "keys" / f"endpoint-header-{i}", found))
                headers.append(SentHeader(name=one.name, value=one.value or "", file=file))
            self.served["teacher"] = Served(
                url=endpoint.url.rstrip("/"),
                model=endpoint.model,
                key_file=key_file,
                headers=tuple(headers),
                body=endpoint.body,
                omit=endpoint.omit,
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.keep(())
        self._socket_folder.cleanup()
        shutil.rmtree(self.site.work / "keys", ignore_errors=True)

    def of(self, needs: Iterable[str]) -> list[Server]:
        return [server for name, server in self.servers.items() if name in needs]

    async def keep(self, needs: Iterable[str]) -> None:
        """Stop the servers that nothing needs any more."""
        unused = [server for name, server in self.servers.items() if name not in needs]
        await asyncio.gather(*(server.stop() for server in unused))

    def _server(self, name: Name, launch: Callable[[], Awaitable[Launch]], deadline: float) -> Server:
        return Server(name, launch, log=self.site.logs / f"{name}.log", deadline=deadline)

    async def teacher(self) -> Launch:
        teacher = self.site.run.spec.teacher
        assert teacher.model is not None
        folder = await asyncio.to_thread(model_folder, teacher.model, self.site.places)
        return self._vllm("teacher", folder, teacher.serving, managed=False)

    async def student(self) -> Launch:
        student = self.site.run.spec.student
        source = await asyncio.to_thread(model_folder, student.model, self.site.places)
        folder = await self._untied(source)
        return self._vllm("student", folder, student.serving, managed=True)

    def _vllm(self, name: Name, folder: Path, serving: Serving, *, managed: bool) -> Launch:
        site, port = self.site, free_port()
        key = keys.fresh()
        root = f"http://127.0.0.1:{port}"
        served = Served(
            url=f"{root}/v1",
            model=name,
            key_file=str(keys.keep(site.work / "keys" / name, key)),
            admin_url=root if managed else None,
            model_dir=str(folder),
        )
        given = machine.environment(site.environ, site.machine)
        home = site.work / "servers" / name
        home.mkdir(parents=True, exist_ok=True)

        async def ready() -> bool:
            if not await answers(served):
                return False
            if managed and not (folder / PROBE).exists():
                async with OpenAIClient(served) as client:
                    await record_probe(client, folder)
            self.served[name] = served
            return True

        command = vllm.command(folder, name, serving, port, site.machine)
        if not site.machine.gpus:
            command = [*_YIELD, *command]
        environ = vllm.environ(given, site.machine, home, managed=managed) | {"VLLM_API_KEY": key}
        return Launch(command, environ, ready, words=f"spec.{name}.serving.args")

    async def _untied(self, source: Path) -> Path:
        """A folder of our own with the base student, whose weights can be pushed: tied embeddings made two."""
        folder = self.site.work / "servers" / "base"
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(untie, source, folder, lambda file, new: new.symlink_to(file))
        (folder / PROBE).unlink(missing_ok=True)
        return folder

    async def sandbox(self) -> Launch:
        folder = Path(tempfile.mkdtemp(dir=self._socket_folder.name))
        path, scratch = folder / "sock", folder / "scratch"
        scratch.mkdir()
        agent = self.site.run.spec.method.agent
        bounds = limits_of(agent, self.site.machine.cores)
        arguments = {
            "limits": asdict(bounds),
            "libraries": list(agent.libraries),
            "socket": str(path),
            "scratch": str(scratch),
        }

        async def ready() -> bool:
            if not path.exists() or not await runs_code(path):
                return False
            self.socket = path
            return True

        command = [sys.executable, "-m", "score_distill.sandbox.supervisor", json.dumps(arguments)]
        return Launch(command, machine.bare_environment(self.site.environ), ready)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def answers(served: Served) -> bool:
    """Whether a model server continues a prompt for our key."""
    assert served.key_file is not None
    headers = {"Authorization": f"Bearer {Path(served.key_file).read_text()}"}
    body = {"model": served.model, "prompt": [1], "max_tokens": 1}
    timeout = aiohttp.ClientTimeout(total=120, sock_connect=2)
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
            session.post(f"{served.url}/completions", json=body) as response,
        ):
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def runs_code(path: Path) -> bool:
    """Whether the sandbox daemon opens a session and runs a step in it."""
    with suppress(SandboxError, OSError):
        sandbox = await Sandbox.connect(path)
        try:
            branch = await sandbox.open()
            return (await branch.run("print(6 * 7)")).output.strip() == "42"
        finally:
            await sandbox.close()
    return False
