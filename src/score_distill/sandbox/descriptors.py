"""What a session process holds open, by the kernel's word, and how it is carried over a fork.

A fork shares open files with its parent, so two branches could talk through one, or spoil each other's. A state may
therefore keep open only regular files and folders of its own scratch folder, and a child gets them opened anew in its
copy. Anything else is a stranger: the state is refused.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

_CARRIED = os.O_ACCMODE | os.O_APPEND | os.O_DIRECTORY

_DELETED = "a deleted file"

Identity = tuple[int, int]


class ForbiddenDescriptor(Exception):
    """A process holds open what it may not; the message says what."""


@dataclass(frozen=True)
class OpenFile:
    """An open file of a state: its number there, its path below the folder, how it is open and where it stands."""

    number: int
    path: str
    flags: int
    position: int


def identity(descriptor: int) -> Identity:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def inspect(pid: int, own: Mapping[int, Identity], null: Identity, folder: Path | None) -> tuple[OpenFile, ...]:
    """The open files of ``pid`` below ``folder``, by number; it may also hold ``null``, and at a number its ``own``."""
    files = []
    for number in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
        link = f"/proc/{pid}/fd/{number}"
        found = os.stat(link)
        if (found.st_dev, found.st_ino) not in (null, own.get(number)):
            files.append(_open_file(pid, number, os.readlink(link), folder))
    return tuple(files)


def mapped(pid: int, folder: Path) -> str | None:
    """A file below ``folder``, deleted or not, that ``pid`` maps into its memory; None when there is none.

    A process can have tens of thousands of mappings, so nothing is done here line by line.
    """
    maps = Path(f"/proc/{pid}/maps").read_bytes()
    if (found := maps.find(b" %b/" % os.fsencode(folder))) >= 0:
        path = maps[found + 1 :].split(b"\n", 1)[0]
        return os.fsdecode(path).removeprefix(f"{folder}/")
    return _DELETED if b" %b/" % os.fsencode(deleted(folder)) in maps else None


def deleted(folder: Path) -> Path:
    """Where files go that a step deletes from its ``folder`` while it may still use them."""
    return folder.with_name(f"{folder.name}.deleted")


def reopen(files: Collection[OpenFile], folder: Path) -> list[int]:
    """Descriptors of the same files below another folder, each standing where it stood."""
    opened: list[int] = []
    try:
        for file in files:
            opened.append(os.open(folder / file.path, file.flags & _CARRIED | os.O_NOFOLLOW | os.O_CLOEXEC))
            if not file.flags & os.O_DIRECTORY:
                os.lseek(opened[-1], file.position, os.SEEK_SET)
    except OSError:
        for descriptor in opened:
            os.close(descriptor)
        raise
    return opened


def _open_file(pid: int, number: int, link: str, folder: Path | None) -> OpenFile:
    if folder is not None and Path(link).is_relative_to(deleted(folder)):
        raise ForbiddenDescriptor(f"descriptor {number}: {_DELETED}")
    if folder is None or not Path(link).is_relative_to(folder) or not os.path.lexists(link):
        raise ForbiddenDescriptor(f"descriptor {number}: {link}")
    with open(f"/proc/{pid}/fdinfo/{number}") as file:
        said = dict(line.split(":", 1) for line in file if ":" in line)
    return OpenFile(number, str(Path(link).relative_to(folder)), int(said["flags"], 8), int(said["pos"]))
