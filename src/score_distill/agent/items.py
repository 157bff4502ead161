"""From mentored tasks to what RL starts from: a task, the verified prefix, the rejected and the chosen step.

A correction of the plan, a task that nobody solved and a share of those solved alone become items that start at
the task: full horizon, rewarded by the outcome alone (method: RL item construction).
"""

from collections.abc import Iterator
from typing import Literal

from score_distill.agent.seeds import share_of
from score_distill.agent.trajectory import Mentored, Row, Step, Task

KEEP_HARD, KEEP_SOLVED = 0.5, 0.1


class Item(Row):
    """Where a group of rollouts starts. ``chosen`` is None when there is no key step."""

    id: str
    task: Task
    prefix: tuple[Step, ...] = ()
    rejected: Step | None = None
    chosen: Step | None = None

    @property
    def full_horizon(self) -> bool:
        return not self.prefix


def items(mentored: Mentored, corrections: Literal["last", "all"], seed: int) -> Iterator[Item]:
    """The items of one mentored task; none for tasks that were set aside."""
    task = mentored.task
    standing = [one for one in mentored.corrections if one.kept]
    if mentored.outcome == "corrected" and standing:
        for correction in standing if corrections == "all" else standing[-1:]:
            if correction.chosen.plan:
                yield Item(id=f"{task.id}#{correction.k}", task=task)
                continue
            yield Item(
                id=f"{task.id}#{correction.k}",
                task=task,
                prefix=correction.prefix,
                rejected=correction.rejected[0] if correction.rejected else None,
                chosen=correction.chosen,
            )
        return
    keep = {"unsolved": KEEP_HARD, "unfinished": KEEP_HARD, "solved": KEEP_SOLVED}.get(mentored.outcome, 0.0)
    if share_of(seed, "item", task.id) < keep:
        yield Item(id=f"{task.id}#0", task=task)
