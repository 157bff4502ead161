"""Processes for the tests to race and to kill: `python worker.py VERB URI ...`, telling what was done on stdout."""

import os
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path

from score_distill.artifacts.lock import RunLock
from score_distill.artifacts.steps import Manifest, StepReader, StepWriter
from score_distill.artifacts.store import Store, open_store

RUN, STEP = "runs/demo", "mentor"


def say(text: object) -> None:
    print(text, flush=True)


def commit(writer: StepWriter, counts: dict[str, int]) -> Manifest:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return writer.commit(
        verb="mentor",
        inputs={},
        config_digest="c",
        counts=counts,
        summary={},
        started=now,
        finished=now,
        attempt=1,
        versions={},
    )


def work(store: Store, items: str) -> None:
    """A stage in small: go on from the journal, record each item, say so, commit."""
    writer = StepWriter(store, RUN, STEP)
    done = {row["id"] for row in writer.read_journal("outcomes")}
    with writer.journal("outcomes") as journal:
        for item in range(int(items)):
            if item not in done:
                journal.append({"id": item, "text": "x" * 500})
                if not hasattr(store, "root"):
                    journal.flush()
                say(item)
    say("recorded")
    writer.add_rows("outcomes.jsonl", sorted(writer.read_journal("outcomes"), key=lambda row: row["id"]))
    say("added")
    commit(writer, {"items": int(items)})
    say("committed")


def replace(store: Store, *contents: str) -> None:
    """Put one file after the other under the same key until killed."""
    say("ready")
    while True:
        for content in contents:
            store.put("big", Path(content))


def race(store: Store, number: str) -> None:
    writer = StepWriter(store, RUN, STEP)
    writer.add_rows("rows", [{"winner": int(number)}])
    say("ready")
    sys.stdin.readline()
    done = commit(writer, {"worker": int(number)})
    say(done.digest)


def tree(store: Store, folder: str) -> None:
    writer = StepWriter(store, RUN, STEP)
    writer.add_tree("model", Path(folder))
    say(commit(writer, {}).digest)


def fetch(store: Store, cache: str) -> None:
    reader = StepReader(store, RUN, STEP)
    _ = reader.manifest
    say("ready")
    sys.stdin.readline()
    say(reader.fetch_tree("model", Path(cache)))


def lock(store: Store, folder: str) -> None:
    with RunLock(Path(folder)):
        say("ready")
        sys.stdin.readline()


def rows(store: Store, count: str) -> None:
    """Write and read that many rows of 1 kB; say how many KiB of memory it took."""
    store.exists("warm/up")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    writer = StepWriter(store, RUN, STEP)
    writer.add_rows("rows", ({"id": number, "text": "x" * 1000} for number in range(int(count))))
    commit(writer, {})
    total = sum(row["id"] for row in StepReader(store, RUN, STEP).open_rows("rows"))
    assert total == sum(range(int(count)))
    say(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


if __name__ == "__main__":
    verbs = {"work": work, "replace": replace, "race": race, "tree": tree, "fetch": fetch, "lock": lock, "rows": rows}
    verbs[sys.argv[1]](open_store(sys.argv[2], os.environ), *sys.argv[3:])
