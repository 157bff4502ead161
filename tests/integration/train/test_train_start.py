"""What a training process needs to start: no launcher, no free port, no compiler."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = """
import sys
from pathlib import Path
from score_distill.train import launch
from score_distill.train.config import TrainConfig
me = launch.join()
from score_distill.train.checkpoints import Checkpoints
from score_distill.train.sft import train_sft
config = TrainConfig(learning_rate=1e-3, pack_tokens=128, tokens_per_step=512, zero_stage=2)
_, summary = train_sft(Path(sys.argv[1]), Path(sys.argv[2]), config, Checkpoints(Path(sys.argv[3])), me)
print("steps", summary.steps)
"""


def test_a_process_alone_trains_without_torchrun_and_compiles_nothing(make_model, rows_path: Path, tmp_path: Path):
    extensions = tmp_path / "extensions"
    hidden = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "DS_ACCELERATOR")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    environ |= {"PATH": str(tmp_path), "TORCH_EXTENSIONS_DIR": str(extensions), "CXX": "/no/compiler"}
    arguments = [str(make_model()), str(rows_path), str(tmp_path / "checkpoints")]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *arguments], env=environ, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("steps")
    assert not extensions.exists()


JOIN = """
from score_distill.errors import exit_of
from score_distill.train import launch
try:
    launch.join()
except Exception as error:
    code, message = exit_of(error)
    print(code.name, message)
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_peer_that_never_comes_is_told_by_the_deadline(rank: int):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    environ = {**os.environ, **meeting, "SCORE_JOIN_SECONDS": "1"}
    done = subprocess.run([sys.executable, "-c", JOIN], env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"INFRASTRUCTURE rank {rank} of 2 did not meet all its peers at 127.0.0.1:{port}")
