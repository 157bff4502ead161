"""Which items an update uses, which look was the best, and when RL stops: by hand."""

from pathlib import Path

import pytest

from score_distill.agent.items import Item
from score_distill.agent.trajectory import Task
from score_distill.stages.schedule import Pool, best_of, exhausted, groups_of


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


@pytest.mark.parametrize(
    ("scores", "best", "over"),
    [
        ([5], 0, False),
        ([5, 4], 0, False),
        ([5, 4, 3], 0, True),
        ([5, 4, 6], 2, False),
        ([5, 6, 5], 1, False),
        ([5, 6, 5, 6], 1, True),
        ([5, 5, 5], 0, True),
    ],
)
def test_rl_stops_after_two_looks_without_a_better_one_and_keeps_the_earliest_best(
    scores: list[int], best: int, over: bool
) -> None:
    looks = [{"update": n, "correct": score, "n": 10} for n, score in enumerate(scores)]
    assert best_of(looks)["update"] == best
    assert exhausted(looks, 2) is over
