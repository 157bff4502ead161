"""Trying the sandbox by hand: a prompt, or the cells of a Python file as the steps of one session.

Exit codes: 0 when every step ran, 1 when the last step ended in an error, 2 when there is nothing to run, 3 when the
sandbox itself failed.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from score_distill.errors import StageError
from score_distill.sandbox.client import StepResult
from score_distill.sandbox.local import start

app = typer.Typer(
    help=__doc__, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]}, rich_markup_mode=None
)
CELL = re.compile(r"^# ?%%.*$", re.MULTILINE)


def cells(source: str) -> list[str]:
    """The parts of a file between lines that begin with ``# %%``; empty ones are left out."""
    return [cell.strip("\n") for cell in CELL.split(source) if cell.strip()]


@app.callback(invoke_without_command=True)
def prompt(context: typer.Context) -> None:
    """Read code from the terminal, a step at an empty line, until the end of input."""
    if context.invoked_subcommand is None:
        _ended(_session(_typed(), lambda result: print(shown(result.output), flush=True)))


@app.command()
def run(file: Annotated[Path, typer.Argument(help="a Python file, its cells divided by lines '# %%'")]) -> None:
    """Run the cells of a file as the steps of one session; one JSON observation a line."""
    try:
        steps = cells(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        print(f"{file}: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    if not steps:
        print(f"{file}: no code; write at least one cell", file=sys.stderr)
        raise typer.Exit(2)
    last = _ended(_session(iter(steps), lambda result: print(json.dumps(_observation(result)), flush=True)))
    raise typer.Exit(1 if last and last.error else 0)


def shown(text: str) -> str:
    """``text`` with everything escaped that a terminal would obey and not print."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text
    )


def _ended(session: Coroutine[Any, Any, StepResult | None]) -> StepResult | None:
    """The last result of a session; an error of the sandbox is a message, and the exit that it carries."""
    try:
        return asyncio.run(session)
    except StageError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit) from None


async def _session(steps: Iterator[str], show: Callable[[StepResult], None]) -> StepResult | None:
    result = None
    async with start() as sandbox:
        branch = await sandbox.open()
        for step in steps:
            result = await branch.run(step)
            if result.branch is not branch:
                await branch.close()
            branch = result.branch
            show(result)
    return result


def _typed() -> Iterator[str]:
    lines: list[str] = []
    for line in sys.stdin:
        if line.strip():
            lines.append(line)
        elif lines:
            yield "".join(lines)
            lines = []
    if lines:
        yield "".join(lines)


def _observation(result: StepResult) -> dict[str, str | None]:
    return {"output": result.output, "answer": result.answer, "error": result.error, "state": result.state_hash}
