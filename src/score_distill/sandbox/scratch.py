"""The folder that belongs to a state: written by one running step, kept beside the frozen process, copied at a fork.

A running step's folder has a name nobody can guess, below a folder no session can list. When the step ends its folder
moves out of the sessions' sight, and a child of the state gets a copy; so no branch ever reaches another's files.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
from pathlib import Path


class Scratch:
    """All folders of a daemon, below ``root``; what an earlier daemon left there is removed."""

    def __init__(self, root: Path) -> None:
        self.live = root / "live"
        self._kept = root / "kept"
        for left in (self.live, self._kept):
            if left.exists():
                left.chmod(0o700)
                shutil.rmtree(left)
        self.live.mkdir(mode=0o311)
        self._kept.mkdir(mode=0o700)

    async def enter(self, kept: Path | None) -> Path:
        """A folder for one step, with what the state before it had kept."""
        folder = self.live / secrets.token_hex(16)
        if kept is None:
            folder.mkdir(mode=0o755)
        else:
            try:
                await asyncio.to_thread(shutil.copytree, kept, folder)
            except BaseException:
                self.drop(folder)
                raise
        return folder

    def again(self, kept: Path | None) -> Path:
        """A folder for a step that its state is given up to: what that had kept, under a new name."""
        folder = self.live / secrets.token_hex(16)
        if kept is None:
            folder.mkdir(mode=0o755)
        else:
            os.rename(kept, folder)
        return folder

    def is_gone(self, folder: Path) -> bool:
        """Whether there was nothing in a finished step's folder: then it is removed."""
        with contextlib.suppress(OSError):
            folder.rmdir()
            return True
        return False

    def keep(self, folder: Path) -> Path:
        """Take a finished step's folder out of sight."""
        kept = self._kept / folder.name
        os.rename(folder, kept)
        return kept

    def drop(self, folder: Path | None) -> None:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
