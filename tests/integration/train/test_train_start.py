"""What a training process needs to start: no launcher, no free port, no compiler."""

import os
import subprocess
import sys
from pathlib import Path

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
