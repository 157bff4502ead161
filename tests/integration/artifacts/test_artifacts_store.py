import os
from pathlib import Path

import pytest

from score_distill.artifacts.store import StoreMissing, read_journal


def test_put_get_and_if_absent(place):
    store = place.open()
    assert store.put("a/b", b"one", if_absent=True)
    assert not store.put("a/b", b"two", if_absent=True)
    assert store.get("a/b") == b"one"
    assert store.put("a/b", b"three")
    assert store.get("a/b") == b"three"
    assert store.exists("a/b")
    assert not store.exists("a")


def test_a_missing_key_is_named(place):
    with pytest.raises(StoreMissing, match="steps/x"):
        place.open().get("steps/x")
    with pytest.raises(StoreMissing, match="steps/x"):
        list(place.open().open_lines("steps/x"))


def test_list_children_and_delete(place):
    store = place.open()
    keys = ["r/a", "r/a.x", "r/b/1", "r/b/c/2", "r/b-", "rr/z"]
    for key in keys:
        store.put(key, b"x")
    assert sorted(store.list("r")) == sorted(keys[:-1])
    assert sorted(store.list("")) == sorted(keys)
    assert list(store.list("nowhere")) == []
    assert store.children("r") == ("b",)
    assert store.children("") == ("r", "rr")
    store.delete("r")
    store.delete("r")
    assert list(store.list("")) == ["rr/z"]


def test_a_large_file_goes_up_and_down_whole(place, tmp_path):
    """70 MiB: above the size from which S3 takes it in parts."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(os.urandom(1 << 20) * 70)
    store = place.open()
    assert store.put("big", source, if_absent=True)
    assert not store.put("big", source, if_absent=True)
    store.download("big", copy)
    assert copy.read_bytes() == source.read_bytes()


def test_lines_are_split_alike(place):
    store = place.open()
    lines = [b"one\r\n", b"two\x0bthree\n", b"\n", b"y" * 3_000_000 + b"\n", b"last"]
    store.put("a", b"".join(lines))
    store.put("empty", b"")
    assert list(store.open_lines("a")) == lines
    assert list(store.open_lines("empty")) == []


def test_a_reader_may_stop_early(place):
    store = place.open()
    store.put("a", b"line\n" * 1_000_000)
    assert [next(store.open_lines("a")) for _ in range(40)] == [b"line\n"] * 40


def test_writers_of_one_journal_keep_to_themselves(place):
    store = place.open()
    with store.appender("j") as first, store.appender("j") as second:
        second.append({"n": 2})
        first.append({"n": 1})
        first.flush()
        first.append({"n": 3})
    assert [row["n"] for row in read_journal(store, "j")] == [1, 3, 2]
    with store.appender("j") as third:
        third.append({"n": 4})
    assert [row["n"] for row in read_journal(store, "j")] == [1, 3, 2, 4]


def test_a_missing_source_is_no_fault_of_the_store(place):
    with pytest.raises(FileNotFoundError):
        place.open().put("a", Path("nowhere"))
