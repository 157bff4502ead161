"""The outcomes of a step as one sequence that does not depend on who worked on what, nor on when it was done."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from score_distill.artifacts.store import decode_row, encode_row, room_needed

Outcome = dict[str, Any]


class Outcomes:
    """One row a task, the first that was recorded, in the order of the tasks' names; can be gone through again.

    The rows are in a temporary file, in memory are names and offsets.
    """

    def __init__(self, rows: Iterable[Outcome], named: Callable[[Outcome], str]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._offsets: dict[str, int] = {}
        with room_needed(tempfile.gettempdir()):
            for row in rows:
                if (name := named(row)) not in self._offsets:
                    self._offsets[name] = self._file.tell()
                    self._file.write(encode_row(row))
            self._file.flush()

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[Outcome]:
        for name in sorted(self._offsets):
            self._file.seek(self._offsets[name])
            yield decode_row(self._file.readline(), name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
