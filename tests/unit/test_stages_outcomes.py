"""The order of outcomes and the division of tasks, apart from any step."""

from pathlib import Path

import pytest

from score_distill.artifacts.folder import FolderStore
from score_distill.stages.outcomes import Outcomes
from score_distill.stages.parts import Parts


@pytest.mark.parametrize("order", ["abc", "cba", "bac"])
def test_outcomes_come_in_the_order_of_their_names_and_again(order: str) -> None:
    rows = [{"id": name, "text": f"é\u2028{name}"} for name in order]
    with Outcomes(rows, lambda row: str(row["id"])) as outcomes:
        assert [row["id"] for row in outcomes] == ["a", "b", "c"]
        assert [row["text"] for row in outcomes] == [f"é\u2028{name}" for name in "abc"]
        assert len(outcomes) == 3


def test_the_first_outcome_of_a_task_stands() -> None:
    rows = [{"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "a", "n": 3}]
    with Outcomes(rows, lambda row: str(row["id"])) as outcomes:
        assert list(outcomes) == rows[:2]


def test_every_task_falls_to_one_worker_and_about_as_many_to_each(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    fallen = [Parts(store, "run", "mentor", 0, 4).worker_for(f"task {n}") for n in range(4000)]
    assert fallen == [Parts(store, "run", "mentor", 3, 4).worker_for(f"task {n}") for n in range(4000)]
    assert all(900 < fallen.count(worker) < 1100 for worker in range(4))


def test_all_is_done_when_every_part_of_this_division_is(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    two, three = ([Parts(store, "run", "mentor", n, count) for n in range(count)] for count in (2, 3))
    two[0].finish_mine()
    assert (two[0].mine_done, two[1].mine_done, two[0].all_done) == (True, False, False)
    two[1].finish_mine()
    two[1].finish_mine()
    assert two[0].all_done
    assert not any(part.mine_done or part.all_done for part in three)
