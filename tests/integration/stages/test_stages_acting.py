"""demonstrate, mentor and evaluate in full: scripted models over HTTP, the real sandbox, a real store."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from tests.integration.stages.conftest import INPUTS, MakePlace, Place, ledger, prepared

from score_distill.agent.prompts import PROMPT_VERSION
from score_distill.errors import Exit, ModelFailure, exit_of


def faulty(number: int) -> str | None:
    """One call in five fails, each in its turn in another way."""
    return ("500", "429", "cut")[number // 5 % 3] if number % 5 == 0 else None


def told(place: Place, step: str) -> Counter[tuple[str, str]]:
    """What a step says it used, by role and kind of token."""
    total: Counter[tuple[str, str]] = Counter()
    for row in place.usage(step):
        for name in ("prompt", "cached", "completion"):
            total[row["role"], name] += row[name]
    return total


async def test_demonstrations_are_what_the_teacher_got_right_and_every_paid_token_is_told(
    make_place: MakePlace,
) -> None:
    place = await make_place(ledger(60), scripted={"teacher_errs": 0.3, "fault": faulty})
    await place.run("prepare")
    summary = await place.run("demonstrate", INPUTS["demonstrate"])
    cold = {row["id"]: row["answer"] for row in place.rows("prepare", "cold_start.jsonl")}
    right, rejected = place.rows("demonstrate", "demonstrations.jsonl"), place.rows("demonstrate", "rejected.jsonl")
    assert {row["task"]["id"] for row in right} | {row["task"]["id"] for row in rejected} == set(cold)
    assert all(row["trajectory"]["steps"][-1]["answer"] == cold[row["task"]["id"]] for row in right)
    assert all(row["trajectory"]["steps"][-1]["answer"] != cold[row["task"]["id"]] for row in rejected)
    assert summary.counts == {"accepted": len(right), "rejected": len(rejected)}
    assert 0 < len(rejected) < len(cold)
    assert set(place.models.faults) == {"500", "429", "cut"}
    assert told(place, "demonstrate") == place.models.tokens
    assert sum(row["calls"] for row in place.usage("demonstrate")) == place.models.paid


async def test_a_wrong_demonstration_is_tried_again_as_often_as_the_manifest_says(make_place: MakePlace) -> None:
    place = await make_place(ledger(30), scripted={"teacher_errs": 0.3}, method={"demonstrate": {"attempts": 3}})
    await place.run("prepare")
    await place.run("demonstrate", INPUTS["demonstrate"])
    assert {row["attempts"] for row in place.rows("demonstrate", "demonstrations.jsonl")} == {1}
    assert {row["attempts"] for row in place.rows("demonstrate", "rejected.jsonl")} == {3}


async def test_a_demonstration_whose_turn_was_cut_off_is_rejected_and_counted(make_place: MakePlace) -> None:
    place = await make_place(ledger(40), scripted={"cut_off": 0.3})
    await place.run("prepare")
    summary = await place.run("demonstrate", INPUTS["demonstrate"])
    rejected = place.rows("demonstrate", "rejected.jsonl")
    assert {(row["trajectory"]["ending"], len(row["trajectory"]["steps"])) for row in rejected} == {("cut_off", 0)}
    assert summary.counts["cut_off"] == summary.counts["rejected"] == len(rejected) > 0
    assert summary.counts["accepted"] > 0
    assert "a turn was longer than spec.method.agent.stepTokens" in summary.message


async def test_a_refused_request_costs_its_task_alone_and_a_refused_key_ends_the_step(make_place: MakePlace) -> None:
    place = await make_place(ledger(40), scripted={"fault": lambda number: "400" if number == 9 else None})
    await place.run("prepare")
    summary = await place.run("demonstrate", INPUTS["demonstrate"])
    assert (summary.counts["refused"], summary.counts["rejected"]) == (1, 1)
    assert summary.counts["accepted"] > 0
    assert "1 of" in summary.message
    place.models.fault = lambda _: "401"
    with pytest.raises(ExceptionGroup) as raised:
        await (again := place.again("again")).run("prepare")
        await again.run("demonstrate", INPUTS["demonstrate"])
    assert exit_of(raised.value)[0] is Exit.BAD_INPUT


async def test_a_teacher_that_solves_nothing_ends_the_step_and_commits_nothing(make_place: MakePlace) -> None:
    place = await make_place(ledger(20), scripted={"teacher_errs": 1.0})
    await place.run("prepare")
    with pytest.raises(ModelFailure, match="the teacher solved none"):
        await place.run("demonstrate", INPUTS["demonstrate"])
    assert not place.store.exists("run/steps/demonstrate/manifest.json")


async def test_a_budget_ends_the_step_at_its_bound(make_place: MakePlace) -> None:
    place = await make_place(ledger(40), concurrency=2)
    await place.run("prepare")
    with pytest.raises(ExceptionGroup) as raised:
        await place.run("demonstrate", INPUTS["demonstrate"], teacher_tokens=100)
    assert exit_of(raised.value)[0] is Exit.BUDGET
    spent = place.models.tokens["teacher", "prompt"] + place.models.tokens["teacher", "completion"]
    assert 100 <= spent < 400


@pytest.mark.parametrize("localizer", ["Reenactment", "Judge"])
async def test_mentoring_corrects_at_the_first_wrong_step_wherever_it_is(make_place: MakePlace, localizer: str) -> None:
    script = {"judge_errs": 0.2, "judge_never": 0.1, "leaks": 0.3, "fault": faulty} if localizer == "Judge" else {}
    prompt = "Instructions" if localizer == "Judge" else "Bare"
    place = await prepared(await make_place(ledger(90), prompt=prompt, scripted=script))
    summary = await place.run("mentor", INPUTS["mentor"])
    rows = place.rows("mentor", "mentored.jsonl")

    given = {row["id"]: row["split"] for row in place.rows("prepare", "mentor.jsonl")}
    assert {row["task"]["id"]: row["split"] for row in rows} == given
    assert len(rows) == len(given)
    outcomes = Counter(row["outcome"] for row in rows)
    assert {name: summary.counts[name] for name in outcomes} == outcomes
    assert min(outcomes["solved"], outcomes["corrected"]) > 5

    places = set()
    for row in rows:
        steps = row["trajectory"]["steps"]
        right = bool(steps) and steps[-1]["answer"] == row["task"]["answer"]
        assert right is (row["outcome"] in ("solved", "corrected"))
        for one in (one for one in row["corrections"] if one["kept"]):
            assert steps[one["k"] - 1] == one["chosen"]
            assert one["chosen"]["author"] == "teacher"
            assert one["prefix"] == steps[: one["k"] - 1]
            assert one["rejected"][0]["text"] != one["chosen"]["text"]
            places |= {"first"} if one["k"] == 1 else {"last"} if one["k"] == len(steps) else {"second"}
        authors = [n for n, step in enumerate(steps, 1) if step["author"] == "teacher"]
        assert authors == sorted(one["k"] for one in row["corrections"] if one["kept"])
    assert places == {"first", "second", "last"}

    assert summary.counts["corrections"] == sum(len(row["corrections"]) for row in rows)
    assert summary.counts["leaks"] == sum(row["leaks"] for row in rows)
    assert told(place, "mentor") == place.models.tokens
    if localizer == "Judge":
        assert summary.counts["leaks"] > 0
        assert outcomes["set_aside"] > 0
        assert f"{outcomes['set_aside']} of {len(rows)} tasks set aside" in summary.message
        assert all(row["note"].startswith("judge: 3 replies") for row in rows if row["outcome"] == "set_aside")
    assert place.models.admin == ["pause", "collective_rpc", "reset_prefix_cache", "resume"]


async def test_evaluation_scores_every_model_once_and_pushes_each_student(make_place: MakePlace) -> None:
    held = ledger(15, "eval")
    place = await prepared(await make_place(ledger(60), held, share=0.4, scripted={"teacher_errs": 0.1}))
    summary = await place.run("evaluate", INPUTS["evaluate"])
    rows = place.rows("evaluate", "scored.jsonl")
    models = ["base", "init", "sft", "rl", "teacher"]
    names = Counter((row["model"], row["task"]) for row in rows)
    assert names == Counter({(model, row["id"]): 1 for model in models for row in held})
    attempts = place.rows("evaluate", "attempts.jsonl")
    assert [row["scored"] for row in attempts] == rows
    assert all(len(row["trajectory"]["steps"]) == row["scored"]["steps"] > 0 for row in attempts)
    assert all(row["trajectory"]["steps"][-1]["answer"] == row["scored"]["answer"] for row in attempts)
    made = {row["scored"]["model"]: row["revision"] for row in attempts}
    assert made["rl"] == place.result("rl").manifest.digest
    assert len({row["seed"] for row in attempts}) == 15
    assert {row["prompts"] for row in attempts} == {PROMPT_VERSION}
    answers = {row["id"]: row["answer"] for row in held}
    assert all(row["correct"] is (row["answer"] == answers[row["task"]]) for row in rows)
    right = Counter(row["model"] for row in rows if row["correct"])
    assert right["base"] < right["sft"] <= right["rl"] <= 15
    assert right["teacher"] > right["base"]
    assert summary.counts == {"tasks": 75, "unjudged": 0}
    pushed = [path.parent.name if path.name.startswith("model-") else path.name for path in place.models.pushed[1:]]
    assert pushed == ["base", "cache", "cache", "cache"]
    assert len(set(place.models.pushed)) == 4
    assert told(place, "evaluate") == place.models.tokens
    assert {row["purpose"] for row in place.usage("evaluate")} == {f"evaluate {model}" for model in models}


async def test_a_server_that_computes_with_other_weights_ends_the_step_before_it_acts(make_place: MakePlace) -> None:
    place = await prepared(await make_place(ledger(60)))
    place.models.pushed = StuckList(place.models.pushed)
    with pytest.raises(ModelFailure, match="does not compute with these weights"):
        await place.run("mentor", INPUTS["mentor"])
    assert place.models.calls == 0
    assert place.models.admin[-1] == "resume"


class StuckList(list[Any]):
    """A server's history of weights that takes no new ones: a reload that silently did nothing."""

    def append(self, _: Any) -> None:
        pass


async def test_what_nobody_could_judge_is_told_apart_and_is_not_wrong(make_place: MakePlace) -> None:
    *held, last = ledger(5, "eval")
    held.append({**last, "answer": f"{last['answer']}%"})  # is 42 what 42 % is?
    models = {"judge_never": 1.0}
    place = await make_place(ledger(60), held, prompt="Instructions", share=0.0, scripted=models)
    judged = place.spec.tasks.eval[0].model_copy(update={"metric": "math"})
    tasks = place.spec.tasks.model_copy(update={"eval": (judged,)})
    place = await prepared(replace(place, spec=place.spec.model_copy(update={"tasks": tasks})), 0.0)
    summary = await place.run("evaluate", INPUTS["evaluate"])
    rows = place.rows("evaluate", "scored.jsonl")
    unjudged = [row for row in rows if row["correct"] is None]
    assert {row["task"] for row in unjudged} == {held[-1]["id"]}
    assert summary.counts == {"tasks": 25, "unjudged": 5}
    assert all(row["correct"] for row in rows if row not in unjudged)
