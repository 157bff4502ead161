"""The commands: run, plan, check, status and report for people, stage and sandbox for executors.

Every command imports what it needs when it runs, so that help is quick and nothing here knows the ML stack. This is
the one place where errors become exit codes.
"""

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from score_distill.errors import EXIT_MEANINGS, BadInput, Exit

if TYPE_CHECKING:
    from score_distill.api import DistillationRun
    from score_distill.executors.local.layout import RunPaths

CODES = "\n\n".join(f"{code.value}: {meaning}" for code, meaning in EXIT_MEANINGS.items())

app = typer.Typer(
    help="Distil a large agent model into a small one by correction (SCoRe).",
    epilog=f"Exit codes\n\n{CODES}",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Manifest = Annotated[Path, typer.Argument(metavar="FILE", help="A DistillationRun in YAML.")]
Begun = Annotated[Path, typer.Argument(metavar="RUN", help="Its manifest, its folder, or its name below ./runs.")]
Work = Annotated[
    Path | None,
    typer.Option("--work", metavar="DIR", help="Folder of the run; by default beside its artifacts."),
]


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("score-distill"))
        raise typer.Exit


@app.command()
def run(file: Manifest, work: Work = None) -> None:
    """Run what is left of a run, here, as local processes. The last line is the path of the report."""
    from rich.console import Console

    from score_distill.executors.local.display import Bars, Lines
    from score_distill.executors.local.runner import execute

    with exit_codes():
        site = _site(_read(file), file, work)
        console = Console(stderr=True)
        display = Bars(console) if console.is_terminal else Lines(lambda text: typer.echo(text, err=True))
        typer.echo(f"run {site.key} in {site.folder}", err=True)
        with display:
            interruptible(execute(site, display))
        _report(site)


@app.command()
def plan(file: Manifest, work: Work = None) -> None:
    """Show the steps of a run: what is done, what is left, and the tokens it is estimated to take."""
    with exit_codes():
        from score_distill.executors.local.survey import print_plan, survey

        print_plan(*survey(_site(_read(file), file, work)))


@app.command()
def check(file: Manifest, work: Work = None) -> None:
    """Check a manifest and this machine: files, models, endpoint, key, packages, disk. Spends nothing."""
    with exit_codes():
        import asyncio

        from score_distill.control.pipeline import gpus_of, steps_of
        from score_distill.executors.local.preflight import preflight

        site = _site(_read(file), file, work)
        steps = steps_of(site.run.spec)
        asyncio.run(preflight(site, steps))
        for step in steps:
            if (needed := gpus_of(step, site.run.spec)).total:
                typer.echo(f"step {step.name} needs at once GPUs: {needed}")
        typer.echo(f"{file}: ready to run")


@app.command()
def status(run: Begun, work: Work = None) -> None:
    """Show how far a run is, also while it goes on."""
    with exit_codes():
        from score_distill.executors.local.survey import print_status

        print_status(_begun(run, work))


@app.command()
def report(run: Begun, work: Work = None) -> None:
    """Write the report of a run as far as it is. The last line is its path."""
    with exit_codes():
        _report(_begun(run, work))


@app.command("list")
def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where runs have their folders.")] = Path("runs"),
) -> None:
    """Show the runs of a folder, each with how far it is."""
    with exit_codes():
        from score_distill.executors.local.layout import begun_in
        from score_distill.executors.local.survey import print_list
        from score_distill.machine import detect

        print_list(begun_in(folder, os.environ, detect()))


@app.command()
def stage(
    verb: Annotated[str, typer.Argument(metavar="VERB", help="prepare, demonstrate, sft, mentor, rl, evaluate.")],
    config: Annotated[Path, typer.Option("--config", metavar="stage.json", help="What an executor wrote for it.")],
) -> None:
    """Run one step's work; started by an executor, once for each rank of a trainer."""
    with exit_codes():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        _stage(verb, config)


@app.command()
def fetch(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A model as the manifest names it: hf://, s3://, pvc://.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; a folder inside a mount, not the mount.")],
    untied: Annotated[
        bool, typer.Option("--untied", help="Make tied embeddings two, so weights can be loaded.")
    ] = False,
) -> None:
    """Put a model into a folder, whole or not at all; nothing happens when it is there. For pods."""
    with exit_codes():
        from score_distill.serving.fetch import fetch

        fetch(uri, folder, os.environ, Path(os.environ.get("SCORE_CLAIMS", "/claims")), untied=untied)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def sandbox(context: typer.Context) -> None:
    """The sandbox for code that models write; see sandbox --help."""
    sandbox_app = importlib.import_module("score_distill.sandbox.cli").app
    sandbox_app(args=context.args, prog_name="score-distill sandbox")


@contextmanager
def exit_codes() -> Iterator[None]:
    """End the process with the code that ``EXIT_MEANINGS`` gives for an error, after one clear message."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, typer.Exit):
            raise
        raise typer.Exit(_told(error)) from None


def _told(error: BaseException) -> Exit:
    from score_distill.errors import exit_of

    if isinstance(error, KeyboardInterrupt):
        typer.echo("stopped; the same command goes on where it was", err=True)
        return Exit.INTERRUPTED
    code, message = exit_of(error)
    if code == Exit.BUG:
        traceback.print_exception(error)
    typer.echo(f"error: {message}", err=True)
    return code


def interruptible(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until SIGINT, SIGTERM or SIGHUP: then clean up and raise KeyboardInterrupt.

    A second signal ends everything at once.
    """
    import asyncio

    async def guarded() -> None:
        task = asyncio.ensure_future(work)

        def stop() -> None:
            if task.cancelling():
                os._exit(Exit.INTERRUPTED)
            typer.echo("stopping (once more to kill) ...", err=True)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        await task

    try:
        asyncio.run(guarded())
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error


def _read(file: Path) -> "DistillationRun":
    from score_distill import manifest

    return manifest.read(file)


def _site(run: "DistillationRun", file: Path, work: Path | None) -> "RunPaths":
    from score_distill.executors.local.layout import run_paths
    from score_distill.machine import detect

    return run_paths(run, file.parent, work, os.environ, detect())


def _begun(named: Path, work: Path | None) -> "RunPaths":
    from score_distill.executors.local.layout import remembered
    from score_distill.machine import detect

    if named.is_file():
        folder = _site(_read(named), named, work).folder
    else:
        folder = named if named.is_dir() else Path("runs", named)
    return remembered(folder, os.environ, detect())


def _report(site: "RunPaths") -> None:
    from rich.console import Console

    from score_distill.report import gather, print_report, write_report

    path = write_report(site.store, site.key, site.report)
    print_report(gather(site.store, site.key), Console())
    typer.echo(str(path))


def _stage(verb: str, path: Path) -> None:
    from score_distill.contract import Summary
    from score_distill.errors import cause_of, exit_of
    from score_distill.progress_server import serve_where_asked
    from score_distill.work_folder import WorkFolder, read_config, report_end

    config = read_config(path)
    if config.verb != verb:
        raise BadInput(f"{path}: is for {config.verb}, not for {verb}")
    summary = Summary(step=config.step, succeeded=False, reason="Stopped", message="stopped by a signal")
    try:
        serve_where_asked(config, WorkFolder(Path(config.work)), os.environ)
        from score_distill.stages.entry import run_stage

        summary = run_stage(config, os.environ)
    except (Exception, KeyboardInterrupt) as error:
        code, message = exit_of(error)
        summary = summary.model_copy(update={"reason": code.name, "cause": cause_of(error), "message": message})
        raise
    finally:
        report_end(config, summary, os.environ)


if __name__ == "__main__":
    app()
