"""The control of a run: a student that imitates, for as many teacher tokens and optimizer steps as correction took."""

import asyncio
import shutil
from collections import Counter
from dataclasses import replace
from typing import Any

from tests.integration.stages.conftest import EXAMPLES, INPUTS, MakePlace, Place, ledger, prepared, write_model

MORE = ("prepare", "demonstrate", "mentor")
IMITATE = ("demonstrate", "more-demos", "sft", "warmup")
METHOD: dict[str, Any] = {"control": "Imitation"}
TRAINING = {"epochs": 2, "batch_tokens": 512, "pack_tokens": 512, "learning_rate": 1e-3}


async def mentored(make_place: MakePlace, method: dict[str, Any] | None = None, **scripted: Any) -> Place:
    """A place in which a run with the control has come as far as mentor."""
    place = await make_place(ledger(120), share=0.3, scripted=scripted, method=METHOD | (method or {}))
    place = await prepared(place)
    await place.run("demonstrate", INPUTS["demonstrate"])
    await place.run("mentor", INPUTS["mentor"])
    return place


def teacher_tokens(place: Place, step: str) -> int:
    return sum(row["prompt"] + row["completion"] for row in place.usage(step) if row["role"] == "teacher")


async def finished(place: Place, step: str, inputs: tuple[str, ...], verb: str) -> None:
    process = await place.process(step, inputs, verb=verb)
    assert await process.wait() == 0, (place.folder / "work" / step / "log").read_text()


async def test_more_demonstrations_are_of_the_sft_half_and_cost_what_its_corrections_cost(
    make_place: MakePlace,
) -> None:
    place = await mentored(make_place, teacher_errs=0.2)
    await place.run("more-demos", MORE, verb="demonstrate")
    half = {row["id"] for row in place.rows("prepare", "mentor.jsonl") if row["split"] == "sft"}
    rows = [row for name in ("demonstrations", "rejected") for row in place.rows("more-demos", f"{name}.jsonl")]
    assert rows
    assert {row["task"]["id"].partition(" again ")[0] for row in rows} <= half
    cold = {row["id"] for row in place.rows("prepare", "cold_start.jsonl")}
    assert not cold & half

    budget = place.result("mentor").manifest.counts["sft_teacher_tokens"]
    assert 0 < budget < teacher_tokens(place, "mentor")
    each = teacher_tokens(place, "demonstrate") / len(cold)
    assert len(rows) == round(budget / each)
    assert abs(teacher_tokens(place, "more-demos") / budget - 1) < 0.1


async def test_where_one_pass_is_cheaper_than_the_corrections_tasks_are_demonstrated_again(
    make_place: MakePlace,
) -> None:
    place = await mentored(make_place)
    one_pass = len([row for row in place.rows("prepare", "mentor.jsonl") if row["split"] == "sft"])
    counts = place.result("mentor").manifest.counts
    demonstrated = place.result("demonstrate").manifest
    each = teacher_tokens(place, "demonstrate") / sum(demonstrated.counts.values())
    place = richer(place, round(each * one_pass * 2.5) - counts["sft_teacher_tokens"])
    await place.run("more-demos", MORE, verb="demonstrate")
    rows = place.rows("more-demos", "demonstrations.jsonl") + place.rows("more-demos", "rejected.jsonl")
    times = Counter(row["task"]["id"].partition(" again ")[0] for row in rows)
    assert len(times) == one_pass
    assert set(times.values()) == {2, 3}
    assert all(row["trajectory"]["task"] == row["task"]["id"] for row in rows)


def richer(place: Place, more: int) -> Place:
    """The run as if its corrections had cost so many tokens more."""
    again = place.again("richer")
    shutil.copytree(place.folder / "store", again.folder / "store")
    path = again.folder / "store" / "run" / "steps" / "mentor" / "manifest.json"
    manifest = place.result("mentor").manifest
    counts = manifest.counts | {"sft_teacher_tokens": manifest.counts["sft_teacher_tokens"] + more}
    path.write_bytes(manifest.model_copy(update={"counts": counts}).encode())
    return again


async def test_workers_share_the_demonstrations_of_the_control(make_place: MakePlace) -> None:
    alone = await mentored(make_place, teacher_errs=0.2)
    many = alone.again("many")
    shutil.copytree(alone.folder / "store", many.folder / "store")
    await alone.run("more-demos", MORE, verb="demonstrate")
    workers = [replace(many, environ={"SCORE_WORKER": str(worker)}) for worker in range(3)]
    for one in workers:
        process = await one.process("more-demos", MORE, verb="demonstrate", workers=3)
        assert await process.wait() == 0, (many.folder / "work" / "more-demos" / "log").read_text()
    assert many.result("more-demos").manifest.files == alone.result("more-demos").manifest.files
    assert many.usage("more-demos") == alone.usage("more-demos")


async def test_imitation_makes_the_optimizer_steps_of_sft_on_the_demonstrations_alone(make_place: MakePlace) -> None:
    place = await mentored(make_place, {"sft": TRAINING})
    trainer = place.spec.resources.trainer.model_copy(update={"dtype": "float32"})
    resources = place.spec.resources.model_copy(update={"trainer": trainer})
    place = replace(place, spec=place.spec.model_copy(update={"resources": resources})).again("trained")
    shutil.copytree(place.folder.parent / "first" / "store", place.folder / "store")
    shutil.rmtree(place.folder / "store" / "run" / "steps" / "sft")
    weigh(place)
    await place.run("more-demos", MORE, verb="demonstrate")
    await finished(place, "sft", ("demonstrate", "mentor", "warmup"), "sft")
    await finished(place, "imitate", IMITATE, "sft")

    corrected, imitated = (place.result(step).manifest for step in ("sft", "imitate"))
    assert imitated.counts["steps"] == corrected.counts["steps"] > 1
    assert len(place.rows("imitate", "curve.jsonl")) == imitated.counts["steps"]
    right = {f"more-demos/{row['task']['id']}" for row in place.rows("more-demos", "demonstrations.jsonl")}
    assert {row["row"] for row in place.rows("imitate", "rows.jsonl")} == right
    weights = {step: place.result(step).manifest.files["model/model.safetensors"] for step in ("sft", "imitate")}
    assert weights["sft"] != weights["imitate"]


async def test_a_teacher_that_demonstrates_nothing_leaves_a_control_without_a_student_and_the_run_goes_on(
    make_place: MakePlace,
) -> None:
    place = await mentored(make_place)
    place.models.teacher_errs = 1.0
    summary = await place.run("more-demos", MORE, verb="demonstrate")
    assert summary.counts["accepted"] == 0
    assert "the teacher solved none of" in summary.message
    weigh(place)
    await asyncio.to_thread(with_steps, place, 7)
    await finished(place, "imitate", IMITATE, "sft")
    manifest = place.result("imitate").manifest
    assert manifest.counts["rows"] == 0
    assert "no student by imitation alone" in str(manifest.summary["problems"])

    place.models.teacher_errs = 0.0
    await place.run("evaluate", (*INPUTS["evaluate"], "imitate"))
    assert {row["model"] for row in place.rows("evaluate", "scored.jsonl")} == {"base", "init", "sft", "rl", "teacher"}


def weigh(place: Place) -> None:
    """Put a student that can be trained where warmup's stands for one."""
    folder = write_model(place.folder / "weighed", 0.3)
    shutil.copy(EXAMPLES / "ledger" / "models" / "student" / "model.safetensors", folder)
    shutil.rmtree(place.folder / "store" / "run" / "steps" / "warmup")
    place.commit("warmup", model=folder)


def with_steps(place: Place, steps: int) -> None:
    """The run as if sft, whose model stands for one here, had made so many optimizer steps."""
    path = place.folder / "store" / "run" / "steps" / "sft" / "manifest.json"
    manifest = place.result("sft").manifest
    path.write_bytes(manifest.model_copy(update={"counts": {"steps": steps}}).encode())


async def test_evaluation_scores_the_control_beside_the_others(make_place: MakePlace) -> None:
    place = await prepared(await make_place(ledger(60), ledger(8, "eval"), method=METHOD))
    place.commit("imitate", model=write_model(place.folder / "imitate", 0.3))
    summary = await place.run("evaluate", (*INPUTS["evaluate"], "imitate"))
    models = Counter(row["model"] for row in place.rows("evaluate", "scored.jsonl"))
    assert models == dict.fromkeys(["base", "init", "imitation", "sft", "rl", "teacher"], 8)
    assert summary.counts["tasks"] == 48
