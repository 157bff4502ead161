"""What the cells with longer tasks need and the repository does not hold: a pair of models, and task files.

Made once, seeded: the teacher in some 20 minutes of one core, the student in 10, the files at once.
"""

import subprocess
import sys
from pathlib import Path

from science.cells import HORIZONS, data, model

FRAME = 2  # a task's first step reads and its last one answers


def make(top: Path) -> None:
    """Raises CalledProcessError where a model cannot be trained."""
    for steps in HORIZONS:
        facts = str(steps - FRAME)
        _run(top, "data", data(steps), "--facts", facts, facts)
    for name in ("student", "teacher"):
        _run(top, "pretrain", model(name), f"long-{name}")


def _run(top: Path, module: str, folder: Path, *words: str) -> None:
    """Into another folder first, so that what is there is whole."""
    place = top / folder
    if place.exists():
        return
    part = place.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    order: list[str | Path] = [*words, part] if module == "pretrain" else [part, *words]
    subprocess.run([sys.executable, "-m", f"examples.ledger.{module}", *order], cwd=top, check=True)
    part.replace(place)
