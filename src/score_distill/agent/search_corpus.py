"""A corpus in one SQLite file: built once, searched by words, the best page first (bm25).

Scripts that write no spaces get an invisible one after each character, so that each is a word of the index as it is
elsewhere; what is shown has none of them.
"""

import asyncio
import errno
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from score_distill.agent.scripts import spaceless, words
from score_distill.agent.search import Found
from score_distill.artifacts.pages import Page
from score_distill.artifacts.store import room_needed

SNIPPET_WORDS = 64  # the most that FTS5 gives
_APART = "\u200b"
_FIND = f"""
    SELECT title, url, snippet(pages, 2, '', '', ' ... ', {SNIPPET_WORDS}), text
    FROM pages WHERE pages MATCH ? ORDER BY rank, rowid LIMIT ?
"""


def build(pages: Iterable[Page], path: Path) -> int:
    """Write the index of the pages; returns how many there are. An index that was left half-made is made anew."""
    path.unlink(missing_ok=True)
    count = 0
    with room_needed(str(path.parent)), _disk_errors(), closing(sqlite3.connect(path, isolation_level=None)) as index:
        index.execute("PRAGMA journal_mode = OFF")
        index.execute("PRAGMA synchronous = OFF")
        index.execute("BEGIN")
        index.execute("CREATE VIRTUAL TABLE pages USING fts5(title, url UNINDEXED, text)")
        for count, page in enumerate(pages, 1):  # noqa: B007
            row = (_spaced(page.title), page.url, _spaced(page.text))
            index.execute("INSERT INTO pages VALUES (?, ?, ?)", row)
        index.execute("INSERT INTO pages(pages) VALUES ('optimize')")
        index.execute("COMMIT")
    return count


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Say as an OSError that SQLite could not write for want of room."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
            raise
        raise OSError(errno.ENOSPC, str(error)) from error


@dataclass(frozen=True)
class Corpus:
    """An index that nobody changes any more."""

    path: Path
    results: int

    async def find(self, query: str) -> Sequence[Found]:
        return await asyncio.to_thread(self._find, query)

    def _find(self, query: str) -> list[Found]:
        asked = " OR ".join(f'"{word}"' for word in dict.fromkeys(words(query)))
        if not asked:
            return []
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as index:
            rows = index.execute(_FIND, (asked, self.results)).fetchall()
        return [
            Found(title=_joined(title), url=url, snippet=_joined(snippet), page=_joined(text))
            for title, url, snippet, text in rows
        ]


def _spaced(text: str) -> str:
    plain = text.encode("utf-8", "ignore").decode().replace(_APART, "")
    return re.sub(r"[^\x00-\u0dff]", lambda one: f"{_APART}{one[0]}{_APART}" if spaceless(one[0]) else one[0], plain)


def _joined(text: str) -> str:
    return text.replace(_APART, "")
