"""Which items an update uses, which look was the best, and when RL stops: by hand."""

from pathlib import Path

import pytest

from score_distill.agent.rl_starts import Item
from score_distill.agent.trajectory import Task
from score_distill.stages.schedule import DevEval, Pool, exhausted, groups_of, kept_of, look


def pool(folder: Path, name: str, count: int) -> Pool:
    tasks = (Task(id=f"{name}{n}", question="q\nü", answer="a") for n in range(count))
    return Pool(folder / f"{name}.jsonl", (Item(id=task.id, task=task) for task in tasks))


def names(items: list[Item]) -> list[str]:
    return [item.id for item in items]


def test_every_item_is_drawn_once_before_any_twice_and_each_epoch_has_an_order_of_its_own(tmp_path: Path) -> None:
    items = pool(tmp_path, "p", 7)
    first, second = names(items.draw(1, 0, 7)), names(items.draw(1, 7, 7))
    assert sorted(first) == sorted(second) == [f"p{n}" for n in range(7)]
    assert first != second
    assert names(items.draw(2, 0, 7)) != first


def test_a_draw_is_a_piece_of_one_endless_sequence_however_it_is_cut(tmp_path: Path) -> None:
    items = pool(tmp_path, "p", 5)
    whole = names(items.draw(3, 0, 23))
    assert [name for start in range(0, 23, 4) for name in names(items.draw(3, start, min(4, 23 - start)))] == whole
    assert names(pool(tmp_path / "..", "p", 5).draw(3, 9, 6)) == whole[9:15]
    assert items.draw(3, 11, 0) == []


@pytest.mark.parametrize(
    ("prefixed", "full", "share", "kinds"),
    [(9, 9, 0.25, "fppp"), (9, 9, 0.5, "ffpp"), (9, 9, 0.0, "pppp"), (9, 9, 1.0, "ffff"), (0, 9, 0.25, "ffff")],
)
def test_a_share_of_the_groups_starts_at_the_task(
    tmp_path: Path, prefixed: int, full: int, share: float, kinds: str
) -> None:
    pools = pool(tmp_path, "p", prefixed), pool(tmp_path, "f", full)
    drawn = [groups_of(*pools, update=update, groups=4, full_share=share, seed=1) for update in range(9)]
    assert {"".join(item.id[0] for item in items) for items in drawn} == {kinds}
    assert names(drawn[2]) == names(groups_of(*pools, update=2, groups=4, full_share=share, seed=1))
    used = [item.id for items in drawn for item in items if item.id[0] == kinds[-1]]
    assert len(set(used[:9])) == 9


def test_without_whole_tasks_every_group_starts_at_a_prefix(tmp_path: Path) -> None:
    drawn = groups_of(pool(tmp_path, "p", 3), pool(tmp_path, "f", 0), update=0, groups=4, full_share=0.5, seed=1)
    assert [item.id[0] for item in drawn] == ["p"] * 4


def looks(*outcomes: str) -> list[DevEval]:
    signs = {"1": True, "0": False, "?": None}
    return [look(n, [signs[sign] for sign in one]) for n, one in enumerate(outcomes)]


@pytest.mark.parametrize(
    ("outcomes", "kept"),
    [
        (["0" * 9], 0),
        (["0" * 9, "1" * 4 + "0" * 5], 0),  # 4 gained, 0 lost: p = 1/16
        (["0" * 9, "1" * 5 + "0" * 4], 1),  # 5 gained: p = 1/32
        (["1" + "0" * 8, "0" + "1" * 7 + "0"], 1),  # 7 gained, 1 lost: p = 9/256
        (["1" + "0" * 8, "0" + "1" * 6 + "00"], 0),  # 6 gained, 1 lost: p = 8/128
        (["0" * 9, "1" * 5 + "0" * 4, "1" * 9], 1),  # 4 more than the kept one, though 9 more than the first
        (["0" * 9, "1" * 4 + "0" * 5, "1" * 9], 2),
        (["1" * 9, "0" * 9], 0),
        (["0" * 9, "1111?????"], 0),
        (["?????0000", "111110000"], 0),
    ],
)
def test_a_later_student_takes_the_place_of_the_kept_one_only_on_a_gain_beyond_chance(
    outcomes: list[str], kept: int
) -> None:
    assert kept_of(looks(*outcomes))["update"] == kept


def test_47_against_46_of_150_is_no_reason_to_keep_another_student() -> None:
    first = "1" * 46 + "0" * 104
    assert kept_of(looks(first, "0" * 20 + "1" * 47 + "0" * 83))["update"] == 0


@pytest.mark.parametrize(
    ("scores", "over"),
    [
        ([5], False),
        ([5, 4], False),
        ([5, 4, 3], True),
        ([5, 4, 6], False),
        ([5, 6, 5], False),
        ([5, 6, 5, 6], True),
        ([5, 5, 5], True),
    ],
)
def test_rl_stops_after_two_looks_without_a_better_one(scores: list[int], over: bool) -> None:
    assert exhausted(looks(*("1" * score + "0" * (10 - score) for score in scores)), 2) is over


def test_patience_counts_shares_of_what_was_judged() -> None:
    assert not exhausted(looks("1100000000", "110000000?", "110000??0?"), 1)
