"""Running the stage that a config names. A step that the store has already is told of again, and not done again."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from score_distill.api import Score
from score_distill.artifacts.steps import manifest_key, read_manifest
from score_distill.artifacts.store import Store, open_store
from score_distill.contract import StageConfig, Summary
from score_distill.report import gather, write_report
from score_distill.stages.context import summary_of


def run_stage(config: StageConfig, environ: Mapping[str, str]) -> Summary:
    """Raises StageError, or whatever a fault of this program raises."""
    store = open_store(config.store, environ, Path(config.base))
    Path(config.work).mkdir(parents=True, exist_ok=True)
    if store.exists(manifest_key(config.run, config.step)):
        summary = summary_of(read_manifest(store, config.run, config.step))
    else:
        module = importlib.import_module(f"score_distill.stages.{config.verb}")
        summary = cast(Summary, module.run(config, store))
    return with_report(config, store, summary) if config.verb == "evaluate" and summary.digest else summary


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
