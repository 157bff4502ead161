"""The folder that belongs to a state: written by one running step, kept beside the frozen process, copied at a fork.

A running step's folder has a name nobody can guess, below a folder nobody can list. When the step ends its folder moves
out of the sessions' sight, and a child of the state gets a copy; so no branch ever reaches another's files.
"""

import os
import secrets
import shutil
from pathlib import Path


class ScratchFull(Exception):
    """A step left more in its folder than it may."""


class Scratch:
    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._limit = limit
        self.live = root / "live"
        self._kept = root / "kept"
        for folder in (self.live, self._kept):
            folder.mkdir(mode=0o300)

    def enter(self, kept: Path | None) -> Path:
        """A folder for one step, with what the state before it had kept."""
        folder = self.live / secrets.token_hex(16)
        if kept is None:
            folder.mkdir(mode=0o700)
        else:
            shutil.copytree(kept, folder, symlinks=True)
        return folder

    def keep(self, folder: Path) -> Path | None:
        """Take a finished step's folder out of sight; None when nothing is in it."""
        size = _size(folder)
        if size is None:
            folder.rmdir()
            return None
        if size > self._limit:
            raise ScratchFull(f"the step left {size} bytes in its folder; at most {self._limit} are allowed")
        kept = self._kept / folder.name
        folder.rename(kept)
        return kept

    def drop(self, folder: Path | None) -> None:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        for folder in (self.live, self._kept):
            folder.chmod(0o700)
        shutil.rmtree(self._root)


def _size(folder: Path) -> int | None:
    """Bytes of all files below, None when there is no entry at all."""
    total = None
    for entry in os.scandir(folder):
        inner = _size(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else None
        total = (total or 0) + (inner or 0) + entry.stat(follow_symlinks=False).st_size
    return total
