"""The checkpoints of one run, on this machine and in a depot that outlives it.

All ranks call each method. They may share the folder or have one each; with one each only the depot has all that a
rank needs. With a depot a checkpoint is in it before it is complete in the folder, which then is no more than a cache.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist

from score_distill.train import broadcast, checkpoint
from score_distill.train.errors import CheckpointError
from score_distill.train.launch import Process

STATE = "state.json"
BESIDE = "beside"


class Depot(Protocol):
    """Checkpoints by their step; each rank has a depot object of its own for the same place."""

    place: str

    def identities(self) -> dict[int, str]:
        """Of each complete checkpoint, by its step."""

    def put(self, number: int, identity: str, worker: int, workers: int, folder: Path) -> None:
        """Store one rank's files."""

    def seal(self, number: int, workers: int, keep: int) -> None:
        """The one moment from which on the checkpoint is there; all but the `keep` newest go."""

    def fetch(self, number: int, folder: Path, wanted: Callable[[str], bool]) -> bool:
        """Make the folder hold the wanted files; False, and said, when the depot no longer has them as they were."""


@dataclass(frozen=True)
class Found:
    """A checkpoint that a run goes on from."""

    path: Path
    step: int
    ranks: int  # that wrote it
    extra: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """`beside` are files and folders that belong to a checkpoint and come back with it: saved as they are then,
    by the leading rank, under the names given here."""

    folder: Path
    depot: Depot | None = None
    beside: Mapping[str, Path] = field(default_factory=dict)

    @property
    def places(self) -> str:
        return " and ".join([str(self.folder), *([self.depot.place] if self.depot else [])])

    def save(
        self, me: Process, step: int, identity: str, write: Callable[[Path], None], extra: dict[str, Any], keep: int
    ) -> Path:
        """`write` puts this rank's files into the folder that it is given."""
        kept_here = 1 if self.depot else keep
        self.folder.mkdir(parents=True, exist_ok=True)
        _in_turn(me, lambda: checkpoint.sweep(self.folder, keep=keep))
        part = checkpoint.share(self.folder, step, me.rank)
        part.mkdir()
        write(part)
        if me.leads:
            state = {"step": step, "ranks": me.ranks, "identity": identity, "extra": extra}
            (part / STATE).write_text(json.dumps(state))
            for name, path in self.beside.items():
                _copy(path, part / BESIDE / name)
        if self.depot:
            self.depot.put(step, identity, me.rank, me.ranks, part)
            dist.barrier()
            if me.leads:
                self.depot.seal(step, me.ranks, keep)
        checkpoint.join(part, checkpoint.unfinished(self.folder, step))
        self._complete(me, step)
        _in_turn(me, lambda: checkpoint.sweep(self.folder, keep=kept_here))
        return self.folder / checkpoint.name(step)

    def restore(self, me: Process, device: torch.device, identity: str) -> Found | None:
        """The newest checkpoint of this identity, made ready in the folder; None when there is none at all.

        Raises CheckpointError when all there are belong to other runs.
        """
        fitting, _ = broadcast.broadcast(me, device, self._fitting(identity) if me.leads else None)
        for step, stored in fitting:
            if self._fetched(me, device, step) if stored else self._whole(device, step):
                path = self.folder / checkpoint.name(step)
                state = json.loads((path / STATE).read_text())
                if state["identity"] != identity:
                    raise CheckpointError(f"{path} is of another run than this rank's: its rows or settings differ")
                if me.leads:
                    for name, target in self.beside.items():
                        _put_back(path / BESIDE / name, target)
                return Found(path, step, state["ranks"], state["extra"])
        return None

    def _fitting(self, identity: str) -> list[tuple[int, bool]]:
        """Newest first: the step, and whether the depot has it."""
        here = {step: self._identity_here(step) for step in checkpoint.steps(self.folder)}
        stored = self.depot.identities() if self.depot else {}
        both = here | stored
        fitting = [(step, step in stored) for step in sorted(both, reverse=True) if both[step] == identity]
        if both and not fitting:
            raise CheckpointError(
                f"the checkpoints in {self.places} are of another run (model, rows or settings differ); remove them"
            )
        return fitting

    def _identity_here(self, step: int) -> str | None:
        with suppress(FileNotFoundError):
            return str(json.loads((self.folder / checkpoint.name(step) / STATE).read_text())["identity"])
        return None

    def _fetched(self, me: Process, device: torch.device, step: int) -> bool:
        assert self.depot is not None
        _in_turn(me, lambda: checkpoint.reopen(self.folder, step))
        unfinished = checkpoint.unfinished(self.folder, step)
        failed = not self.depot.fetch(step, unfinished, partial(checkpoint.needed, rank=me.rank))
        if broadcast.anyone(device, failed):
            return False
        self._complete(me, step)
        return True

    def _whole(self, device: torch.device, step: int) -> bool:
        return not broadcast.anyone(device, self._identity_here(step) is None)

    def _complete(self, me: Process, step: int) -> None:
        dist.barrier()

        def complete() -> None:
            if checkpoint.unfinished(self.folder, step).exists():
                checkpoint.complete(self.folder, step)

        _in_turn(me, complete)


def _in_turn(me: Process, work: Callable[[], None]) -> None:
    """The leader first: in a shared folder the others then find it done."""
    if me.leads:
        work()
    dist.barrier()
    if not me.leads:
        work()
    dist.barrier()


def _copy(source: Path, target: Path) -> None:
    """Files of a folder are never written to again, and linked where the disk allows it."""
    if not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link)
    else:
        shutil.copyfile(source, target)


def _put_back(source: Path, target: Path) -> None:
    if not source.exists():
        return
    if target.is_dir():
        shutil.rmtree(target)
    _copy(source, target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
