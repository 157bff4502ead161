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

DEADLINE = 600.0  # seconds in which all peers must have come
DEADLINE_NAME = "SCORE_JOIN_SECONDS"


@dataclass(frozen=True)
class Process:
    """This process among its peers."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0


@dataclass(frozen=True)
class Nodes:
    """Machines, or pods, that train together; the first of them is at `address`.

    `rank` is which of them this is, or what stands for it in the command of pods that differ in nothing else.
    """

    count: int
    rank: int | str
    address: str
    port: int = 29500


def torchrun(
    processes: int, module: str, arguments: Sequence[str], nodes: Nodes | None = None, deadline: float = DEADLINE
) -> list[str]:
    """The command that runs `module` in several processes on this machine, which may be one of several.

    Plain python for one process: where it is one of several machines, the environment must tell its peers (`process`).
    """
    if processes == 1:
        return [sys.executable, "-m", module, *arguments]
    meeting = ["--standalone"] if nodes is None or nodes.count == 1 else _meeting(nodes, deadline)
    launcher = [sys.executable, "-m", "torch.distributed.run", *meeting]
    return [*launcher, "--nproc_per_node", str(processes), "-m", module, *arguments]


def _meeting(nodes: Nodes, deadline: float) -> list[str]:
    return [
        *("--nnodes", str(nodes.count), "--node-rank", str(nodes.rank)),
        *("--rdzv-backend", "static", "--rdzv-conf", f"timeout={deadline:.0f}"),
        *("--master-addr", nodes.address, "--master-port", str(nodes.port)),
    ]


def process(environ: Mapping[str, str]) -> Process:
    return Process(
        rank=int(environ.get("RANK", 0)),
        ranks=int(environ.get("WORLD_SIZE", 1)),
        local_rank=int(environ.get("LOCAL_RANK", 0)),
    )


def deadline_of(environ: Mapping[str, str]) -> float:
    return float(environ.get(DEADLINE_NAME) or DEADLINE)


def join(environ: MutableMapping[str, str] = os.environ, timeout: timedelta = timedelta(minutes=30)) -> Process:
    """Enter the process group (NCCL with a GPU, gloo without) and hand it to DeepSpeed; once a process.

    Raises PeersMissing when not all have come by the deadline. `timeout` is how long one then waits for another, which
    may be rolling out meanwhile.

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
        _meet(backend, me, timeout, environ)
    else:
        from torch.distributed import HashStore  # type: ignore[attr-defined]

        alone = HashStore()
        dist.init_process_group(backend, store=alone, rank=0, world_size=1, timeout=timeout)
    deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False)
    return me


def _meet(backend: str, me: Process, timeout: timedelta, environ: Mapping[str, str]) -> None:
    import torch.distributed as dist
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    from score_distill.train.errors import PeersMissing

    deadline = deadline_of(environ)
    try:
        store, rank, ranks = next(rendezvous("env://", timeout=timedelta(seconds=deadline)))
        dist.init_process_group(
            backend, store=PrefixStore("training", store), rank=rank, world_size=ranks, timeout=timeout
        )
    except dist.DistError as error:
        raise PeersMissing(
            f"rank {me.rank} of {me.ranks} did not meet all its peers at {environ.get('MASTER_ADDR')}:"
            f"{environ.get('MASTER_PORT')} within {deadline:.0f} s: {str(error).splitlines()[0][:200]}"
        ) from error


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
