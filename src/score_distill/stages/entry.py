"""Running the stage that a config names. A step that the store has already is told of again, and not done again."""

import asyncio
import importlib
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from score_distill.api import Score
from score_distill.artifacts.steps import manifest_key, read_manifest
from score_distill.artifacts.store import Store, StoreMissing, open_store
from score_distill.contract import CONTROLS, MESSAGE_BYTES, StageConfig, Summary, shortened
from score_distill.errors import Exit, exit_of
from score_distill.report import gather, write_report
from score_distill.serving.ready import until_ready
from score_distill.stages.context import StageContext, summary_of
from score_distill.work_folder import worker_of


def run_stage(config: StageConfig, environ: Mapping[str, str]) -> Summary:
    """Raises StageError, or whatever a fault of this program raises."""
    store = open_store(config.store, environ, Path(config.base))
    Path(config.work).mkdir(parents=True, exist_ok=True)
    if store.exists(manifest_key(config.run, config.step)):
        summary = summary_of(read_manifest(store, config.run, config.step))
        if worker_of(environ) > 0:  # how far workers came adds up
            summary = summary.model_copy(update={"progress": None})
    elif config.recall:
        raise StoreMissing(f"{config.step}: its result was to be told of again, and is not in the store")
    else:
        summary = done_or_failed(config, store, environ) if config.step in CONTROLS else _run(config, store)
    return with_report(config, store, summary) if config.verb == "evaluate" and summary.digest else summary


def _run(config: StageConfig, store: Store) -> Summary:
    asyncio.run(until_ready(one for one in (config.teacher, config.student) if one is not None))
    module = importlib.import_module(f"score_distill.stages.{config.verb}")
    return cast(Summary, module.run(config, store))


def done_or_failed(config: StageConfig, store: Store, environ: Mapping[str, str]) -> Summary:
    """A control that cannot be made costs its comparison alone: the step ends with the reason as its result.

    What trying again, another manifest or more budget may help is raised as from any other step; the executor says in
    ``given_up`` when it has tried often enough.
    """
    frame = StageContext(config, store)
    if config.given_up:
        return failed(frame, f"failed: {config.given_up}")
    results = (frame.input(step).manifest for step in config.inputs)
    lacking = next((one for one in results if one.summary.get("failed")), None)
    if lacking is not None:
        return failed(frame, f"{lacking.step} {lacking.summary['message']}")
    try:
        return _run(config, store)
    except Exception as error:
        code, message = exit_of(error)
        if code not in (Exit.BUG, Exit.MODEL):
            raise
        traceback.print_exception(error)
        if environ.get("RANK", "0") != "0":  # the leading rank of a trainer tells
            return Summary(step=config.step, succeeded=True)
        return failed(StageContext(config, store), f"failed: {message}")


def failed(frame: StageContext, why: str) -> Summary:
    why = shortened(why, MESSAGE_BYTES)
    return frame.finish({}, problems=[why], extra={"failed": True, "message": why})


def report_key(run: str, name: str) -> str:
    return f"{run}/report/{name}"


def with_report(config: StageConfig, store: Store, summary: Summary) -> Summary:
    """Put the report beside the results, where who has no folder of the run finds it, and tell its scores."""
    page = write_report(store, config.run, Path(config.work, "report"))
    for path in page.parent.glob("report.*"):
        store.put(report_key(config.run, path.name), path)
    found = [
        Score(model=one.model, eval=one.eval, score=one.score, low=one.low, high=one.high, n=one.n)
        for one in gather(store, config.run).scores
        if one.score is not None and one.low is not None and one.high is not None
    ]
    return summary.model_copy(update={"scores": tuple(found)})
