"""prepare: splits that share no task, what is dropped and why, limits, and faults that cost nothing."""

import json
import shutil
from dataclasses import replace

import pytest
from tests.integration.stages.conftest import RUN, MakePlace, Place, ledger

from score_distill.api import Teacher
from score_distill.errors import BadInput
from score_distill.stages.context import StageContext
from score_distill.stages.pools import dev_tasks


async def test_every_task_is_in_one_part_whatever_the_order_of_the_file(make_place: MakePlace) -> None:
    place = await make_place(ledger(60))
    summary = await place.run("prepare")
    parts = {name: {row["id"] for row in place.rows("prepare", f"{name}.jsonl")} for name in ("cold_start", "dev")}
    mentored = {row["id"]: row["split"] for row in place.rows("prepare", "mentor.jsonl")}
    found = [*parts["cold_start"], *parts["dev"], *mentored]
    assert sorted(found) == sorted(row["id"] for row in ledger(60))
    assert {"sft", "rl"} == set(mentored.values())
    counts = {**{name: len(ids) for name, ids in parts.items()}}
    counts |= {split: list(mentored.values()).count(split) for split in ("sft", "rl")}
    assert {name: summary.counts[name] for name in counts} == counts
    assert summary.counts["read"] == summary.counts["kept"] == 60

    reversed_place = place.again("reversed")
    lines = (place.folder / "train.jsonl").read_text().splitlines()
    (reversed_place.folder / "train.jsonl").write_text("\n".join(reversed(lines)))
    await reversed_place.run("prepare")
    assert {row["id"]: row["split"] for row in reversed_place.rows("prepare", "mentor.jsonl")} == mentored


async def test_contaminated_and_double_tasks_are_dropped_with_their_reason(make_place: MakePlace) -> None:
    train, held = ledger(60), ledger(3, "eval")
    same = {**held[0], "id": "same"}
    overlap = {**train[0], "id": "overlap", "documents": [*train[0]["documents"], *held[1]["documents"][:3]]}
    double = {**train[5], "id": "double"}
    place = await make_place([*train, same, overlap, double], held)
    summary = await place.run("prepare")
    dropped = {row["id"]: (row["why"], row["against"]) for row in place.rows("prepare", "dropped.jsonl")}
    assert dropped == {
        "same": ("same text as an evaluation task", "held"),
        "overlap": ("shares 13 words in a row with an evaluation task", "held"),
        "double": ("same text as another training task", train[5]["id"]),
    }
    assert (summary.counts["dropped"], summary.counts["kept"], summary.counts["eval_held"]) == (3, 60, 3)


async def test_a_question_without_id_that_stands_twice_is_dropped_and_counted(make_place: MakePlace) -> None:
    train = [{name: value for name, value in row.items() if name != "id"} for row in ledger(60)]
    held = [{name: value for name, value in row.items() if name != "id"} for row in ledger(3, "eval")]
    place = await make_place([*train, train[5], train[7], train[5]], [*held, held[0]])
    counts = (await place.run("prepare")).counts
    assert [counts[name] for name in ("read", "kept", "dropped", "repeated")] == [63, 60, 3, 3]
    assert (counts["eval_held"], counts["repeated_eval"]) == (3, 1)
    dropped = place.rows("prepare", "dropped.jsonl")
    assert [row["why"] for row in dropped] == ["the same line as another, without an id"] * 3
    assert {row["id"] for row in dropped} < _all(place)
    assert len(_all(place)) == 60


async def test_what_rl_looks_at_comes_from_the_training_tasks_and_no_evaluation_set(make_place: MakePlace) -> None:
    train, held = ledger(60), ledger(5, "eval")
    place = await make_place([*train, *({**row, "id": f"again-{row['id']}"} for row in held)], held)
    await place.run("prepare")
    (place.folder / "eval.jsonl").unlink()
    looked = dev_tasks(StageContext(place.config("rl", inputs=("prepare",)), place.store))
    assert {task.id for task in looked} == {row["id"] for row in place.rows("prepare", "dev.jsonl")}
    assert {task.id for task in looked} <= {row["id"] for row in train}
    assert {task.question for task in looked}.isdisjoint(row["question"] for row in held)


async def test_what_each_reference_is_is_found_once_counted_and_may_be_given(make_place: MakePlace) -> None:
    rows = ledger(60)
    train = [{**row, "answer": text} for row, text in zip(rows, ["v1.10", "Paris", "(B)", "x+1"] * 15, strict=True)]
    place = _of_train(await make_place(train), metric="math")
    summary = await place.run("prepare")
    assert {summary.counts[f"{kind}_answers"] for kind in ("code", "name", "choice", "expression")} == {15}
    kinds = {row["answer_type"] for row in place.rows("prepare", "mentor.jsonl")}
    assert kinds == {"code", "name", "choice", "expression"}

    given = _of_train(place.again("given"), answer_type="name")
    assert (await given.run("prepare")).counts["name_answers"] == 60


async def test_a_limit_takes_the_same_tasks_from_a_longer_file(make_place: MakePlace) -> None:
    place = await make_place(ledger(60))
    place = _of_train(place, limit=25)
    await place.run("prepare")
    chosen = _all(place)
    assert len(chosen) == 25

    longer = place.again("longer")
    with (longer.folder / "train.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in ledger(30, skip=60))
    await longer.run("prepare")
    assert len(_all(longer)) == 25
    assert _all(longer) & {row["id"] for row in ledger(60)} <= chosen


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("{", "train.jsonl:61"),
        (json.dumps({"id": "x", "question": "q", "answer": ""}), "train.jsonl:61: answer is empty"),
        (json.dumps(ledger(1)[0]), "stands in line 1 already"),
    ],
)
async def test_a_fault_in_the_last_line_leaves_nothing_and_costs_nothing(
    make_place: MakePlace, last: str, said: str
) -> None:
    place = await make_place(ledger(60))
    with (place.folder / "train.jsonl").open("a") as file:
        file.write(last)
    with pytest.raises(BadInput, match=said):
        await place.run("prepare")
    assert place.models.calls == 0
    assert list(place.store.list(RUN)) == []


@pytest.mark.parametrize("content", [None, "", "{", '{"question": "q"}'])
async def test_an_evaluation_set_that_cannot_be_read_is_refused(make_place: MakePlace, content: str | None) -> None:
    place = await make_place(ledger(60))
    (place.folder / "eval.jsonl").unlink()
    if content is not None:
        (place.folder / "eval.jsonl").write_text(content)
    with pytest.raises(BadInput, match=r"eval\.jsonl"):
        await place.run("prepare")
    assert list(place.store.list(RUN)) == []


async def test_an_empty_part_is_told_before_anything_is_spent(make_place: MakePlace) -> None:
    place = await make_place(ledger(2))
    with pytest.raises(BadInput, match=r"of 2 tasks 2 are left .* none fell into"):
        await place.run("prepare")


def _all(place: Place) -> set[str]:
    return {row["id"] for name in ("cold_start", "dev", "mentor") for row in place.rows("prepare", f"{name}.jsonl")}


async def test_a_teacher_of_another_vocabulary_cannot_score_and_is_refused_before_anything_is_paid(
    make_place: MakePlace,
) -> None:
    place = await make_place(ledger(60), method={"rl": {"controls": ["OnPolicyDistillation"]}})
    place = replace(place, spec=place.spec.model_copy(update={"teacher": Teacher(model="teacher")}))
    found = json.loads((place.folder / "base" / "tokenizer.json").read_text())
    vocab = found["model"]["vocab"]
    first, second = list(vocab)[5:7]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    shutil.copytree(place.folder / "base", place.folder / "teacher")
    (place.folder / "teacher" / "tokenizer.json").write_text(json.dumps(found))
    with pytest.raises(BadInput, match=r"^spec\.method\.rl\.controls: OnPolicyDistillation; .* 2 of .* ids differ"):
        await place.run("prepare")
    (place.folder / "teacher" / "tokenizer.json").write_bytes((place.folder / "base" / "tokenizer.json").read_bytes())
    assert (await place.run("prepare")).succeeded


def _of_train(place: Place, **fields: object) -> Place:
    """The place with other fields of its training set."""
    tasks = place.spec.tasks
    tasks = tasks.model_copy(update={"train": tasks.train.model_copy(update=fields)})
    return replace(place, spec=place.spec.model_copy(update={"tasks": tasks}))
