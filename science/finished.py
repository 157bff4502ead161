"""Reads what a finished run left, as a stage of it would."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from score_distill import manifest
from score_distill.artifacts.store import open_store
from score_distill.contract import StageConfig
from score_distill.stages.context import StageContext


@contextmanager
def finished(file: Path) -> Iterator[StageContext]:
    """The outputs of every step of the run of this manifest; models are unpacked for as long as it is open."""
    run = manifest.read(file)
    uri = str((file.parent / run.spec.artifacts.uri).resolve())
    with TemporaryDirectory() as work:
        config = StageConfig(
            run=run.metadata.name,
            step="evaluate",
            verb="evaluate",
            spec=run.spec,
            base=str(file.parent),
            store=uri,
            work=f"{work}/evaluate",
        )
        yield StageContext(config, open_store(uri, os.environ))
