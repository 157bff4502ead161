"""Checkpoint folders: written under a temporary name, renamed when whole, the oldest pruned.

`step-00000120` is complete because it has that name; anything else in the folder is a torso of a
killed process and is swept away. What is inside is the engine's business.
"""

import re
import shutil
from pathlib import Path

COMPLETE = re.compile(r"step-(\d{8})")


def name(step: int) -> str:
    return f"step-{step:08d}"


def unfinished(folder: Path, step: int) -> Path:
    return folder / f"unfinished-{name(step)}"


def complete(folder: Path, step: int) -> None:
    """The one atomic moment: before it the checkpoint is not there, after it it is (in place of an older one)."""
    target, replaced = folder / name(step), folder / f"{unfinished(folder, step).name}-replaced"
    if target.exists():
        target.rename(replaced)
    unfinished(folder, step).rename(target)
    shutil.rmtree(replaced, ignore_errors=True)


def steps(folder: Path) -> list[int]:
    """Of the complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := COMPLETE.fullmatch(path.name)))


def sweep(folder: Path, keep: int) -> None:
    """Remove torsos and all but the `keep` newest."""
    kept = {name(step) for step in steps(folder)[-keep:]}
    for path in folder.iterdir():
        if path.name not in kept and (COMPLETE.fullmatch(path.name) or path.name.startswith("unfinished-")):
            shutil.rmtree(path)
