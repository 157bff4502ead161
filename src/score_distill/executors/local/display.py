"""Showing a run while it goes: bars on a terminal, and elsewhere plain lines that do not flood a log.

A plain line is written when a step changes its state, and for progress at most every ten seconds or ten percent.
"""

from collections.abc import Callable
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from score_distill.executors.local.view import StepView, View, line
from score_distill.report.wording import duration

SECONDS, SHARE = 10.0, 0.10


class Display(Protocol):
    def show(self, view: View, now: float) -> None: ...

    def say(self, text: str) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Lines:
    """Plain lines for a log or a pipe."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._states: dict[str, str] = {}
        self._told: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, text: str) -> None:
        self._write(text)

    def show(self, view: View, now: float) -> None:
        for name, state in view.servers.items():
            if self._changed(f"server {name}", state):
                self._write(f"server {name}: {state}")
        for step in view.steps:
            changed = self._changed(step.name, f"{step.state} {step.attempt} {step.note}")
            if (changed and (step.state != "waiting" or step.note)) or self._due(step, now):
                self._write(line(step, now))

    def _changed(self, name: str, state: str) -> bool:
        before, self._states[name] = self._states.get(name), state
        return before != state

    def _due(self, step: StepView, now: float) -> bool:
        if step.state != "running" or step.progress is None:
            return False
        share = step.progress.done / step.progress.total if step.progress.total else 0.0
        when, then = self._told.setdefault(step.name, (now, share))
        if share == then or (now - when < SECONDS and share - then < SHARE):
            return False
        self._told[step.name] = (now, share)
        return True


class Bars:
    """A live table on a terminal, one row a step."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        self._live.console.print(Text(text), soft_wrap=True)

    def show(self, view: View, now: float) -> None:
        self._live.update(table(view, now), refresh=True)


COLOURS = {
    "done": "green",
    "running": "cyan",
    "retrying": "yellow",
    "failed": "red",
    "interrupted": "yellow",
    "waiting": "dim",
}


def table(view: View, now: float) -> RenderableType:
    """The run as rows: step, state, bar, amount, pace, time left, message."""
    grid = Table.grid(padding=(0, 2))
    for step in view.steps:
        rate, left = step.pace(now)
        amount, bar, took = "", None, ""
        if step.progress:
            total, unit = step.progress.total, step.progress.unit
            amount = f"{step.progress.done:,}/{total:,} {unit}" if total else f"{step.progress.done:,} {unit}"
            bar = ProgressBar(total or 1, step.progress.done if total else 0, width=24) if total else None
        if step.began and (step.state == "done" or left is None):
            took = duration((step.ended or now) - step.began)
        grid.add_row(
            step.name,
            Text(step.state, style=COLOURS[step.state]),
            bar or "",
            amount,
            f"{rate:.3g}/s" if rate else "",
            f"{duration(left)} left" if left is not None else took,
            Text(step.note or (step.progress.message if step.progress else "")),
        )
    servers = ", ".join(f"{name} {state}" for name, state in view.servers.items())
    if servers:
        return Group(grid, Text(f"servers    {servers}", style="dim"))
    return grid
