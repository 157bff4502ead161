"""Stages that act: servers and sandbox at hand, many tasks in flight, each outcome written down when it is there.

A stage that was killed skips the tasks that have an outcome; the others run again, their paid calls answered from the
ledger. Outcomes are streamed: what is in memory is what is in flight.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from score_distill.agent import prompts, tools
from score_distill.agent.chat import ChatFormat
from score_distill.agent.codeact import StudentActor, TeacherActor
from score_distill.agent.completer import OpenAIClient
from score_distill.agent.environment import EnvState
from score_distill.agent.judge import Judge
from score_distill.agent.ledger import Caller, Ledger
from score_distill.agent.seeds import seed_of
from score_distill.agent.tools import Tool
from score_distill.agent.trajectory import Row, Task
from score_distill.api import Sampling
from score_distill.artifacts.store import Appender
from score_distill.contract import Role, Served
from score_distill.errors import Infrastructure
from score_distill.sandbox.client import Sandbox, SandboxError, SandboxLost
from score_distill.serving.weights import model_server
from score_distill.stages.context import StageContext
from score_distill.stages.openings import opening_ids
from score_distill.stages.searches import searching

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound=Row)
SANDBOX_TRIES = 3


@dataclass
class RolloutContext:
    """Where a stage acts: the sandbox, the two models and the search as far as the step has them, and the ledger."""

    frame: StageContext
    sandbox: Sandbox
    ledger: Ledger
    student: OpenAIClient | None
    teacher: OpenAIClient | None
    chat: ChatFormat | None
    search: Tool | None

    async def load(self, checkpoint: Path) -> None:
        """Have the student's server compute with a checkpoint; afterwards no answer of other weights is taken.

        On one machine every worker of a step loads the same weights, one after another: the requests of the others are
        frozen meanwhile and go on. A gateway that has the weights already answers at once.
        """
        if self.student is None:
            raise RuntimeError(f"step {self.frame.config.step} has no student")
        server = model_server(self.student.served, self.frame.config.spec.student.serving.dtype)
        self.student.version = None
        async with alone(self.frame.work / "weights.lock"):
            self.student.version = (await server.load(checkpoint)).version

    def caller(self, role: Role, task: str, purpose: str, revision: str) -> Caller:
        client = self.student if role == "student" else self.teacher
        if client is None:
            raise RuntimeError(f"step {self.frame.config.step} has no {role}")
        return Caller(client, self.ledger, role, revision, task, purpose)

    async def world(self, task: Task) -> EnvState:
        spec = self.frame.config.spec
        branch = await self.sandbox.open(seed=seed_of(spec.seed, "sandbox", task.id))
        return EnvState(task, tools.chosen(spec.tools, self.search), branch, {})

    def student_actor(self, task: Task, sampling: Sampling, *, logprobs: bool = False) -> StudentActor:
        if self.chat is None:
            raise RuntimeError(f"step {self.frame.config.step} has no student")
        spec = self.frame.config.spec
        opening = opening_ids(self.chat, self.frame, task)
        return StudentActor(
            self.chat,
            opening,
            sampling,
            spec.method.agent.step_tokens,
            spec.student.serving.context_length,
            logprobs=logprobs,
        )

    def teacher_actor(self, task: Task, sampling: Sampling, *, tries: int | None = None) -> TeacherActor:
        spec = self.frame.config.spec
        agent = spec.method.agent
        told = tools.words(spec.tools, agent.libraries)
        opening = prompts.opening(task, told, style=spec.teacher.prompt, plan=agent.plan)
        return TeacherActor(opening, sampling, agent.step_tokens, tries)

    def judge(self, task: Task, purpose: str) -> Judge | None:
        """The teacher as a judge; None where the step has no teacher, or one that only acts."""
        if self.teacher is None or self.frame.config.spec.teacher.prompt == "Bare":
            return None
        correction = self.frame.config.spec.method.correction
        return Judge(
            self.caller("teacher", task.id, purpose, self.teacher.served.model),
            correction.judge_sampling,
            correction.judge_tokens,
            correction.retries,
        )


@asynccontextmanager
async def floor(
    frame: StageContext, finished: frozenset[str], *, durable: bool = True, mine: frozenset[str] | None = None
) -> AsyncIterator[RolloutContext]:
    """Open everything that the step's config names. ``finished`` are tasks whose ledger lines are only counted.

    ``mine`` are the tasks of this worker, all if it is None: what they cost is told with the progress.

    Without ``durable`` calls are counted and not written: for RL, which goes on from a checkpoint instead.
    """
    config = frame.config
    if config.sandbox is None:
        raise Infrastructure(f"step {config.step} needs a sandbox and was given none")
    async with AsyncExitStack() as stack:
        if durable:
            past = frame.writer.read_journal("calls")
            calls = stack.enter_context(frame.writer.journal("calls"))
            ledger = Ledger(calls.append, past, finished, config.teacher_tokens, workers=config.workers, mine=mine)
        else:
            ledger = Ledger(lambda _: None, teacher_tokens=config.teacher_tokens, remember=False)
        frame.spent = ledger.own
        sandbox = await Sandbox.connect(config.sandbox)
        stack.push_async_callback(sandbox.close)
        concurrency = config.spec.resources.rollout.concurrency
        served = frame.student
        student = await _client(stack, served, concurrency)
        most = max(1, config.spec.teacher.concurrency // config.workers)
        teacher = await _client(stack, config.teacher, min(concurrency, most))
        chat = ChatFormat(Path(served.model_dir), frame.day) if served and served.model_dir else None
        search = await stack.enter_async_context(searching(frame))
        yield RolloutContext(frame, sandbox, ledger, student, teacher, chat, search)


@asynccontextmanager
async def alone(path: Path) -> AsyncIterator[None]:
    """Hold the lock of a file against the other workers on this machine; it is freed with the process."""
    with path.open("w") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield


async def _client(stack: AsyncExitStack, served: Served | None, concurrency: int) -> OpenAIClient | None:
    if served is None:
        return None
    wait = float(os.environ.get("SCORE_RETRY_SECONDS", "1"))
    return await stack.enter_async_context(OpenAIClient(served, concurrency=concurrency, wait=wait))


def retried(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """The work, begun anew where the sandbox lost a session of it; a daemon that is gone is not waited for."""

    @retry(
        retry=retry_if_exception(lambda error: isinstance(error, SandboxError) and not isinstance(error, SandboxLost)),
        stop=stop_after_attempt(SANDBOX_TRIES),
        wait=wait_random_exponential(max=10),
        reraise=True,
    )
    async def tried(*args: P.args, **kwargs: P.kwargs) -> T:
        return await work(*args, **kwargs)

    return tried


async def each(
    tasks: Iterable[T],
    work: Callable[[T], Awaitable[R]],
    *,
    concurrency: int,
    outcomes: Appender,
    on_done: Callable[[T, R], None],
) -> None:
    """Work on the tasks, ``concurrency`` at a time; each outcome is appended before it is told of."""
    rows = iter(tasks)
    tried = retried(work)

    async def worker() -> None:
        for task in rows:
            outcome = await tried(task)
            outcomes.append(outcome.model_dump(mode="json"))
            on_done(task, outcome)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
