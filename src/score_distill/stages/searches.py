"""The search of a run: its index is part of what prepare makes, the answers of an endpoint are kept beside each step.

Every step that acts finds the answers of the steps before it and of its own earlier attempts, whichever worker asked.
"""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

from score_distill import secret_keys
from score_distill.agent.search import Recorded, Search
from score_distill.agent.search_corpus import Corpus, build
from score_distill.agent.search_endpoint import SearchEndpoint
from score_distill.agent.tools import Tool
from score_distill.artifacts.data import DataNotUsable
from score_distill.artifacts.pages import read_pages
from score_distill.artifacts.steps import journal_key
from score_distill.artifacts.store import read_journal
from score_distill.errors import BadInput
from score_distill.stages.context import StageContext

INDEX = "search"  # the folder in the result of prepare


def add_index(frame: StageContext) -> int:
    """Make the index of the corpus part of the step's result; the number of pages, 0 where the run has no corpus."""
    search = frame.config.spec.search
    if search is None or search.corpus is None:
        return 0
    folder = frame.work / INDEX
    folder.mkdir(exist_ok=True)
    path = folder / "pages.sqlite"
    try:
        count = build(read_pages(search.corpus, frame.places), path)
    except DataNotUsable as error:
        raise BadInput(f"spec.search.corpus: {error}") from error
    frame.writer.add_tree(INDEX, folder)
    path.unlink()
    return count


@asynccontextmanager
async def searching(frame: StageContext) -> AsyncIterator[Tool | None]:
    """The tool ``search`` as the step has it; None where the run has none."""
    spec = frame.config.spec
    search = spec.search
    if search is None:
        yield None
        return
    longest = spec.method.agent.observation_chars
    if search.endpoint is None:
        folder = frame.input("prepare").fetch_tree(INDEX, frame.work.parent / "cache")
        yield Search(Corpus(folder / "pages.sqlite", search.results), search.blocked, longest)
        return
    secret = search.endpoint.api_key_secret
    key = secret_keys.find(secret, os.environ) if secret else ""
    wait = float(os.environ.get("SCORE_RETRY_SECONDS", "1"))
    async with SearchEndpoint(search.endpoint.url, key, search.results, wait=wait) as endpoint:
        with frame.writer.journal("searches") as journal:
            yield Search(Recorded(endpoint, _searched(frame), journal.append), search.blocked, longest)


def _searched(frame: StageContext) -> Iterator[Mapping[str, Any]]:
    config = frame.config
    steps = (*config.inputs, config.step)
    return chain.from_iterable(read_journal(frame.store, journal_key(config.run, step, "searches")) for step in steps)
