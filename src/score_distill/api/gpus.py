"""How many GPUs the pods of a run hold at once."""

from dataclasses import dataclass, fields

from score_distill.api.run import Spec


@dataclass(frozen=True)
class Gpus:
    """By whom they are held; ``workers`` are the pods of a step that acts."""

    teacher: int = 0
    student: int = 0
    trainer: int = 0
    workers: int = 0

    @property
    def total(self) -> int:
        return self.teacher + self.student + self.trainer + self.workers

    def __str__(self) -> str:
        """Such as ``13 (teacher 4, student 1, trainer 8)``."""
        named = [f"{one.name} {count}" for one in fields(self) if (count := getattr(self, one.name))]
        return f"{self.total} ({', '.join(named)})" if named else "0"


def gpus_for(
    spec: Spec, *, teacher: bool = False, student: bool = False, trainer: bool = False, workers: int = 0
) -> Gpus:
    """Of models that are served, of a trainer, and of so many workers, all at once."""
    sizes = spec.resources
    return Gpus(
        teacher=sizes.teacher.gpus if teacher and spec.teacher.endpoint is None else 0,
        student=sizes.student.gpus if student else 0,
        trainer=sizes.trainer.gpus * sizes.trainer.nodes if trainer else 0,
        workers=sizes.rollout.gpus * workers,
    )
