"""How a training process finds its peers, and what DeepSpeed must not do at start.

Under torchrun the environment names rank and peers. A single process needs neither torchrun nor a
port: it is its own group. On CPU DeepSpeed would compile a shared-memory collective with g++ (one
to four minutes, the first time); gloo does without, so nothing is ever compiled here.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Process:
    """This process among its peers."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0


def torchrun(processes: int, module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs `module` in several processes on this machine; plain python for one."""
    if processes == 1:
        return [sys.executable, "-m", module, *arguments]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc_per_node", str(processes), "-m", module, *arguments]


def process(environ: Mapping[str, str]) -> Process:
    return Process(
        rank=int(environ.get("RANK", 0)),
        ranks=int(environ.get("WORLD_SIZE", 1)),
        local_rank=int(environ.get("LOCAL_RANK", 0)),
    )


def join(environ: MutableMapping[str, str] = os.environ, timeout: timedelta = timedelta(minutes=30)) -> Process:
    """Enter the process group (NCCL with a GPU, gloo without) and hand it to DeepSpeed; once a process.

    DeepSpeed reads two things from the environment only: DS_ACCELERATOR when it is imported (cpu is set where
    there is no GPU) and LOCAL_RANK.
    """
    import torch
    import torch.distributed as dist

    gpu = torch.cuda.is_available()
    if not gpu:
        environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    quiet()
    me = process(environ)
    environ["LOCAL_RANK"] = str(me.local_rank)
    if dist.is_initialized():
        return me
    backend = "nccl" if gpu else "gloo"
    if gpu:
        torch.cuda.set_device(me.local_rank)
    else:
        # What deepspeed.ops probes and compiles from; empty = nothing (it is cached there for good).
        deepspeed.ops.__compatible_ops__ = {}
    if "RANK" in environ:
        dist.init_process_group(backend, timeout=timeout)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False)
    return me


def quiet() -> None:
    """Leave the terminal to the caller: libraries speak from warnings on, and draw no bars."""
    import logging
    import warnings

    from deepspeed.utils import logger
    from transformers.utils import logging as transformers_logging

    logger.setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")


def leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
