"""A model for a pod: whole or not at all, and untied byte for byte without torch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tests.integration.serving.tied import STUDENT, write_tied
from transformers import AutoModelForCausalLM

from score_distill.errors import BadInput
from score_distill.serving.untie import copy, untie


def fetch(uri: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "score_distill.cli", "fetch", uri, str(folder), *options]
    environ = {**os.environ, "SCORE_CLAIMS": str(folder.parent / "claims")}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environ)


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([list(range(3, 40))])).logits


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found


@pytest.fixture(params=["float32", "bfloat16", "sharded"])
def tied(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    dtype = torch.bfloat16 if request.param == "bfloat16" else torch.float32
    folder = write_tied(tmp_path / "tied", dtype, "200KB" if request.param == "sharded" else "5GB")
    assert "lm_head.weight" not in weights(folder)
    assert (folder / "model.safetensors.index.json").exists() is (request.param == "sharded")
    return folder


def test_an_untied_copy_has_the_same_bytes_and_a_head_of_its_own(tied: Path, tmp_path: Path) -> None:
    assert fetch(str(tied), tmp_path / "untied", "--untied").stderr == ""
    before, after = weights(tied), weights(tmp_path / "untied")
    head = after.pop("lm_head.weight")
    embedding = next(tensor for name, tensor in before.items() if name.endswith("embed_tokens.weight"))
    assert head.dtype == embedding.dtype and torch.equal(head, embedding)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(logits(tied), logits(tmp_path / "untied"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "untied")
    assert model.lm_head.weight.data_ptr() != model.get_input_embeddings().weight.data_ptr()
    again = tmp_path / "again"
    untie(tmp_path / "untied", again, copy)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "untied").iterdir()
    }


def test_an_embedding_that_is_not_found_is_said(tied: Path, tmp_path: Path) -> None:
    for path in tied.glob("*.safetensors*"):
        path.unlink()
    with pytest.raises(BadInput, match="cannot untie"):
        untie(tied, tmp_path / "untied", copy)


def test_what_a_killed_fetch_left_is_begun_again_and_what_is_whole_is_kept(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    shutil.copytree(STUDENT, tmp_path / "claims" / "models" / "student")
    (tmp_path / ".got.part").mkdir()
    (tmp_path / ".got.part" / "half").write_text("x")
    assert fetch("pvc://models/student", tmp_path / "got").returncode == 0
    assert {path.name for path in (tmp_path / "got").iterdir()} == {path.name for path in STUDENT.iterdir()}
    assert not (tmp_path / ".got.part").exists()
    shutil.rmtree(tmp_path / "claims")
    assert fetch("pvc://models/student", tmp_path / "got").returncode == 0


def test_a_model_that_is_not_usable_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    done = fetch(str(tmp_path / "bad"), tmp_path / "got")
    assert (done.returncode, (tmp_path / "got").exists()) == (2, False)
    assert "no weights" in done.stderr
