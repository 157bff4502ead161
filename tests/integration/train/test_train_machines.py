"""Training that loses its machine: what was on its disk is gone, and it goes on from the store."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.train.test_train_sft import CONFIG, Killed, kill_after, weights

from score_distill.artifacts.blobs import blob_key
from score_distill.artifacts.checkpoints import Record, StoredCheckpoints
from score_distill.artifacts.folder import FolderStore
from score_distill.train.checkpoints import Checkpoints
from score_distill.train.launch import Process
from score_distill.train.sft import train_sft

MakeModel = Callable[..., Path]
Worker = subprocess.Popen[str]
EVERY_3 = replace(CONFIG, checkpoint_every=3)


def worker(arguments: list[object], work: Path, zero_stage: int, pause: int, environ: dict[str, str]) -> Worker:
    command = [sys.executable, str(Path(__file__).with_name("workers.py")), *map(str, (*arguments, work))]
    return subprocess.Popen(
        [*command, str(zero_stage), str(pause)],
        env={**os.environ, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def two(arguments: list[object], works: list[Path], pause: int = 0) -> list[Worker]:
    """Two ranks with ZeRO 2, each with a work folder of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(listener.getsockname()[1]), "WORLD_SIZE": "2"}
    return [
        worker(arguments, work, 2, pause, {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank, work in enumerate(works)
    ]


def until(process: Worker, step: int) -> None:
    assert any(line.strip() == str(step) for line in process.stdout), "it ended before"


def ended(process: Worker) -> tuple[int, str]:
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def stored(folder: Path) -> StoredCheckpoints:
    return StoredCheckpoints(FolderStore(folder), "run", "sft")


@pytest.fixture
def unbroken(make_model: MakeModel, rows_path: Path, tmp_path: Path, me: Process):
    """Model folder, loss of each step and last weights of a run that nothing happened to."""
    model, losses = make_model(), []
    engine, _ = train_sft(
        model, rows_path, EVERY_3, Checkpoints(tmp_path / "u"), me, lambda told, _: losses.append(told.loss)
    )
    return model, losses, weights(engine)


def test_killed_and_its_folder_lost_it_goes_on_from_the_store_as_if_nothing_had_happened(
    unbroken, rows_path: Path, tmp_path: Path
) -> None:
    model, losses, expected = unbroken
    arguments, work = [model, rows_path, tmp_path / "store"], tmp_path / "work"
    first = worker(arguments, work, 0, pause=4, environ={})
    until(first, 4)
    first.kill()
    ended(first)
    shutil.rmtree(work)
    code, said = ended(worker(arguments, work, 0, pause=0, environ={}))
    assert (code, said.splitlines()[-1]) == (0, "resumed at 3")
    curve = [json.loads(line) for line in (work / "curve.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in curve] == list(enumerate(losses))
    got = load_file(work / "model" / "model.safetensors")
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_ranks_that_share_no_disk_save_when_one_is_asked_to_stop_and_go_on_on_other_machines(
    unbroken, rows_path: Path, tmp_path: Path
) -> None:
    model, losses, expected = unbroken
    arguments, works = [model, rows_path, tmp_path / "store"], [tmp_path / "work-0", tmp_path / "work-1"]
    ranks = two(arguments, works, pause=4)
    for rank in ranks:
        until(rank, 4)
    ranks[1].send_signal(signal.SIGTERM)
    for rank in ranks:
        print(file=rank.stdin, flush=True)
    assert [ended(rank)[0] for rank in ranks] == [128 + signal.SIGTERM] * 2
    assert list(stored(tmp_path / "store").identities()) == [3, 5]
    shutil.rmtree(works[1])
    works[0].rename(tmp_path / "moved")
    ends = [ended(rank) for rank in two(arguments, [tmp_path / "new", tmp_path / "moved"])]
    assert [(code, said.splitlines()[-1]) for code, said in ends] == [(0, "resumed at 5")] * 2
    curve = [json.loads(line)["loss"] for line in (tmp_path / "new" / "curve.jsonl").read_text().splitlines()]
    assert curve == pytest.approx(losses, rel=2e-5)
    got = load_file(tmp_path / "new" / "model" / "model.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, atol=2e-4, rtol=0)


def test_one_whose_files_are_gone_from_the_store_is_left_for_an_older_one(
    unbroken, rows_path: Path, tmp_path: Path, me: Process, caplog: pytest.LogCaptureFixture
) -> None:
    model, _, expected = unbroken
    store, depot = FolderStore(tmp_path / "store"), stored(tmp_path / "store")
    place = Checkpoints(tmp_path / "c", depot)
    with pytest.raises(Killed):
        train_sft(model, rows_path, EVERY_3, place, me, kill_after(7))
    files = Record.model_validate_json(store.get(f"{depot.place}/00000006.json")).files
    store.delete(blob_key("run", files["deepspeed/mp_rank_00_model_states.pt"].sha256))
    shutil.rmtree(place.folder)
    engine, summary = train_sft(model, rows_path, EVERY_3, place, me)
    assert summary.resumed_at == 3
    assert "checkpoint 6 in the store is not used" in caplog.text
    got = weights(engine)
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


def test_what_belongs_to_a_checkpoint_comes_back_as_it_was(
    unbroken, rows_path: Path, tmp_path: Path, me: Process
) -> None:
    work = tmp_path / "work"
    place = Checkpoints(work / "c", stored(tmp_path / "store"), {"curve": work / "curve", "best": work / "best"})
    for state in ("best", "later"):
        (work / state / "000002").mkdir(parents=True)
        (work / state / "000002" / "weights").write_text(state)
    (work / "curve").write_text("12")
    with pytest.raises(Killed):
        train_sft(unbroken[0], rows_path, EVERY_3, place, me, kill_after(4))
    for lost in (work / "best", place.folder):
        shutil.rmtree(lost)
    (work / "later").rename(work / "best")
    (work / "curve").write_text("12345")
    train_sft(unbroken[0], rows_path, replace(EVERY_3, checkpoint_every=0), place, me)
    assert (work / "curve").read_text() == "12"
    assert (work / "best" / "000002" / "weights").read_text() == "best"
