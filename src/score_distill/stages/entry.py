"""Running the stage that a config names. A step that the store has already is told of again, and not done again."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from score_distill.artifacts.steps import manifest_key, read_manifest
from score_distill.artifacts.store import open_store
from score_distill.contract import StageConfig, Summary
from score_distill.stages.frame import summary_of


def run_stage(config: StageConfig, environ: Mapping[str, str]) -> Summary:
    """Raises StageError, or whatever a fault of this program raises."""
    store = open_store(config.store, environ, Path(config.base))
    Path(config.work).mkdir(parents=True, exist_ok=True)
    if store.exists(manifest_key(config.run, config.step)):
        return summary_of(read_manifest(store, config.run, config.step))
    module = importlib.import_module(f"score_distill.stages.{config.verb}")
    return cast(Summary, module.run(config, store))
