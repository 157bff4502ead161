"""What can be said of a run from outside, at any time: its plan with estimates, and how far it is.

Only reads: a run that was not begun is not begun by asking. Whoever executes the run is not disturbed.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from score_distill.api import TaskSet
from score_distill.artifacts.data import DataNotUsable, open_data
from score_distill.artifacts.steps import Manifest, completed_steps
from score_distill.artifacts.store import StoreError
from score_distill.control.change import changes
from score_distill.control.estimate import Tasks, tasks_of
from score_distill.control.guidance import guidance
from score_distill.control.plan import Plan, plan
from score_distill.executors.local.layout import RunPaths
from score_distill.executors.local.records import done_of
from score_distill.executors.local.view import StepView, View, line, read_view


def survey(site: RunPaths) -> tuple[RunPaths, Plan, list[str]]:
    """The plan with estimates, and remarks: what could not be counted, what may not change, what will not work."""
    remarks: list[str] = []
    manifests = _manifests(site)
    tasks = _split(site, manifests, remarks)
    if manifests or _exists(site):
        with suppress(StoreError):
            remarks += [f"changed since the run began: {one}" for one in changes(site.recorded(), site.run)]
    done = done_of(manifests)
    if tasks is not None:
        remarks += guidance(site.run.spec, tasks, done)
    return site, plan(site.run, done, tasks), remarks


def print_plan(site: RunPaths, found: Plan, remarks: list[str]) -> None:
    console = Console(highlight=False)
    grid = Table("step", "state", "teacher tokens", "student tokens", "GPUs at once", box=None, padding=(0, 2, 0, 0))
    for column in grid.columns[2:4]:
        column.justify = "right"
    for one in found.steps:
        tokens = [f"{count:,}" if count else "-" for count in (one.tokens.teacher, one.tokens.student)]
        grid.add_row(one.step.name, one.state, *tokens, str(one.gpus) if one.gpus.total else "-")
    console.print(grid)
    for one in found.steps:
        if one.state != "done" and one.tokens.teacher + one.tokens.student:
            console.print(Text(f"{one.step.name}: {one.tokens.basis}"), soft_wrap=True)
    spent = found.spent("teacher")
    console.print(f"teacher tokens: {spent:,} spent, {found.tokens('teacher') - spent:,} to come (estimated)")
    budget = site.run.spec.budget.teacher_tokens
    if budget is not None:
        over = ": the estimate is over it" if found.tokens("teacher") > budget else ""
        console.print(f"budget: {budget:,} teacher tokens{over}")
    for remark in remarks:
        console.print(Text(f"note: {remark}"), soft_wrap=True)
    console.print(Text(f"folder: {site.folder}"), soft_wrap=True)


def print_status(site: RunPaths, now: float | None = None) -> None:
    """Each step, and the servers while a runner is alive."""
    now = time.time() if now is None else now
    manifests = _manifests(site)
    found = plan(site.run, done_of(manifests), None)
    view = read_view(site.work / "view.json")
    live = view is not None and view.live
    print(f"run {site.key} in {site.folder}: {_state(found, view, live)}")
    for one in found.steps:
        seen = next((step for step in view.steps if step.name == one.step.name), None) if view else None
        seen = seen or StepView(name=one.step.name)
        if done := manifests.get(one.step.name):
            began, ended = done.started.timestamp(), done.finished.timestamp()
            seen = StepView(name=one.step.name, state="done", began=began, ended=ended)
        elif seen.state == "running" and not live:
            seen = seen.model_copy(update={"state": "interrupted"})
        print(line(seen, now))
    if live and view is not None:
        for name, state in view.servers.items():
            print(f"server {name}: {state}")


def print_list(sites: Sequence[RunPaths]) -> None:
    """A run a line: its name, how many of its steps are done, what it does, and its folder."""
    for site in sites:
        found = plan(site.run, done_of(_manifests(site)), None)
        view = read_view(site.work / "view.json")
        done = f"{len(found.steps) - len(found.left)}/{len(found.steps)} steps"
        state = _state(found, view, view is not None and view.live)
        print(f"{site.run.metadata.name:<24}  {done:<11}  {state}  {site.folder}")


def _state(found: Plan, view: View | None, live: bool) -> str:
    if not found.left:
        return "finished"
    if live and view is not None:
        return f"running (process {view.pid})"
    return "not running; score-distill run goes on" if view else "not begun"


def _manifests(site: RunPaths) -> dict[str, Manifest]:
    return completed_steps(site.store, site.key) if _exists(site) else {}


def _exists(site: RunPaths) -> bool:
    return "://" in site.store_uri or Path(site.store_uri, site.key).is_dir()


def _split(site: RunPaths, manifests: dict[str, Manifest], remarks: list[str]) -> Tasks | None:
    """The parts as ``prepare`` made them, or as the task files promise."""
    spec = site.run.spec
    try:
        evaluation = sum(_count(site, one) for one in spec.tasks.eval)
        if "prepare" in manifests:
            counts = manifests["prepare"].counts
            mentor = counts.get("sft", 0) + counts.get("rl", 0)
            return Tasks(counts.get("cold_start", 0), counts.get("dev", 0), mentor, evaluation)
        return tasks_of(spec, _count(site, spec.tasks.train), evaluation)
    except (DataNotUsable, StoreError) as error:
        remarks.append(f"no estimates: {error}")
        return None


def _count(site: RunPaths, tasks: TaskSet) -> int:
    lines = sum(1 for one in open_data(tasks.uri, site.places) if one.strip())
    return lines if tasks.limit is None else min(lines, tasks.limit)
