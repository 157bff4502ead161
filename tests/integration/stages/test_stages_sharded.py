"""A step by several workers: the files of one worker, committed once, whoever is killed and however many there are."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.integration.stages.conftest import INPUTS, MakePlace, Place, ledger, prepared

from score_distill.contract import Summary
from score_distill.errors import Exit
from score_distill.work_folder import WorkFolder

DYING = Path(__file__).with_name("dying_stage.py")


async def small(make_place: MakePlace, **more: Any) -> Place:
    return await prepared(await make_place(ledger(40), ledger(6, "eval"), scripted={"teacher_errs": 0.2}, **more))


async def start(
    place: Place, step: str, worker: int, workers: int, *, dies_at: str = "", **more: Any
) -> asyncio.subprocess.Process:
    """One worker of a step, told which it is as executors tell it."""
    config = place.config(step, inputs=INPUTS[step], workers=workers, **more)
    path = Path(config.work) / "stage.json"
    path.write_text(config.model_dump_json(by_alias=True))
    stage = ["-m", "score_distill.cli", "stage", step, "--config", str(path)]
    command = [str(DYING), str(path), dies_at] if dies_at else stage
    with (Path(config.work) / "log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=log, stderr=log, env={**os.environ, "SCORE_WORKER": str(worker)}
        )


async def together(place: Place, step: str, workers: int) -> list[Summary]:
    """All workers at once, each to a good end; what each said."""
    started = [await start(place, step, worker, workers) for worker in range(workers)]
    ended = await asyncio.gather(*(process.wait() for process in started))
    work = place.folder / "work" / step
    assert ended == [Exit.OK] * workers, (work / "log").read_text()
    names = ["summary.json", *(f"summary-{worker}.json" for worker in range(1, workers))]
    return [Summary.model_validate_json((work / name).read_text()) for name in names]


def files(place: Place, step: str) -> dict[str, str]:
    return {name: ref.sha256 for name, ref in place.result(step).manifest.files.items()}


def manifests(place: Place, step: str) -> int:
    return sum(key.endswith("manifest.json") for key in place.store.list(f"run/steps/{step}"))


@pytest.mark.parametrize("step", ["demonstrate", "mentor", "evaluate"])
async def test_four_workers_make_the_files_of_one_and_pay_no_more(make_place: MakePlace, step: str) -> None:
    alone = await small(make_place)
    models = alone.models
    await alone.run(step, INPUTS[step])
    calls = models.paid
    many = await prepared(alone.again("many"))
    summaries = await together(many, step, 4)
    assert files(many, step) == files(alone, step)
    assert many.result(step).manifest.counts == alone.result(step).manifest.counts
    assert models.paid == 2 * calls
    assert sum(row["calls"] for row in many.usage(step)) == calls
    progress = WorkFolder(many.folder / "work" / step).read_progress()
    assert progress is not None
    assert progress.tokens == max(summaries, key=lambda one: one.digest).tokens

    digest = many.result(step).manifest.digest
    assert {one.digest for one in summaries} <= {"", digest}
    assert any(one.digest == digest for one in summaries)
    assert all(one.message == "its part is done" and not one.counts for one in summaries if not one.digest)


@pytest.mark.parametrize("dies_at", ["/parts/", "manifest.json"])
@pytest.mark.parametrize("next_worker", [0, 1])
async def test_a_worker_killed_after_its_last_outcome_leaves_a_result_to_the_next_attempt(
    make_place: MakePlace, dies_at: str, next_worker: int
) -> None:
    alone = await small(make_place)
    await alone.run("demonstrate", INPUTS["demonstrate"])
    calls = alone.models.paid
    broken = await prepared(alone.again("broken"))
    assert await (await start(broken, "demonstrate", 0, 2)).wait() == Exit.OK
    assert await (await start(broken, "demonstrate", 1, 2, dies_at=dies_at)).wait() == -signal.SIGKILL
    assert manifests(broken, "demonstrate") == 0

    for worker in (next_worker, 1 - next_worker):
        assert await (await start(broken, "demonstrate", worker, 2, attempt=2)).wait() == Exit.OK
    assert manifests(broken, "demonstrate") == 1
    assert files(broken, "demonstrate") == files(alone, "demonstrate")
    assert broken.models.paid == 2 * calls


async def test_two_that_find_every_part_make_one_manifest(make_place: MakePlace) -> None:
    place = await small(make_place)
    assert await (await start(place, "demonstrate", 0, 2)).wait() == Exit.OK
    assert await (await start(place, "demonstrate", 1, 2, dies_at="manifest.json")).wait() == -signal.SIGKILL
    said = await together(place, "demonstrate", 2)
    assert {one.digest for one in said} == {place.result("demonstrate").manifest.digest}
    assert manifests(place, "demonstrate") == 1


async def test_parts_of_another_number_of_workers_do_not_count_and_their_outcomes_do(make_place: MakePlace) -> None:
    alone = await small(make_place)
    await alone.run("demonstrate", INPUTS["demonstrate"])
    calls = alone.models.paid
    changed = await prepared(alone.again("changed"))
    assert await (await start(changed, "demonstrate", 0, 2)).wait() == Exit.OK
    some = changed.models.paid - calls
    assert 0 < some < calls
    await together(changed, "demonstrate", 3)
    assert files(changed, "demonstrate") == files(alone, "demonstrate")
    assert changed.models.paid == 2 * calls
