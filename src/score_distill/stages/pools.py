"""What RL draws from: items with a verified prefix, items that start at their task, and dev tasks to look at."""

from collections.abc import Iterator

from score_distill.agent.rl_starts import Item, items
from score_distill.agent.seeds import share_of
from score_distill.agent.trajectory import Mentored, Task
from score_distill.contract import CONTROLS_OF_RL
from score_distill.errors import ModelFailure
from score_distill.stages.context import StageContext
from score_distill.stages.schedule import Pool


def pools(frame: StageContext) -> tuple[Pool, Pool]:
    """The items with a verified prefix, of which a control has none, and those that start at their task."""
    spec = frame.config.spec

    whole_tasks = frame.config.step in CONTROLS_OF_RL

    def of_kind(full: bool) -> Iterator[Item]:
        for row in frame.input(frame.inputs_of("mentor")[-1]).open_rows("mentored.jsonl"):
            mentored = Mentored.model_validate(row)
            if mentored.split == "rl":
                found = items(mentored, spec.method.rl.corrections, spec.seed)
                yield from (item for item in found if item.full_horizon is full)

    prefixed = Pool(frame.work / "prefixed.jsonl", () if whole_tasks else of_kind(False))
    full = Pool(frame.work / "full.jsonl", of_kind(True))
    if not len(prefixed) and not len(full):
        raise ModelFailure("mentoring left no task to reinforce: all RL tasks were set aside or solved alone")
    return prefixed, full


def dev_tasks(frame: StageContext) -> list[Task]:
    spec = frame.config.spec
    rows = frame.input("prepare").open_rows("dev.jsonl")
    tasks = sorted(map(Task.model_validate, rows), key=lambda task: share_of(spec.seed, "dev", task.id))
    return tasks[: spec.method.rl.dev_tasks]
