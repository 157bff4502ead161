"""Executing a run on this machine: servers up, the processes of a step, again where it failed, to the report.

The policy decides and the store knows what is done; this file observes and acts. A step counts as done when its
manifest is in the store, whatever became of its processes. Any process may be killed at any moment, this one included:
the same command goes on.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from score_distill import machine
from score_distill.artifacts.lock import RunLock
from score_distill.artifacts.steps import completed_steps
from score_distill.contract import StageConfig
from score_distill.control.change import changes
from score_distill.control.pipeline import Step, Workers, workers_of
from score_distill.control.places import PodsState
from score_distill.control.plan import Plan, plan
from score_distill.control.policy import (
    Decision,
    Finished,
    Observed,
    Record,
    Start,
    Stop,
    Suspended,
    Wait,
    decide,
)
from score_distill.errors import BadInput, StepFailed
from score_distill.executors.local import processes
from score_distill.executors.local.attempt import Attempt, stage_command
from score_distill.executors.local.display import Display
from score_distill.executors.local.fleet import Fleet
from score_distill.executors.local.layout import RunPaths
from score_distill.executors.local.preflight import preflight
from score_distill.executors.local.records import done_of
from score_distill.executors.local.view import StepView, View, birth
from score_distill.work_folder import WorkFolder

LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Overrides:
    """What tests replace: stages, servers, the checks beforehand, and the clock that retries wait by."""

    command: Callable[[Step, Path, int], list[str]] = stage_command
    fleet: Callable[[RunPaths], Fleet] = Fleet
    preflight: bool = True
    clock: Callable[[], float] = time.time


async def execute(site: RunPaths, display: Display, means: Overrides = Overrides()) -> None:
    """Run what is left of the run; StageError when it cannot be finished now."""
    with ExitStack() as stack:
        for folder in {site.folder, Path(site.store_uri, site.key)} if "://" not in site.store_uri else {site.folder}:
            stack.enter_context(RunLock(folder))
        processes.sweep(site.logs)
        changed = differences(site)
        current = planned(site)
        if means.preflight and current.left and not changed:
            display.say("checking files, models and endpoints ...")
            await preflight(site, current.left)
        if not changed:
            site.record()
        async with means.fleet(site) as fleet:
            await Run(site, fleet, display, means, changed).steps()


def differences(site: RunPaths) -> tuple[str, ...]:
    """The fields that differ from the manifest with which the store's results were made, and may not."""
    if not site.store.children(f"{site.key}/steps"):
        return ()
    return changes(site.recorded(), site.run)


def planned(site: RunPaths) -> Plan:
    return plan(site.run, done_of(completed_steps(site.store, site.key)), None)


class Run:
    """One execution under way."""

    def __init__(
        self, site: RunPaths, fleet: Fleet, display: Display, means: Overrides, changed: tuple[str, ...] = ()
    ) -> None:
        self.site, self.fleet, self.display, self.means, self.changed = site, fleet, display, means, changed
        self.environ = machine.environment(site.store_environ, site.machine)
        site.remember()
        self.done = done_of(completed_steps(site.store, site.key))
        self.records: dict[str, Record] = {}
        self.attempt: Attempt | None = None
        self.coming: dict[str, asyncio.Task[None]] = {}
        names = [one.step.name for one in plan(site.run, self.done, None).steps]
        steps = [StepView(name=name, state="done" if name in self.done else "waiting") for name in names]
        self.view = View(run=site.key, pid=os.getpid(), born=birth(os.getpid()), began=time.time(), steps=steps)

    async def steps(self) -> None:
        """Observe, decide, act, until the run is finished or stops with a StageError."""
        try:
            while not isinstance((decision := self.decided()).action, Finished):
                await self.serve(decision)
                await self.act(decision)
                self.show()
                await self.look(decision)
            await self.fleet.keep(())
            self.show()
        except asyncio.CancelledError:
            if self.attempt is not None:
                self.view.step(self.attempt.step.name).state = "interrupted"
                self.show()
            raise
        finally:
            if self.attempt is not None:
                await self.attempt.stop()
            for task in self.coming.values():
                task.cancel()

    def decided(self) -> Decision:
        servers: dict[str, PodsState] = {name: PodsState(True) for name in self.fleet.served}
        for name, server in self.fleet.servers.items():
            servers[name] = PodsState(server.up and self.arrived(name), "waits for its servers")
        seen = Observed(self.done, self.records, servers, self.changed)
        return decide(self.site.run, seen, self.means.clock())

    def arrived(self, name: str) -> bool:
        """Whether a server has answered; the bounded number of failed starts ends the run."""
        task = self.coming.get(name)
        if task is None or not task.done():
            return False
        task.result()
        return True

    async def serve(self, decision: Decision) -> None:
        """Bring up the servers that are wanted, and end the others."""
        await self.fleet.keep(decision.servers)
        for name in set(self.coming) - decision.servers:
            self.coming.pop(name).cancel()
        for server in self.fleet.of(decision.servers):
            task = self.coming.get(server.name)
            if task is None or (task.done() and not server.up):
                self.coming[server.name] = asyncio.create_task(server.ready())

    async def act(self, decision: Decision) -> None:
        match decision.action:
            case Start() as start:
                await self.begin(start)
            case Wait(step, "ServerNotReady", message):
                self.view.step(step.name).note = message
                if self.view.step(step.name).state == "waiting":
                    self.view.step(step.name).state = "running"
            case Stop(code, message, stopped):
                if stopped is not None:
                    self.view.step(stopped.name).state = "failed"
                    self.show()
                raise StepFailed(message, code)
            case Suspended():
                raise BadInput("spec.suspend: true; set it to false and the same command goes on")
            case _:
                pass

    async def begin(self, start: Start) -> None:
        """Start the processes of an attempt."""
        step = start.step
        folder = WorkFolder(self.site.work / step.name)
        attempt = max(start.attempt, folder.last_attempt() + 1)
        config = self.config(start, attempt)
        shown = self.view.step(step.name)
        before = folder.read_progress()
        shown.state, shown.note, shown.attempt, shown.began = "running", "", attempt, time.time()
        shown.first = before.done if before else 0
        self.records[step.name] = self.records.get(step.name, Record()).started(attempt)
        workers = self.workers_of(step)
        command = self.means.command(step, folder.write_config(config), workers.ranks)
        log = self.site.logs / f"{step.name}.log"
        servers = self.fleet.of(step.needs)
        self.attempt = await Attempt.start(step, folder, command, self.environ, log, workers, servers)

    def workers_of(self, step: Step) -> Workers:
        """As in a cluster, but that a machine without GPUs has no rank for each of them."""
        trainer = self.site.run.spec.resources.trainer
        workers = workers_of(step, self.site.run.spec)
        if self.site.machine.gpus or trainer.processes_per_node is not None:
            return workers
        return replace(workers, processes=1)

    async def look(self, decision: Decision) -> None:
        """Return when something may have changed."""
        if self.attempt is not None:
            await self.attempt.wait(LOOK_SECONDS)
            shown = self.view.step(self.attempt.step.name)
            shown.progress = self.attempt.folder.read_progress() or shown.progress
            if self.attempt.over:
                await self.end(self.attempt)
        elif coming := [task for task in self.coming.values() if not task.done()]:
            await asyncio.wait(coming, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        elif isinstance(decision.action, Wait):
            due = decision.action.until
            await asyncio.sleep(LOOK_SECONDS if due is None else min(LOOK_SECONDS, max(0.0, due - self.means.clock())))

    async def end(self, attempt: Attempt) -> None:
        """Take note of how an attempt ended."""
        self.attempt = None
        ending = await attempt.end(self.means.clock())
        name, shown = attempt.step.name, self.view.step(attempt.step.name)
        shown.progress = attempt.folder.read_progress() or shown.progress
        self.done = done_of(completed_steps(self.site.store, self.site.key))
        if name in self.done:
            self.records.pop(name)
            shown.state, shown.note, shown.ended = "done", "", time.time()
            for server in self.fleet.of(attempt.step.needs):
                server.succeeded()
        else:
            self.records[name] = self.records[name].failed(ending, shown.progress.done if shown.progress else 0)
            shown.state, shown.note = "retrying", ending.message.partition("\n")[0]

    def config(self, start: Start, attempt: int) -> StageConfig:
        step = start.step
        served: Mapping[str, object] = {
            name: self.fleet.served.get(name) for name in ("teacher", "student") if name in step.needs
        }
        return StageConfig.model_validate(
            {
                "run": self.site.key,
                "step": step.name,
                "verb": step.verb,
                "attempt": attempt,
                "spec": self.site.run.spec,
                "base": str(self.site.base),
                "store": self.site.store_uri,
                "inputs": step.inputs,
                "work": str(self.site.work / step.name),
                "sandbox": str(self.fleet.socket) if "sandbox" in step.needs else None,
                "teacher_tokens": start.teacher_tokens,
                "given_up": start.given_up,
                "workers": workers_of(step, self.site.run.spec).shards,
                **served,
            }
        )

    def show(self) -> None:
        self.view.servers = {name: server.state for name, server in self.fleet.servers.items()}
        self.view.write(self.site.work / "view.json")
        self.display.show(self.view, time.time())
