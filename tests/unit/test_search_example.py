"""examples/search.yaml: prepare indexes its corpus, and what search finds there answers its questions."""

import asyncio
from pathlib import Path

import pytest

from score_distill import manifest
from score_distill.agent.trajectory import Task
from score_distill.artifacts.folder import FolderStore
from score_distill.contract import StageConfig
from score_distill.stages import prepare
from score_distill.stages.context import StageContext
from score_distill.stages.prepare import tasks_of
from score_distill.stages.searches import searching

EXAMPLES = Path(__file__).parents[2] / "examples"
RECKONED = {"12", "45", "81", "10", "36", "1417", "88", "5", "6"}  # from numbers of the pages


@pytest.fixture
def frame(tmp_path: Path) -> StageContext:
    (tmp_path / "work").mkdir()
    spec = manifest.read(EXAMPLES / "search.yaml").spec
    here = spec.student.model_copy(update={"model": str(EXAMPLES / "ledger" / "models" / "student")})
    config = StageConfig(
        run="run",
        step="prepare",
        verb="prepare",
        spec=spec.model_copy(update={"student": here}),
        base=str(EXAMPLES),
        store=str(tmp_path / "store"),
        work=str(tmp_path / "work"),
    )
    return StageContext(config, FolderStore(tmp_path / "store"))


def test_every_question_is_kept_and_answered_by_what_is_found(frame: StageContext) -> None:
    counts = prepare.run(frame.config, frame.store).counts
    assert counts["pages"] == len(list((EXAMPLES / "search" / "pages").iterdir()))
    assert (counts["read"], counts["kept"], counts["eval_facts"]) == (36, 36, 10)
    tasks = frame.config.spec.tasks
    found = asyncio.run(_found(frame, [task for one in (tasks.train, *tasks.eval) for task in tasks_of(frame, one)]))
    unanswered = [task.question for task, text in found if task.answer not in RECKONED and task.answer not in text]
    assert unanswered == []


async def _found(frame: StageContext, tasks: list[Task]) -> list[tuple[Task, str]]:
    async with searching(frame) as search:
        assert search is not None
        return [(task, str((await search.call(task, None, [task.question], {}))[0])) for task in tasks]
