"""prepare: read the task files, drop what must not be trained on, and split what is left.

Evaluation sets are read here only to keep their tasks out of training; their tasks go nowhere.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from score_distill.agent.chat_models import check_student, check_teacher
from score_distill.agent.decontamination import Contamination, Deduplicator
from score_distill.agent.formats import read_tasks
from score_distill.agent.grading.kinds import kind_of
from score_distill.agent.seeds import part_of, round_of_task, share_of
from score_distill.agent.trajectory import Task
from score_distill.api import TaskSet
from score_distill.artifacts.data import open_data
from score_distill.artifacts.models import model_folder
from score_distill.artifacts.store import Store, check_store
from score_distill.artifacts.vocabulary import check_vocabularies
from score_distill.contract import StageConfig, Summary
from score_distill.errors import BadInput
from score_distill.stages.context import StageContext
from score_distill.stages.searches import add_index

FILES = {"cold_start": "cold_start.jsonl", "dev": "dev.jsonl", "sft": "mentor.jsonl", "rl": "mentor.jsonl"}


def run(config: StageConfig, store: Store) -> Summary:
    frame = StageContext(config, store)
    spec = config.spec
    check_store(store, config.run)
    if "OnPolicyDistillation" in spec.method.rl.controls:
        check_vocabularies(spec.student.model, str(spec.teacher.model), frame.places)
    contamination, counts, rounds = Contamination(), Counter[str](), Counter[int]()
    repeated_eval: list[Task] = []
    for one in spec.tasks.eval:
        counts[f"eval_{one.name}"] = contamination.add(one.name, tasks_of(frame, one, repeated_eval.append))
    counts["repeated_eval"] = len(repeated_eval)
    for task in tasks_of(frame, spec.tasks.train):
        contamination.see(task)
    doubles = Deduplicator()
    parts: dict[str, Path] = {name: frame.work / name for name in {*FILES.values(), "dropped.jsonl"}}
    files = {name: path.open("w", encoding="utf-8") for name, path in parts.items()}

    def drop(task: Task, why: str, against: str) -> None:
        counts["dropped"] += 1
        files["dropped.jsonl"].write(json.dumps({"id": task.id, "why": why, "against": against}) + "\n")

    def repeated(task: Task) -> None:
        counts.update(read=1, repeated=1)
        drop(task, "the same line as another, without an id", task.id)

    try:
        for task in tasks_of(frame, spec.tasks.train, repeated):
            counts["read"] += 1
            frame.progress(counts["read"], None, "tasks")
            if match := contamination.match(task) or doubles.match(task):
                drop(task, match.why, match.against)
                continue
            part = part_of(task.id, spec.method.split, spec.seed)
            counts[part] += 1
            if task.answer_type:
                counts[f"{task.answer_type}_answers"] += 1
            if part == "sft":
                rounds[round_of_task(task.id, part, spec.method.rounds, spec.seed)] += 1
            row = task.model_dump(mode="json") | ({"split": part} if part in ("sft", "rl") else {})
            files[FILES[part]].write(json.dumps(row) + "\n")
    finally:
        for file in files.values():
            file.close()
    _check_models(frame)
    counts["kept"] = counts["read"] - counts["dropped"]
    _enough(counts)
    _enough_rounds(spec.method.rounds, rounds)
    if pages := add_index(frame):
        counts["pages"] = pages
    for name, path in parts.items():
        frame.writer.add_file(name, path, rows=_lines(path))
        path.unlink()
    frame.progress(counts["read"], counts["read"], "tasks", now=True)
    return frame.finish(dict(counts))


def _check_models(frame: StageContext) -> None:
    """Raise BadInput where a later step could not speak to a model, before one is served or paid."""
    student, teacher = frame.config.spec.student, frame.config.spec.teacher
    try:
        check_student(model_folder(student.model, frame.places, weights=False))
    except BadInput as error:
        raise BadInput(f"spec.student.model: {error}") from error
    if teacher.model is not None:
        try:
            check_teacher(model_folder(teacher.model, frame.places, weights=False), teacher.serving)
        except BadInput as error:
            raise BadInput(f"spec.teacher.model: {error}") from error


def tasks_of(
    frame: StageContext, tasks: TaskSet, repeated: Callable[[Task], object] = lambda _: None
) -> Iterator[Task]:
    """The tasks of a set; with a limit, those whose ids come first by hash. ``repeated`` as in `read_tasks`.

    Each has what its reference is, where answers are compared by that.
    """

    def every(repeated: Callable[[Task], object] = lambda _: None) -> Iterator[Task]:
        for task in read_tasks(open_data(tasks.uri, frame.places), tasks.format, tasks.uri, repeated):
            kind = task.answer_type or tasks.answer_type or (kind_of(task.answer) if tasks.metric == "math" else None)
            yield task.model_copy(update={"answer_type": kind})

    if tasks.limit is None:
        return every(repeated)
    chosen = sorted((share_of(frame.config.spec.seed, "limit", task.id), task.id) for task in every())
    ids = {name for _, name in chosen[: tasks.limit]}
    return (task for task in every(lambda task: task.id in ids and repeated(task)) if task.id in ids)


def _enough(counts: Counter[str]) -> None:
    empty = [part for part in ("cold_start", "sft", "rl") if not counts[part]]
    if empty:
        raise BadInput(
            f"spec.tasks.train: of {counts['read']} tasks {counts['kept']} are left after decontamination, and none "
            f"fell into {', '.join(empty)}; give more tasks or other shares in spec.method.split"
        )


def _enough_rounds(wanted: int, rounds: Counter[int]) -> None:
    if empty := [str(one) for one in range(1, wanted + 1) if not rounds[one]]:
        raise BadInput(
            f"spec.method.rounds: {wanted}; of the {rounds.total()} tasks that are mentored for SFT none fell into "
            f"round {', '.join(empty)}; give more tasks or fewer rounds"
        )


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
