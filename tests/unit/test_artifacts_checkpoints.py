"""Checkpoints in the store: there once sealed, gone with their files when newer ones are kept, never half used."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from score_distill.artifacts.checkpoints import StoredCheckpoints
from score_distill.artifacts.folder import FolderStore
from score_distill.artifacts.steps import StepReader, StepWriter


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def stored(store: FolderStore) -> StoredCheckpoints:
    return StoredCheckpoints(store, "run", "sft")


def share(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def save(stored: StoredCheckpoints, number: int, folder: Path, keep: int = 2, **files: str) -> None:
    stored.put(number, "me", 0, 1, share(folder / str(number), **files))
    stored.seal(number, 1, keep)


def everything(name: str) -> bool:
    return True


def objects(store: FolderStore) -> list[str]:
    return list(store.list("run/objects"))


def test_a_checkpoint_is_there_once_all_workers_put_their_files_and_one_sealed_it(
    stored: StoredCheckpoints, tmp_path: Path
) -> None:
    stored.put(3, "me", 0, 2, share(tmp_path / "0", weights="w", state="s"))
    stored.put(3, "me", 1, 2, share(tmp_path / "1", other="o"))
    assert stored.identities() == {}
    stored.seal(3, 2, keep=2)
    assert stored.identities() == {3: "me"}
    assert stored.fetch(3, tmp_path / "fetched", lambda name: name != "state")
    assert {path.name: path.read_text() for path in (tmp_path / "fetched").iterdir()} == {"weights": "w", "other": "o"}


def test_older_ones_go_with_the_files_that_nobody_else_names(
    stored: StoredCheckpoints, store: FolderStore, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        save(stored, number, tmp_path, frozen="same", weights=f"of {number}")
    assert stored.identities() == {2: "me", 3: "me"}
    assert len(objects(store)) == 3
    assert stored.fetch(2, tmp_path / "fetched", everything)


def test_clearing_leaves_what_a_result_names(stored: StoredCheckpoints, store: FolderStore, tmp_path: Path) -> None:
    save(stored, 1, tmp_path, curve="as committed", weights="w")
    stored.put(2, "me", 0, 1, share(tmp_path / "unfinished", weights="never sealed"))
    now, writer = datetime.now(UTC), StepWriter(store, "run", "sft")
    writer.add_file("curve.jsonl", b"as committed")
    writer.commit(
        verb="sft",
        inputs={},
        config_digest="",
        counts={},
        summary={},
        started=now,
        finished=now,
        attempt=1,
        versions={},
    )
    stored.clear()
    assert stored.identities() == {} and not list(store.list(stored.place))
    assert StepReader(store, "run", "sft").read("curve.jsonl") == b"as committed"
    assert len(objects(store)) == 1


def test_one_whose_files_are_gone_is_not_used_and_that_is_said(
    stored: StoredCheckpoints, store: FolderStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(stored, 7, tmp_path, weights="w")
    (key,) = objects(store)
    store.delete(key)
    assert not stored.fetch(7, tmp_path / "fetched", everything)
    assert "checkpoint 7 in the store is not used" in caplog.text and key in caplog.text


def test_a_record_that_cannot_be_read_is_not_used_and_that_is_said(
    stored: StoredCheckpoints, store: FolderStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(stored, 7, tmp_path, weights="w")
    store.put(f"{stored.place}/00000008.json", b"{}")
    assert stored.identities() == {7: "me"}
    assert "00000008.json: not a record" in caplog.text


def test_a_step_done_again_replaces_what_was_there(stored: StoredCheckpoints, tmp_path: Path) -> None:
    save(stored, 5, tmp_path / "first", weights="first")
    save(stored, 5, tmp_path / "second", weights="second")
    assert stored.fetch(5, tmp_path / "fetched", everything)
    assert (tmp_path / "fetched" / "weights").read_text() == "second"
