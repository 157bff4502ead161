"""Checkpoint folders: written under a temporary name, renamed when whole, the oldest pruned.

`step-00000120` is complete because it has that name; anything else in the folder is a torso of a
killed process and is swept away. What is inside is the engine's business, but for whose a file is.
"""

import re
import shutil
from pathlib import Path

COMPLETE = re.compile(r"step-(\d{8})")
OF_A_RANK = re.compile(r"(?:zero_pp_rank_|random-)(\d+)[_.]")


def name(step: int) -> str:
    return f"step-{step:08d}"


def unfinished(folder: Path, step: int) -> Path:
    return folder / f"unfinished-{name(step)}"


def share(folder: Path, step: int, rank: int) -> Path:
    """Where one rank writes its files, whether or not the others see this folder."""
    return folder / f"unfinished-{name(step)}-of-{rank}"


def needed(file: str, rank: int) -> bool:
    """Whether a rank needs a file of a checkpoint: its own ones, and those that are nobody's alone."""
    owner = OF_A_RANK.search(file)
    return owner is None or int(owner[1]) == rank


def join(part: Path, whole: Path) -> None:
    """Move the files of a share to where those of the other ranks in this folder are."""
    for path in [path for path in part.rglob("*") if path.is_file()]:
        target = whole / path.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(part)


def complete(folder: Path, step: int) -> None:
    """The one atomic moment: before it the checkpoint is not there, after it it is (in place of an older one)."""
    target, replaced = folder / name(step), folder / f"{unfinished(folder, step).name}-replaced"
    if target.exists():
        target.rename(replaced)
    unfinished(folder, step).rename(target)
    shutil.rmtree(replaced, ignore_errors=True)


def reopen(folder: Path, step: int) -> None:
    """Make what is there of a checkpoint, if anything, a torso to be completed."""
    if (folder / name(step)).exists():
        shutil.rmtree(unfinished(folder, step), ignore_errors=True)
        (folder / name(step)).rename(unfinished(folder, step))


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
            shutil.rmtree(path, ignore_errors=True)
