"""A place to run stages in: task files of the ledger, model folders without weights, a store, servers, a sandbox."""

import asyncio
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.integration.stages.scripted_models import ScriptedModels

from score_distill.api import Spec
from score_distill.artifacts.folder import FolderStore
from score_distill.artifacts.steps import StepReader, StepWriter
from score_distill.contract import Served, StageConfig, Summary
from score_distill.sandbox.client import Sandbox, SandboxError

EXAMPLES = Path(__file__).parents[3] / "examples"
RUN = "run"
INPUTS = {"demonstrate": ("prepare",), "mentor": ("prepare", "warmup"), "evaluate": ("prepare", "warmup", "sft", "rl")}
PROBE = {"ids": [5, 6, 7, 8], "logprobs": [-1.0, -2.0, -0.5]}


def ledger(count: int, file: str = "train", skip: int = 0) -> list[dict[str, Any]]:
    """The first tasks of a ledger file whose questions differ, so that a question says which task it is."""
    rows: dict[str, dict[str, Any]] = {}
    for line in (EXAMPLES / "ledger" / "data" / f"{file}.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row["question"], row)
    return list(rows.values())[skip : skip + count]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_model(folder: Path, share: float) -> Path:
    """A student's folder as far as stages read it: tokenizer and template, the probe, and how often it errs."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"):
        shutil.copy(EXAMPLES / "ledger" / "models" / "student" / name, folder / name)
    probe = {"ids": PROBE["ids"], "logprobs": [value - share for value in PROBE["logprobs"]]}
    (folder / "probe.json").write_text(json.dumps(probe))
    (folder / "errs.json").write_text(json.dumps({"share": share}))
    return folder


def write_spec(
    folder: Path,
    train: list[dict[str, Any]],
    held_out: list[dict[str, Any]],
    *,
    method: dict[str, Any] | None = None,
    prompt: str = "Bare",
    concurrency: int = 8,
    **more: Any,
) -> Spec:
    """A manifest's spec over these tasks; ``method`` and ``more`` are laid over it."""
    settings: dict[str, Any] = {
        "split": {"cold_start": 0.2, "dev": 0.1, "sft": 0.5},
        "agent": {"max_steps": 14, "plan": False, "step_tokens": 64, "step_seconds": 20},
        "demonstrate": {"sampling": {"temperature": 0}},
        "correction": {"localizer": "Reenactment" if prompt == "Bare" else "Judge", "max_corrections": 3},
    }
    settings |= method or {}
    return Spec.model_validate(
        {
            "student": {"model": "base", "prompt": "Bare", "serving": {"dtype": "float32", "context_length": 1024}},
            "teacher": {"endpoint": {"url": "http://localhost/v1", "model": "teacher"}, "prompt": prompt},
            "tasks": {
                "train": {"uri": write_rows(folder / "train.jsonl", train).name, "metric": "exact"},
                "eval": [{"name": "held", "uri": write_rows(folder / "eval.jsonl", held_out).name, "metric": "exact"}],
            },
            "tools": ["python", "read"],
            "method": settings,
            "resources": {"rollout": {"concurrency": concurrency}},
            "artifacts": {"uri": "store"},
            **more,
        }
    )


@dataclass(frozen=True)
class Place:
    """One run's folder with its store, the models that it is served, and the sandbox's socket."""

    folder: Path
    spec: Spec
    models: ScriptedModels
    url: str
    sandbox: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.folder / "store")

    def config(self, step: str, verb: str | None = None, inputs: tuple[str, ...] = (), **more: Any) -> StageConfig:
        work = self.folder / "work" / step
        work.mkdir(parents=True, exist_ok=True)
        served = {name: Served(url=f"{self.url}/v1", model=name) for name in ("teacher", "student")}
        base = str(self.folder / "base")
        given: dict[str, Any] = {
            "run": RUN,
            "step": step,
            "verb": verb or step,
            "spec": self.spec,
            "base": str(self.folder),
            "store": str(self.folder / "store"),
            "inputs": inputs,
            "work": str(work),
            "teacher": served["teacher"],
            "student": served["student"].model_copy(update={"admin_url": self.url, "model_dir": base}),
            "sandbox": str(self.sandbox),
        }
        return StageConfig.model_validate(given | more)

    async def run(self, step: str, inputs: tuple[str, ...] = (), **more: Any) -> Summary:
        """Run a stage of this name to its end, in a thread, for it has an event loop of its own."""
        config = self.config(step, inputs=inputs, **more)
        module = importlib.import_module(f"score_distill.stages.{config.verb}")
        return await asyncio.to_thread(module.run, config, self.store)

    async def process(self, step: str, inputs: tuple[str, ...] = (), **more: Any) -> asyncio.subprocess.Process:
        """Start a stage as the runner does: a process of its own that is told where its config is."""
        config = self.config(step, inputs=inputs, **more)
        path = Path(config.work) / "stage.json"
        path.write_text(config.model_dump_json(by_alias=True))
        command = [sys.executable, "-m", "score_distill.cli", "stage", config.verb, "--config", str(path)]
        with (Path(config.work) / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, env={**os.environ, **self.environ}
            )

    def result(self, step: str) -> StepReader:
        return StepReader(self.store, RUN, step)

    def rows(self, step: str, name: str) -> list[dict[str, Any]]:
        return list(self.result(step).open_rows(name))

    def usage(self, step: str) -> list[dict[str, Any]]:
        return self.result(step).manifest.summary["usage"]  # type: ignore[return-value]

    def commit(
        self, step: str, *, rows: dict[str, list[dict[str, Any]]] | None = None, model: Path | None = None
    ) -> None:
        """Put a result of a step into the store, as if the step had run."""
        writer = StepWriter(self.store, RUN, step)
        for name, content in (rows or {}).items():
            writer.add_rows(name, content)
        if model:
            writer.add_tree("model", model)
        then = datetime(2026, 1, 1, tzinfo=UTC)  # the same in every place, so that the digests are
        writer.commit(
            verb="sft",
            inputs={},
            config_digest="0" * 64,
            counts={},
            summary={},
            started=then,
            finished=then,
            attempt=1,
            versions={},
        )

    def again(self, name: str) -> "Place":
        """Another run in another folder with the same tasks, student, models and sandbox."""
        folder = self.folder.parent / name
        folder.mkdir()
        for file in ("train.jsonl", "eval.jsonl"):
            shutil.copy(self.folder / file, folder / file)
        shutil.copytree(self.folder / "base", folder / "base")
        return changed(self, folder=folder)


async def prepared(place: Place, share: float = 0.3) -> Place:
    """The place with everything in its store that mentor and evaluate read."""
    await place.run("prepare")
    for step, part in (("warmup", 1.0), ("sft", 0.5), ("rl", 0.2)):
        place.commit(step, model=write_model(place.folder / step, share * part))
    return place


@contextmanager
def sandbox_daemon() -> Iterator[tuple[Path, int]]:
    """The real daemon under its supervisor: its socket and the supervisor's number. Gone at the end."""
    with tempfile.TemporaryDirectory(prefix="stages-") as name:
        path, scratch = Path(name) / "sock", Path(name) / "scratch"
        scratch.mkdir()
        Path(name).chmod(0o711)
        arguments = {"limits": {"wall_seconds": 30.0}, "libraries": [], "socket": str(path), "scratch": str(scratch)}
        command = [sys.executable, "-m", "score_distill.sandbox.supervisor", json.dumps(arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)
        try:
            asyncio.run(answers(path, process))
            yield path, process.pid
        finally:
            process.communicate()


async def answers(path: Path, process: "subprocess.Popen[bytes]") -> None:
    """Return when the daemon runs code."""
    async with asyncio.timeout(120):
        while process.poll() is None:
            try:
                sandbox = await Sandbox.connect(path)
                try:
                    assert (await (await sandbox.open()).run("print(6 * 7)")).output == "42"
                    return
                finally:
                    await sandbox.close()
            except (SandboxError, OSError):
                await asyncio.sleep(0.05)
    raise AssertionError(f"the sandbox ended with {process.returncode}")


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Path]:
    with sandbox_daemon() as (path, _):
        yield path


MakePlace = Callable[..., Awaitable[Place]]


@asynccontextmanager
async def serving(models: ScriptedModels) -> AsyncIterator[str]:
    runner = web.AppRunner(models.application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def make_place(tmp_path: Path, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakePlace]:
    """Makes a `Place` for given tasks; keywords are those of `write_spec`, and ``share`` and those of the models."""
    monkeypatch.setenv("SCORE_RETRY_SECONDS", "0.001")
    async with AsyncExitStack() as stack:

        async def make(
            train: list[dict[str, Any]],
            held_out: list[dict[str, Any]] | None = None,
            *,
            share: float = 0.15,
            scripted: dict[str, Any] | None = None,
            **spec: Any,
        ) -> Place:
            folder = tmp_path / "first"
            folder.mkdir()
            base = write_model(folder / "base", share)
            held = held_out if held_out is not None else ledger(2, "eval")
            reference = {row["question"]: row["answer"] for row in [*train, *held]}
            models = ScriptedModels(base, reference, **(scripted or {}))
            url = await stack.enter_async_context(serving(models))
            return Place(folder, write_spec(folder, train, held, **spec), models, url, sandbox)

        yield make
