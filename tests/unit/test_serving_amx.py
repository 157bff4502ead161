"""vLLM's plugin of ours has the tile registers' permission for a process, where the CPU has them."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

ASK = """
import ctypes
from score_distill.serving.amx import request
request()
granted = ctypes.c_uint64()
ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(granted))  # ARCH_GET_XCOMP_PERM
print(granted.value >> 18 & 1)
"""


def test_a_process_that_asked_has_the_tile_registers_that_its_cpu_has() -> None:
    said = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(int("amx_tile" in Path("/proc/cpuinfo").read_text()))


def test_vllm_finds_the_plugin() -> None:
    [plugin] = entry_points(group="vllm.general_plugins", name="score-distill-amx")
    assert plugin.load().__module__ == "score_distill.serving.amx"
