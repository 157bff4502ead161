"""From mentored tasks to token rows and rollouts: what the trainer is given, token by token."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from examples.ledger.family import next_step
from tests.integration.stages.conftest import INPUTS, MakePlace, Place, ledger, prepared
from tests.integration.stages.scripted_models import logprob, teacher_logprob, wrong
from tokenizers import Tokenizer

from score_distill.agent.chat import ChatFormat
from score_distill.agent.rl_starts import Item
from score_distill.agent.seeds import share_of
from score_distill.agent.trajectory import Step, Task
from score_distill.agent.turns import parse_turn
from score_distill.stages import sft
from score_distill.stages.acting import floor
from score_distill.stages.context import StageContext
from score_distill.stages.rl import Acting
from score_distill.stages.rollouts import Group, roll_out


async def mentored(make_place: MakePlace, **spec: Any) -> Place:
    """A place in which everything up to mentor is done."""
    place = await make_place(ledger(60), share=0.3, **spec)
    await prepared(place)
    await place.run("demonstrate", INPUTS["demonstrate"])
    await place.run("mentor", INPUTS["mentor"])
    return place


def with_method(place: Place, part: str, **settings: Any) -> Place:
    """The place under another manifest."""
    method = place.spec.method
    changed = method.model_copy(update={part: getattr(method, part).model_copy(update=settings)})
    return replace(place, spec=place.spec.model_copy(update={"method": changed}))


def written(place: Place, step: str, inputs: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The rows of a training step by name."""
    frame = StageContext(place.config(step, "sft", inputs), place.store)
    path = frame.work / "rows.jsonl"
    count = sft.write_rows(frame, ChatFormat(place.folder / "base"), path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert count == len(rows) == len({row["row"] for row in rows})
    return {row["row"]: row for row in rows}


def rendered(task: dict[str, Any], steps: list[dict[str, Any]], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids of a conversation, and 1 from after each assistant mark up to and with its end of turn."""
    said = [f"<|user|>{task['question']}<|end|>"]
    for step in steps:
        said.append(f"<|assistant|>{step['text']}<|end|><|user|>Observation: {step['observation']}<|end|>")
    text = "".join(said).rpartition("<|user|>")[0]
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    begin, end = (tokenizer.token_to_id(f"<|{name}|>") for name in ("assistant", "end"))
    mask, inside = [], False
    for one in ids:
        mask.append(int(inside))
        inside = one == begin or (inside and one != end)
    return ids, mask


async def test_sft_rows_are_the_conversations_token_by_token_with_assistant_turns_marked(
    make_place: MakePlace,
) -> None:
    place = await mentored(make_place)
    tokenizer = Tokenizer.from_file(str(place.folder / "base" / "tokenizer.json"))
    demonstrations = {row["task"]["id"]: row for row in place.rows("demonstrate", "demonstrations.jsonl")}
    corrected = {row["task"]["id"]: row for row in place.rows("mentor", "mentored.jsonl") if row["split"] == "sft"}
    inputs = ("demonstrate", "mentor", "warmup")

    rows = written(place, "warmup", ("prepare", "demonstrate"))
    assert set(rows) == {f"demonstrate/{name}" for name in demonstrations}
    sizes = []
    for share in (0.0, 0.5, 1.0):
        kept = {
            f"mentor/{task}"
            for task, row in corrected.items()
            if row["outcome"] == "corrected"
            or (row["outcome"] == "solved" and share_of(place.spec.seed, "solved", task) < share)
        }
        found = written(with_method(place, "sft", keep_solved=share), "sft", inputs)
        assert set(found) == kept
        rows |= found
        sizes.append(len(found))
    assert sizes[0] < sizes[1] < sizes[2]
    replay = written(with_method(place, "sft", keep_solved=0.0, replay_demonstrations=True), "sft", inputs)
    assert {name for name in replay if name.startswith("demonstrate/")} == {f"demonstrate/{n}" for n in demonstrations}

    authors: set[str] = set()
    for name, row in rows.items():
        step, task = name.split("/")
        source = (demonstrations if step == "demonstrate" else corrected)[task]
        steps = source["trajectory"]["steps"]
        authors |= {one["author"] for one in steps}
        assert (row["ids"], row["mask"]) == rendered(source["task"], steps, tokenizer)
    assert authors == {"student", "teacher"}


TAIL = "\nObservation: 42<thought>read</thought><code>print(read())</code>"


async def test_no_row_has_a_token_of_what_follows_a_turn(make_place: MakePlace) -> None:
    place = await mentored(make_place, scripted={"tail": TAIL})
    tokenizer = Tokenizer.from_file(str(place.folder / "base" / "tokenizer.json"))
    end = tokenizer.token_to_id("<|end|>")

    def turns(ids: Sequence[int], mask: Sequence[int]) -> list[str]:
        """What is learned, by turn."""
        learned = [token if use else end for token, use in zip(ids, mask, strict=True)]
        return [one for one in tokenizer.decode(learned, skip_special_tokens=False).split("<|end|>") if one]

    rows = written(place, "sft", ("demonstrate", "mentor", "warmup")) | written(
        place, "warmup", ("prepare", "demonstrate")
    )
    learned = [one for row in rows.values() for one in turns(row["ids"], row["mask"])]
    assert len(learned) > 50
    place = with_method(place, "rl", group_size=4)
    async with floor(StageContext(place.config("rl"), place.store), frozenset(), durable=False) as here:
        group = await roll_out(here, item_of(changing(), 3), 1, 4096)
    assert len(group.rollouts) == 4
    for one in group.rollouts:
        learned += turns(one.ids, one.mask)
        sampled = [token for token, use in zip(one.ids, one.mask, strict=True) if use]
        assert list(one.logprobs) == [logprob(token) for token in sampled]
        assert TAIL not in tokenizer.decode(one.ids, skip_special_tokens=False)
    assert all(re.fullmatch(r"<thought>[^<]*</thought><code>[^<]*</code>", one) for one in learned)


def step(text: str, observation: str) -> Step:
    turn = parse_turn(text)
    return Step(author="teacher", text=text, thought=turn.thought, code=turn.code, observation=observation)


def item_of(row: dict[str, Any], k: int) -> Item:
    """The item of a student who did the first k - 1 steps of a task right and erred at step k."""
    printed = ["", *row["documents"]]
    steps = [step(next_step(row["question"], printed[n]), printed[n + 1]) for n in range(k)]
    rejected = step(wrong(steps[-1].text), steps[-1].observation)
    task = Task.model_validate(row)
    return Item(id=f"{task.id}#{k}", task=task, prefix=tuple(steps[:-1]), rejected=rejected, chosen=steps[-1])


def changing() -> dict[str, Any]:
    """A task whose count is set by its first document and changed by the second."""
    for row in ledger(60):
        first, second = (next_step(row["question"], document) for document in row["documents"][:2])
        if ": start" in first and "<code>x " in second and len(row["documents"]) < 6:
            return row
    raise AssertionError("no such task")


async def rolled(place: Place, *asked: tuple[Item, int, int]) -> list[Group]:
    """The groups of items, each with its seed and the longest sample that is kept."""
    async with floor(StageContext(place.config("rl"), place.store), frozenset(), durable=False) as here:
        groups = [await roll_out(here, *one) for one in asked]
        calls = sum(row["calls"] for row in here.ledger.account.rows())
    assert calls == place.models.paid
    return groups


async def test_rollouts_fork_from_the_world_after_the_prefix_and_carry_what_the_server_sampled(
    make_place: MakePlace,
) -> None:
    place = with_method(await make_place(ledger(60), share=0.3), "rl", group_size=12)
    item = item_of(changing(), 3)
    group, again, other = await rolled(place, (item, 1, 4096), (item, 1, 4096), (item, 2, 4096))
    assert len(group.rollouts) == 12
    assert not group.lost
    assert [one.ids for one in again.rollouts] == [one.ids for one in group.rollouts]
    assert [one.ids for one in other.rollouts] != [one.ids for one in group.rollouts]

    tokenizer = Tokenizer.from_file(str(place.folder / "base" / "tokenizer.json"))
    prefix, _ = rendered(item.task.model_dump(), [one.model_dump() for one in item.prefix], tokenizer)
    for one in group.rollouts:
        assert list(one.ids[: len(prefix)]) == prefix
        assert not any(one.mask[: len(prefix)])
        sampled = [token for token, mask in zip(one.ids, one.mask, strict=True) if mask]
        assert list(one.logprobs) == [logprob(token) for token in sampled]
        row = one.row()
        assert "".join(step["text"] for step in row["steps"]) in tokenizer.decode(sampled, skip_special_tokens=True)
        assert (row["seed"], row["reward"], row["drawn"]) == (one.seed, one.reward, 0)
    assert len({one.seed for one in group.rollouts}) == 12
    found = {(one.judged.correct, one.judged.key, one.reward) for one in group.rollouts + other.rollouts}
    assert found == {(True, "chosen", 1.0), (False, "chosen", 0.5), (False, "rejected", 0.0)}


async def test_an_item_that_starts_at_its_task_is_rewarded_by_the_answer_alone(make_place: MakePlace) -> None:
    place = with_method(await make_place(ledger(60), share=0.3), "rl", group_size=12)
    [group] = await rolled(place, (Item(id="whole#0", task=Task.model_validate(changing())), 1, 4096))
    assert {(one.judged.correct, one.judged.key, one.reward) for one in group.rollouts} == {
        (True, "none", 1.0),
        (False, "none", 0.0),
    }


async def test_what_cannot_be_rolled_out_is_lost_and_counted(make_place: MakePlace) -> None:
    place = with_method(await make_place(ledger(60), share=0.0), "rl", group_size=3)
    item = item_of(changing(), 3)
    first, last = item.prefix
    elsewhere = item.model_copy(update={"prefix": (first, last.model_copy(update={"observation": "other"}))})
    [moved] = await rolled(place, (elsewhere, 1, 4096))
    assert place.models.calls == 0
    assert (moved.rollouts, moved.lost) == ((), Counter(not_reproducible=3))

    [long] = await rolled(place, (item, 1, 40))
    assert (long.rollouts, long.lost) == ((), Counter(too_long=3))


def arguable() -> dict[str, Any]:
    """A task whose reference, 42 %, may be what an answer of 42 says."""
    row = changing()
    return {**row, "answer": f"{row['answer']}%"}


async def test_a_group_that_nobody_can_judge_is_lost_and_not_wrong(make_place: MakePlace) -> None:
    place = with_method(await make_place(ledger(60), share=0.0), "rl", group_size=3)
    tasks = place.spec.tasks
    train = tasks.model_copy(update={"train": tasks.train.model_copy(update={"metric": "math"})})
    place = replace(place, spec=place.spec.model_copy(update={"tasks": train}))
    [unjudged] = await rolled(place, (item_of(arguable(), 3), 1, 4096))
    assert (unjudged.rollouts, unjudged.lost) == ((), Counter(unjudged=3))
    assert [(one.row()["lost"], one.row()["reward"]) for one in unjudged.made] == [("unjudged", None)] * 3


async def test_the_teacher_judges_a_rollout_where_rules_cannot_as_it_does_in_an_evaluation(
    make_place: MakePlace,
) -> None:
    place = with_method(await make_place(ledger(60), share=0.0, prompt="Instructions"), "rl", group_size=3)
    tasks = place.spec.tasks
    train = tasks.model_copy(update={"train": tasks.train.model_copy(update={"metric": "math"})})
    place = replace(place, spec=place.spec.model_copy(update={"tasks": train}))
    [group] = await rolled(place, (item_of(arguable(), 3), 1, 4096))
    assert [(one.judged.correct, one.reward) for one in group.rollouts] == [(False, 0.5)] * 3
    assert place.models.answered["teacher", "equal"] == 3


async def test_a_rollout_whose_request_was_refused_is_lost_and_not_wrong(make_place: MakePlace) -> None:
    scripted = {"fault": lambda number: "400" if number == 2 else None}
    place = with_method(await make_place(ledger(60), share=0.0, scripted=scripted), "rl", group_size=3)
    [group] = await rolled(place, (item_of(changing(), 3), 1, 4096))
    assert (len(group.rollouts), group.lost) == (2, Counter(refused=1))


async def test_a_context_that_the_prefix_fills_leaves_nothing_to_learn(make_place: MakePlace) -> None:
    place = with_method(await make_place(ledger(60)), "rl", group_size=2)
    serving = place.spec.student.serving.model_copy(update={"context_length": 30})
    student = place.spec.student.model_copy(update={"serving": serving})
    place = replace(place, spec=place.spec.model_copy(update={"student": student}))
    [group] = await rolled(place, (item_of(changing(), 3), 1, 4096))
    assert (group.rollouts, group.lost) == ((), Counter(empty=2))


@pytest.mark.parametrize("control", ["distil-on-policy", "full-horizon"])
async def test_only_on_policy_distillation_asks_the_teacher_for_each_sampled_token_and_for_no_verdict(
    make_place: MakePlace, control: str
) -> None:
    place = with_method(await make_place(ledger(60), share=0.0, prompt="Instructions"), "rl", group_size=6)
    tasks = place.spec.tasks
    train = tasks.model_copy(update={"train": tasks.train.model_copy(update={"metric": "math"})})
    place = replace(place, spec=place.spec.model_copy(update={"tasks": train}))
    whole = Item(id="whole#0", task=Task.model_validate(arguable()))
    async with floor(StageContext(place.config(control, "rl"), place.store), frozenset(), durable=False) as here:
        group = await Acting(here, 4096).roll_out(whole, 1, lambda: 0)
        usage = {(row["role"], row["purpose"]): row["calls"] for row in here.ledger.account.rows()}
    scores = control == "distil-on-policy"
    assert len(group.rollouts) == 6 and not group.lost
    for one in group.rollouts:
        sampled = [token for token, mask in zip(one.ids, one.mask, strict=True) if mask]
        assert list(one.teacher) == ([teacher_logprob(token) for token in sampled] if scores else [])
        assert one.judged.correct is (None if scores else False)
    assert usage[("teacher", "score") if scores else ("teacher", "verify")] == 6
    assert (("teacher", "verify") in usage, place.models.answered["teacher", "score"]) == (not scores, 6 * scores)
