import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from score_distill.artifacts.blobs import FileRef, blob_key
from score_distill.artifacts.folder import FolderStore
from score_distill.artifacts.steps import Manifest, StepReader, StepWriter, completed_steps, manifest_key
from score_distill.artifacts.store import ArtifactCorrupt, StoreMissing

RUN = "runs/demo"
ROWS = [{"id": "t1", "answer": "4"}, {"id": "t2", "answer": "é"}]
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "state").mkdir(parents=True)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_bytes(b"")
    (folder / "config.json").write_bytes(b"{}")
    (folder / "state" / "rank0.bin").write_bytes(b"hello")
    return folder


def commit(writer: StepWriter, minute: int = 0, **changed):
    facts = {
        "verb": "sft",
        "inputs": {"demonstrate": "a" * 64},
        "config_digest": "c1",
        "counts": {"rows": 2},
        "summary": {"loss": 0.5},
        "started": datetime(2026, 1, 2, 3, minute, tzinfo=UTC),
        "finished": datetime(2026, 1, 2, 4, minute, tzinfo=UTC),
        "attempt": 1,
        "versions": {"torch": "2"},
    }
    return writer.commit(**(facts | changed))


def test_a_committed_step_reads_back(store, checkpoint):
    writer = StepWriter(store, RUN, "warmup")
    writer.add_rows("rows.jsonl", iter(ROWS))
    writer.add_file("note", b"hello")
    writer.add_tree("model", checkpoint)
    done = commit(writer)
    reader = StepReader(store, RUN, "warmup")
    assert reader.manifest == done
    assert list(reader.open_rows("rows.jsonl")) == ROWS
    assert reader.manifest.files["rows.jsonl"].rows == 2
    assert reader.read("note") == b"hello"
    assert set(reader.manifest.files) == {"rows.jsonl", "note", "model/config.json", "model/state/rank0.bin"}


def test_equal_content_is_one_blob_named_by_its_hash(store):
    writer = StepWriter(store, RUN, "a")
    ref = writer.add_file("one", b"hello")
    assert writer.add_file("two", b"hello") == ref == FileRef(sha256=HELLO, size=5)
    assert list(store.list(f"{RUN}/objects")) == [f"{RUN}/objects/sha256/2c/{HELLO}"]


def test_nothing_is_done_before_the_commit(store):
    StepWriter(store, RUN, "a").add_file("one", b"hello")
    with StepWriter(store, RUN, "a").journal("outcomes") as journal:
        journal.append({"id": "t1"})
    assert completed_steps(store, RUN) == {}
    with pytest.raises(StoreMissing):
        _ = StepReader(store, RUN, "a").manifest


def test_completed_steps_gives_each_manifest_by_step(store):
    first = commit(StepWriter(store, RUN, "a"))
    second = commit(StepWriter(store, RUN, "b"), inputs={"a": first.digest})
    commit(StepWriter(store, "runs/other", "c"))
    assert completed_steps(store, RUN) == {"a": first, "b": second}


def test_committing_the_same_again_changes_nothing(store):
    first, again = StepWriter(store, RUN, "a"), StepWriter(store, RUN, "a")
    first.add_rows("rows", ROWS)
    again.add_rows("rows", ROWS)
    stands = commit(first)
    assert commit(again, minute=30, attempt=2, summary={"loss": 0.5, "seconds": 9}) == stands
    assert commit(first) == stands


def test_committing_something_else_keeps_the_first_and_says_so(store):
    first, other = StepWriter(store, RUN, "a"), StepWriter(store, RUN, "a")
    first.add_rows("rows", ROWS)
    other.add_rows("rows", ROWS[:1])
    stands = commit(first)
    assert commit(other) == stands
    assert list(StepReader(store, RUN, "a").open_rows("rows")) == ROWS


def test_a_file_name_is_given_once(store):
    writer = StepWriter(store, RUN, "a")
    writer.add_file("one", b"1")
    with pytest.raises(ValueError, match="has a file one already"):
        writer.add_file("one", b"2")


def test_a_corrupt_blob_is_named(store):
    writer = StepWriter(store, RUN, "a")
    key = blob_key(RUN, writer.add_rows("rows", ROWS).sha256)
    commit(writer)
    store.put(key, store.get(key).replace(b"t2", b"t3"))
    rows = StepReader(store, RUN, "a").open_rows("rows")
    with pytest.raises(ArtifactCorrupt, match=key):
        list(rows)
    store.delete(key)
    with pytest.raises(ArtifactCorrupt, match=key):
        StepReader(store, RUN, "a").read("rows")


def test_a_corrupt_manifest_is_named(store):
    store.put(manifest_key(RUN, "a"), b'{"step": "a"}')
    with pytest.raises(ArtifactCorrupt, match=r"steps/a/manifest\.json"):
        completed_steps(store, RUN)


def test_the_digest_survives_storage_and_sees_every_field(store):
    made = commit(StepWriter(store, RUN, "a"))
    assert Manifest.model_validate_json(made.encode()).digest == made.digest
    assert made.model_copy(update={"attempt": 2}).digest != made.digest


@pytest.mark.parametrize("name", ["../x", "/etc/x", "model/../../x", "a//b"])
def test_a_step_cannot_name_files_outside_and_no_manifest_is_believed_that_does(store, name):
    writer = StepWriter(store, RUN, "a")
    with pytest.raises(ValueError, match="bad key"):
        writer.add_file(name, b"hello")
    writer.add_file("fine", b"hello")
    made = commit(writer).encode()
    store.put(manifest_key(RUN, "a"), made.replace(b"fine", name.encode()))
    with pytest.raises(ArtifactCorrupt):
        StepReader(store, RUN, "a").fetch_tree("model", Path("cache"))


def test_a_tree_comes_back_as_a_folder_that_shares_bytes_with_the_store(store, checkpoint, tmp_path):
    writer = StepWriter(store, RUN, "a")
    writer.add_tree("model", checkpoint)
    commit(writer)
    folder = StepReader(store, RUN, "a").fetch_tree("model", tmp_path / "cache")
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"config.json": b"{}", "state/rank0.bin": b"hello"}
    assert (folder / "state" / "rank0.bin").samefile(store.root / blob_key(RUN, HELLO))
    assert StepReader(store, RUN, "a").fetch_tree("model", tmp_path / "cache") == folder


class OverlapStore(FolderStore):
    """Tells whether two downloads were ever under way at once; each waits a little for another."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.inside, self.overlap = 0, threading.Event()

    def download(self, key: str, path: Path) -> None:
        self.inside += 1
        if self.inside > 1:
            self.overlap.set()
        self.overlap.wait(0.2)
        super().download(key, path)
        self.inside -= 1


def test_of_several_that_fetch_a_tree_one_does_the_work(checkpoint, tmp_path):
    store = OverlapStore(tmp_path / "store")
    writer = StepWriter(store, RUN, "a")
    writer.add_tree("model", checkpoint)
    commit(writer)
    with ThreadPoolExecutor(3) as pool:
        fetched = [pool.submit(StepReader(store, RUN, "a").fetch_tree, "model", tmp_path / "cache") for _ in range(3)]
    assert len({one.result() for one in fetched}) == 1
    assert not store.overlap.is_set()


def test_a_cached_folder_is_mended_and_a_corrupt_blob_refused(store, checkpoint, tmp_path):
    writer = StepWriter(store, RUN, "a")
    writer.add_tree("model", checkpoint)
    commit(writer)
    reader = StepReader(store, RUN, "a")
    folder = reader.fetch_tree("model", tmp_path / "cache")
    (folder / "config.json").unlink()
    (folder / "config.json").write_bytes(b"[]")
    assert (reader.fetch_tree("model", tmp_path / "cache") / "config.json").read_bytes() == b"{}"
    store.put(blob_key(RUN, HELLO), b"jello")
    (folder / "state" / "rank0.bin").unlink()
    with pytest.raises(ArtifactCorrupt, match=HELLO):
        reader.fetch_tree("model", tmp_path / "cache")
    assert not (folder / "state" / "rank0.bin").exists()


def test_what_a_step_lacks_is_said_with_what_it_has(store):
    writer = StepWriter(store, RUN, "a")
    writer.add_file("one", b"1")
    commit(writer)
    with pytest.raises(StoreMissing, match="no file two; it has one"):
        StepReader(store, RUN, "a").read("two")
    with pytest.raises(StoreMissing, match="no folder model; it has one"):
        StepReader(store, RUN, "a").fetch_tree("model", Path("cache"))
