"""Rows that a step keeps of each update: a journal, in which an update that was made anew counts as it was last."""

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from score_distill.artifacts.steps import StepWriter


class Kept:
    """Use as a context manager while rows are added; read them when it is closed."""

    def __init__(self, writer: StepWriter, name: str) -> None:
        self._writer, self._name = writer, name
        self._process = uuid4().hex

    def __enter__(self) -> Self:
        self._journal = self._writer.journal(self._name)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._journal.close()

    def add(self, update: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """All rows of an update, on their way to the disk or the store; `flush` waits until they are there."""
        for row in rows:
            self._journal.append({"update": update, "process": self._process, **row})

    def flush(self) -> None:
        self._journal.flush()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Those of the last process that made each update."""
        last = {row["update"]: row["process"] for row in self._writer.read_journal(self._name)}
        for row in self._writer.read_journal(self._name):
            if last[row["update"]] == row.pop("process"):
                yield row
