import random
import subprocess
from pathlib import Path

import pytest

from score_distill.artifacts.lock import RunLock, RunLocked
from score_distill.artifacts.steps import StepReader, completed_steps, journal_key
from score_distill.artifacts.store import read_journal

RUN, STEP = "runs/demo", "mentor"
WORKERS = 4


def killed_at(process: "subprocess.Popen[str]", point: int | str) -> list[str]:
    """What the process said, when it is killed right after its `point`-th line, or after the line `point`."""
    said: list[str] = []
    for line in process.stdout:
        said.append(line.strip())
        if point in (len(said), said[-1]):
            process.kill()
    process.communicate()
    assert process.returncode in (0, -9)
    return said


@pytest.mark.parametrize(("kind", "items", "kills"), [("folder", 10_000, 8), ("s3", 200, 3)])
def test_kill_9_loses_nothing_recorded_and_records_nothing_twice(kind, items, kills, request):
    place = request.getfixturevalue(f"{kind}_place")
    rng = random.Random(7)
    recorded: set[int] = set()
    for point in [*(rng.randrange(1, items // kills) for _ in range(kills)), "recorded", "added", "never"]:
        said = killed_at(place.start("work", items), point)
        recorded |= {int(word) for word in said if word.isdigit()}
        journal = [row["id"] for row in read_journal(place.open(), journal_key(RUN, STEP, "outcomes"))]
        assert len(set(journal)) == len(journal)
        assert recorded <= set(journal)
        if not completed_steps(place.open(), RUN):
            assert "committed" not in said
        elif isinstance(point, int):
            assert "added" in said
    reader = StepReader(place.open(), RUN, STEP)
    assert [row["id"] for row in reader.open_rows("outcomes.jsonl")] == list(range(items))


def test_kill_9_while_a_file_is_replaced_leaves_a_whole_one_and_no_litter(folder_place, tmp_path):
    rng = random.Random(3)
    contents = [bytes([letter]) * 8_000_000 for letter in b"ab"]
    files = [tmp_path / name for name in "ab"]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    store, litter = folder_place.open(), 0
    writer = folder_place.start("replace", *files)
    assert writer.stdout.readline() == "ready\n"
    for _ in range(100):
        folder_place.open().put("small", b"")
    assert writer.poll() is None, "opening the store swept the file of a living writer"
    writer.kill()
    writer.communicate()
    for _ in range(8):
        process = folder_place.start("replace", *files)
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.0, 0.15))
        process.kill()
        process.communicate()
        litter += len(list((store.root / ".tmp").iterdir()))
        assert not store.exists("big") or store.get("big") in contents
    assert litter > 0
    folder_place.open().put("small", b"")
    assert list((store.root / ".tmp").iterdir()) == []


def at_once(processes: "list[subprocess.Popen[str]]") -> list[str]:
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate()[0].strip() for process in processes]


def test_of_workers_that_race_one_commits_and_the_others_are_told(place):
    said = at_once([place.start("race", number) for number in range(WORKERS)])
    stands = completed_steps(place.open(), RUN)[STEP]
    assert {*said} == {stands.digest}
    [row] = StepReader(place.open(), RUN, STEP).open_rows("rows")
    assert row["winner"] == stands.counts["worker"]


def test_two_processes_fetch_one_tree_at_once(place, tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for number in range(20):
        (folder / f"shard{number}").write_bytes(bytes([number]) * 300_000)
    place.start("tree", folder).communicate()
    said = at_once([place.start("fetch", tmp_path / "cache") for _ in range(4)])
    assert len(set(said)) == 1
    found = {path.name: path.read_bytes() for path in Path(said[0]).iterdir()}
    assert found == {f"shard{number}": bytes([number]) * 300_000 for number in range(20)}


def test_100_000_rows_are_never_in_memory(place):
    process = place.start("rows", 100_000)
    grown_kib = int(process.communicate()[0])
    assert process.returncode == 0
    assert grown_kib < 32 * 1024


def test_a_run_is_locked_until_its_holder_dies(folder_place, tmp_path):
    holder = folder_place.start("lock", tmp_path / "run")
    assert holder.stdout.readline() == "ready\n"
    with pytest.raises(RunLocked, match=rf"process {holder.pid} on .* works on this run"), RunLock(tmp_path / "run"):
        pass
    holder.kill()
    holder.communicate()
    with RunLock(tmp_path / "run"), pytest.raises(RunLocked), RunLock(tmp_path / "run"):
        pass
    with RunLock(tmp_path / "run"):
        pass
