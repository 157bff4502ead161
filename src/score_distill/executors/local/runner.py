"""Executing the plan of a run on this machine: servers up, one process a step, again where it failed, to the report.

The plan decides what is to be done and the store knows what is done; this file only carries it out. A step counts as
done when its manifest is in the store, whatever became of its process. Any process may be killed at any moment, this
one included: the same command goes on.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from score_distill import machine
from score_distill.api import DistillationRun
from score_distill.artifacts.lock import RunLock
from score_distill.artifacts.steps import completed_steps
from score_distill.contract import StageConfig, Summary
from score_distill.control.change import changes
from score_distill.control.pipeline import Step
from score_distill.control.plan import Plan, plan
from score_distill.errors import BudgetSpent, Changed, Exit, Infrastructure, StageError, StepFailed
from score_distill.executors.local import processes
from score_distill.executors.local.display import Display
from score_distill.executors.local.fleet import Fleet
from score_distill.executors.local.layout import Site
from score_distill.executors.local.preflight import preflight
from score_distill.executors.local.records import done_of
from score_distill.executors.local.servers import Server
from score_distill.executors.local.view import StepView, View, birth, read_progress
from score_distill.train import launch

LOOK_SECONDS = 0.5
TRIES = 4


def stage_command(step: Step, config: Path, ranks: int) -> list[str]:
    return launch.torchrun(ranks, "score_distill.cli", ["stage", step.verb, "--config", str(config)])


@dataclass(frozen=True)
class Means:
    """What tests replace: stages, servers, the checks beforehand, and how long to wait before a retry."""

    command: Callable[[Step, Path, int], list[str]] = stage_command
    fleet: Callable[[Site], Fleet] = Fleet
    preflight: bool = True
    pause: Callable[[int], float] = lambda tries: float(min(30, 2**tries))


async def execute(site: Site, display: Display, means: Means = Means()) -> None:
    """Run what is left of the run; StageError when it cannot be finished now."""
    with ExitStack() as stack:
        for folder in {site.folder, Path(site.store_uri, site.key)} if "://" not in site.store_uri else {site.folder}:
            stack.enter_context(RunLock(folder))
        processes.sweep(site.logs)
        hold_to_manifest(site)
        current = planned(site)
        if means.preflight and current.left:
            display.say("checking files, models and endpoints ...")
            await preflight(site, current.left)
        site.store.put(record_key(site), site.run.model_dump_json(by_alias=True, indent=1).encode())
        async with means.fleet(site) as fleet:
            await Run(site, fleet, display, means).steps()


def record_key(site: Site) -> str:
    return f"{site.key}/run.json"


def hold_to_manifest(site: Site) -> None:
    """Changed when the store has something that the run made with another manifest."""
    if not site.store.children(f"{site.key}/steps"):
        return
    before = DistillationRun.model_validate_json(site.store.get(record_key(site)))
    if found := changes(before, site.run):
        lines = "\n".join(f"  {one}" for one in found)
        raise Changed(
            f"{site.store_uri}/{site.key} was begun with another manifest; give this one another metadata.name, "
            f"or take back:\n{lines}"
        )


def planned(site: Site) -> Plan:
    return plan(site.run, done_of(completed_steps(site.store, site.key)), None)


class Run:
    """One execution under way."""

    def __init__(self, site: Site, fleet: Fleet, display: Display, means: Means) -> None:
        self.site, self.fleet, self.display, self.means = site, fleet, display, means
        self.environ = machine.environment(site.store_environ, site.machine)
        site.work.mkdir(parents=True, exist_ok=True)
        record = {"manifest": site.run.model_dump(mode="json", by_alias=True), "base": str(site.base)}
        (site.work / "site.json").write_text(json.dumps(record))
        names = [one.step.name for one in planned(site).steps]
        steps = [StepView(name=name) for name in names]
        self.view = View(run=site.key, pid=os.getpid(), born=birth(os.getpid()), began=time.time(), steps=steps)

    async def steps(self) -> None:
        while (current := planned(self.site)).left:
            for one in current.steps:
                if one.state == "done" and self.view.step(one.step.name).state != "done":
                    self.view.step(one.step.name).state = "done"
            await self.fleet.keep(current.needs)
            for server in self.fleet.of(current.needs):
                server.begin()
            self.show()
            step = current.ready[0]
            self.within_budget(current)
            try:
                await self.step(step, current)
            except asyncio.CancelledError:
                self.view.step(step.name).state = "interrupted"
                self.show()
                raise
            except StageError:
                self.view.step(step.name).state = "failed"
                self.show()
                raise
            for server in self.fleet.of(step.needs):
                server.succeeded()
        for step_view in self.view.steps:
            step_view.state = "done"
        await self.fleet.keep(())
        self.show()

    def within_budget(self, current: Plan) -> None:
        budget, spent = self.site.run.spec.budget.teacher_tokens, current.spent("teacher")
        if budget is not None and "teacher" in current.ready[0].needs and spent >= budget:
            raise BudgetSpent(
                f"spec.budget.teacherTokens: {budget:,}; {spent:,} are spent before step {current.ready[0].name}"
            )

    async def step(self, step: Step, current: Plan) -> None:
        """Run a step until it is done; tries that get further do not count against the bound."""
        shown = self.view.step(step.name)
        tries, furthest = 0, -1
        while True:
            code = await self.attempt(step, current)
            if step.name in completed_steps(self.site.store, self.site.key):
                break
            summary = self.summary(step)
            if code not in (Exit.INFRASTRUCTURE, *range(128, 256)) or code == Exit.INTERRUPTED:
                raise StepFailed(self.complaint(step, code, summary), known(code))
            reached = shown.progress.done if shown.progress else 0
            tries, furthest = (1, reached) if reached > furthest else (tries + 1, furthest)
            if tries >= TRIES:
                raise Infrastructure(
                    f"{self.complaint(step, code, summary)}\n  ({tries} tries in a row got no further)"
                )
            shown.state, shown.note = "retrying", first_line(summary.message) if summary else ended(code)
            self.show()
            await asyncio.sleep(self.means.pause(tries))
        shown.state, shown.note, shown.ended = "done", "", time.time()
        self.show()

    async def attempt(self, step: Step, current: Plan) -> int:
        """One process for a step; its exit code, or INFRASTRUCTURE when a server that it uses died."""
        shown = self.view.step(step.name)
        servers = self.fleet.of(step.needs)
        shown.state, shown.began, shown.first = "running", time.time(), None
        await self.watched(asyncio.gather(*(server.ready() for server in servers)), step, "waits for its servers")
        config = self.config(step, current)
        work = Path(config.work)
        path = work / "stage.json"
        path.write_text(config.model_dump_json(by_alias=True, indent=1), encoding="utf-8")
        for old in work.glob("summary*.json"):
            old.unlink()
        before = read_progress(work / "progress.json")
        shown.attempt, shown.began, shown.first = config.attempt, time.time(), before.done if before else 0
        command = self.means.command(step, path, self.ranks(step))
        process = await processes.start(step.name, command, self.environ, self.log(step))
        ended = asyncio.create_task(process.wait())
        deaths = {asyncio.create_task(server.death()): server for server in servers}
        try:
            await self.watched(asyncio.wait({ended, *deaths}, return_when=asyncio.FIRST_COMPLETED), step, "")
            fallen: list[Server] = [server for death, server in deaths.items() if death.done()]
            if fallen and not ended.done():
                shown.note = f"server {fallen[0].name} died"
                await process.stop()
            code = await ended
            return int(Exit.INFRASTRUCTURE) if fallen else end_of_ranks(code, work, self.ranks(step))
        finally:
            for task in deaths:
                task.cancel()
            if not ended.done():
                await process.stop()
            process.close()
            shown.progress = read_progress(work / "progress.json") or shown.progress

    async def watched(self, waiting: Awaitable[object], step: Step, note: str) -> None:
        """Await something while the view is kept fresh."""
        shown = self.view.step(step.name)
        task = asyncio.ensure_future(waiting)
        shown.note = note
        try:
            while not task.done():
                shown.progress = read_progress(self.work(step) / "progress.json") or shown.progress
                self.show()
                await asyncio.wait({task}, timeout=LOOK_SECONDS)
            task.result()
        finally:
            task.cancel()
            shown.note = ""

    def config(self, step: Step, current: Plan) -> StageConfig:
        """What the step is told; every start of its process is another attempt."""
        work = self.work(step)
        work.mkdir(parents=True, exist_ok=True)
        try:
            attempt = int(json.loads((work / "stage.json").read_text())["attempt"]) + 1
        except (OSError, ValueError, KeyError):
            attempt = 1
        budget = self.site.run.spec.budget.teacher_tokens
        return StageConfig(
            run=self.site.key,
            step=step.name,
            verb=step.verb,
            attempt=attempt,
            spec=self.site.run.spec,
            base=str(self.site.base),
            store=self.site.store_uri,
            inputs=step.inputs,
            work=str(work),
            teacher=self.fleet.served.get("teacher") if "teacher" in step.needs else None,
            student=self.fleet.served.get("student") if "student" in step.needs else None,
            sandbox=str(self.fleet.socket) if "sandbox" in step.needs else None,
            teacher_tokens=None if budget is None else budget - current.spent("teacher"),
        )

    def show(self) -> None:
        self.view.servers = {name: server.state for name, server in self.fleet.servers.items()}
        self.view.write(self.site.work / "view.json")
        self.display.show(self.view, time.time())

    def ranks(self, step: Step) -> int:
        return self.site.run.spec.resources.trainer.processes_per_node if "trainer" in step.needs else 1

    def work(self, step: Step) -> Path:
        return self.site.work / step.name

    def log(self, step: Step) -> Path:
        return self.site.logs / f"{step.name}.log"

    def summary(self, step: Step) -> Summary | None:
        try:
            return Summary.model_validate_json((self.work(step) / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def complaint(self, step: Step, code: int, summary: Summary | None) -> str:
        """Why a step failed: its own words when it had any, else the end of its log."""
        if summary is not None and summary.message and code != Exit.BUG:
            return f"step {step.name}: {summary.message}"
        log = self.log(step)
        end = "\n".join(f"  {line}" for line in processes.last_lines(log, 15))
        return f"step {step.name}: {ended(code)}; the end of {log}:\n{end}"


def end_of_ranks(code: int, work: Path, ranks: int) -> int:
    """The exit code of a step of several ranks, whose launcher ends with 1 whatever happened to one of them.

    Each rank that ends by itself says why in a summary; one that was killed says nothing.
    """
    if code != Exit.BUG or ranks == 1:
        return code
    found = [Summary.model_validate_json(path.read_text(encoding="utf-8")) for path in work.glob("summary*.json")]
    reasons = {one.reason for one in found}
    understood = [end for end in Exit if end.name in reasons and end is not Exit.BUG]
    if understood:
        return int(understood[0])
    return int(Exit.BUG if len(found) == ranks else Exit.INFRASTRUCTURE)


def ended(code: int) -> str:
    if code == 128 + 9:
        return "its process was killed (by signal 9; was memory short?)"
    return f"its process was ended by signal {code - 128}" if code > 128 else f"its process ended with exit code {code}"


def first_line(text: str) -> str:
    return text.partition("\n")[0]


def known(code: int) -> Exit:
    return Exit(code) if code in set(Exit) else Exit.BUG
