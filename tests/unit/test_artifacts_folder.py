import os
from pathlib import Path

import pytest

from score_distill.artifacts.folder import FolderStore
from score_distill.artifacts.store import ArtifactCorrupt, StoreMissing, open_store, read_journal


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_put_replaces_and_get_returns_the_whole_object(store):
    assert store.put("a/b", b"one")
    assert store.put("a/b", b"two")
    assert store.get("a/b") == b"two"


def test_put_if_absent_keeps_the_first(store):
    assert store.put("a", b"one", if_absent=True)
    assert not store.put("a", b"two", if_absent=True)
    assert store.get("a") == b"one"


def test_put_takes_the_content_of_a_file(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    store.put("big", source)
    source.write_bytes(b"changed")
    assert store.get("big") == b"x" * 3_000_000


def test_lines_keep_their_ends_and_split_at_newline_alone(store):
    store.put("a", b"one\r\ntwo\x0bthree\n\nlast")
    assert list(store.open_lines("a")) == [b"one\r\n", b"two\x0bthree\n", b"\n", b"last"]


def test_list_is_in_the_order_of_whole_keys_and_shows_nothing_hidden(store):
    keys = ["r/a", "r/a.x", "r/b/1", "r/b-", "r/b0", "s/z"]
    for key in reversed(keys):
        store.put(key, b"")
    (store.root / "r" / ".lock").write_text("")
    assert list(store.list("r")) == sorted(keys[:-1])
    assert list(store.list("")) == sorted(keys)
    assert list(store.list("nowhere")) == []
    assert store.children("r") == ("b",)


def test_delete_takes_the_key_and_all_below_but_no_namesake(store):
    for key in ("a/b", "a/c/d", "ab"):
        store.put(key, b"")
    store.delete("a")
    store.delete("a")
    assert list(store.list("")) == ["ab"]


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/", "../a", "a/../b", "a/.tmp", ".lock", "a\nb", "a/b\n"])
def test_a_key_cannot_leave_the_store_or_name_what_is_its_own(store, key):
    with pytest.raises(ValueError, match="bad key"):
        store.put(key, b"")


def test_missing_key_is_named(store):
    with pytest.raises(StoreMissing, match="steps/x"):
        store.get("steps/x")
    with pytest.raises(StoreMissing, match="steps/x"):
        list(store.open_lines("steps/x"))
    assert not store.exists("steps/x")


def test_reading_creates_nothing(store):
    assert not store.exists("a")
    assert list(store.list("")) == []
    assert not store.root.exists()


def test_download_shares_the_bytes(store, tmp_path):
    store.put("a", b"one")
    store.download("a", tmp_path / "copy")
    assert (tmp_path / "copy").samefile(store.root / "a")
    store.put("a", b"two")
    assert (tmp_path / "copy").read_bytes() == b"one"


def test_what_a_dead_writer_left_is_swept_by_the_next(store):
    store.put("a", b"")
    left = store.root / ".tmp" / "left"
    left.write_bytes(b"half")
    FolderStore(store.root).put("b", b"")
    assert list((store.root / ".tmp").iterdir()) == []


def test_journal_gives_every_row_of_every_writer_in_order(store):
    with store.appender("j") as first, store.appender("j") as second:
        second.append({"n": 2})
        first.append({"n": 1, "text": "é\ud800\u2028"})
        first.append({"n": 3})
        assert [row["n"] for row in read_journal(store, "j")] == [1, 3, 2]
    assert next(read_journal(store, "j"))["text"] == "é\ud800\u2028"


def test_journal_leaves_out_a_row_cut_short_and_goes_on_in_a_file_of_its_own(store):
    with store.appender("j") as writer:
        writer.append({"n": 1})
    file = store.root / "j" / "000000.jsonl"
    file.write_bytes(file.read_bytes() + b'{"n": 2')
    with store.appender("j") as writer:
        writer.append({"n": 2})
    assert list(read_journal(store, "j")) == [{"n": 1}, {"n": 2}]


def test_journal_with_a_broken_line_in_the_middle_is_corrupt(store):
    store.put("j/000000.jsonl", b'{"n": 1}\n{"n"\n{"n": 3}\n')
    with pytest.raises(ArtifactCorrupt, match=r"j/000000\.jsonl:2"):
        list(read_journal(store, "j"))


def test_a_row_that_is_no_json_is_refused_and_leaves_the_journal_whole(store):
    with store.appender("j") as writer:
        with pytest.raises(ValueError, match="JSON"):
            writer.append({"score": float("nan")})
        writer.append({"n": 1})
    assert list(read_journal(store, "j")) == [{"n": 1}]


def test_open_store_knows_paths_and_file_uris(tmp_path):
    open_store(f"file://{tmp_path}/a%20b", {}).put("k", b"1")
    open_store("c/d", {}, tmp_path).put("k", b"2")
    assert (tmp_path / "a b" / "k").read_bytes() == b"1"
    assert (tmp_path / "c" / "d" / "k").read_bytes() == b"2"


@pytest.mark.parametrize(
    ("uri", "message"),
    [("gs://b/p", "gs:// does not work here; use s3://, file:// or a path"), ("file://b/p", "file:///b/p")],
)
def test_open_store_says_what_it_knows(uri, message):
    with pytest.raises(ValueError, match=message):
        open_store(uri, {})


def test_files_are_readable_by_other_users(store):
    store.put("a", b"")
    assert os.stat(store.root / "a").st_mode & 0o777 == 0o644
