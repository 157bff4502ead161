import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from score_distill.agent.search_corpus import build
from score_distill.artifacts.folder import FolderStore
from score_distill.artifacts.pages import Page
from score_distill.artifacts.steps import StepWriter
from score_distill.artifacts.store import StoreFull, read_journal

LIMIT = 1 << 20


def mounted(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={LIMIT}", "tmpfs", str(folder)]
    return os.getuid() == 0 and not subprocess.run(command, capture_output=True, check=False).returncode


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    """A disk of 1 MiB where one may be mounted; elsewhere no file of this process may grow beyond that."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if mounted(folder):
        yield FolderStore(folder)
        subprocess.run(["umount", str(folder)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, limits[1]))
    yield FolderStore(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_said_and_nothing_is_half_there(store):
    store.put("kept", b"k")
    with pytest.raises(StoreFull, match=r"big: .*; make room"):
        store.put("big", b"x" * (2 * LIMIT))
    assert list(store.list("")) == ["kept"]
    assert list((store.root / ".tmp").iterdir()) == []
    assert store.put("after", b"a")


def test_an_index_that_does_not_fit_is_said(store):
    pages = (Page("title", str(n), f"{n} word " * 1000) for n in range(1000))
    with pytest.raises(StoreFull, match="make room"):
        build(pages, store.root / "pages.sqlite")


def test_a_journal_on_a_full_disk_stays_whole_and_goes_on_when_there_is_room(store):
    store.put("filler", b"x" * (LIMIT // 4))
    written = 0
    with store.appender("j") as journal:
        with pytest.raises(StoreFull, match="j/000000"):
            while True:
                journal.append({"n": written, "text": "x" * 7001})
                written += 1
        assert [row["n"] for row in read_journal(store, "j")] == list(range(written))
        with pytest.raises(StoreFull):
            journal.append({"n": written, "text": "x" * 7001})
        store.delete("filler")
        journal.append({"n": written})
    assert [row["n"] for row in read_journal(store, "j")] == list(range(written + 1))


def test_rows_that_do_not_fit_are_said(store):
    with pytest.raises(StoreFull):
        StepWriter(store, "run", "step").add_rows("rows", ({"text": "x" * 1000} for _ in range(3000)))
