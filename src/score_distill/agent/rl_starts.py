"""From mentored tasks to what RL starts from: a task, the verified prefix, the rejected and the chosen step.

Every corrected task, and a share of those nobody solved or the student solved alone, is also an item that starts at the
task: full horizon, rewarded by the outcome alone. A correction of the plan has no effect to compare: that item alone.
"""

from collections.abc import Iterator
from typing import Literal

from score_distill.agent.seeds import share_of
from score_distill.agent.trajectory import Mentored, Row, Step, Task

KEEP = {"corrected": 1.0, "unsolved": 0.5, "unfinished": 0.5, "solved": 0.1, "set_aside": 0.0}


class Item(Row):
    """Where a group of rollouts starts. ``chosen`` is None when there is no key step: then it starts at the task."""

    id: str
    task: Task
    prefix: tuple[Step, ...] = ()
    rejected: Step | None = None
    chosen: Step | None = None

    @property
    def full_horizon(self) -> bool:
        return self.chosen is None


def items(mentored: Mentored, corrections: Literal["last", "all"], seed: int) -> Iterator[Item]:
    """The items of one mentored task, the full-horizon one last; none for tasks that were set aside."""
    task = mentored.task
    standing = [one for one in mentored.corrections if one.kept and not one.chosen.plan]
    if mentored.outcome == "corrected":
        for correction in standing if corrections == "all" else standing[-1:]:
            yield Item(
                id=f"{task.id}#{correction.k}",
                task=task,
                prefix=correction.prefix,
                rejected=correction.rejected[0] if correction.rejected else None,
                chosen=correction.chosen,
            )
    if share_of(seed, "item", task.id) < KEEP[mentored.outcome]:
        yield Item(id=f"{task.id}#0", task=task)
