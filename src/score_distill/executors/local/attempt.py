"""One attempt at a step on this machine: the processes of its workers, watched together with their servers."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from score_distill.control.pipeline import Step, Workers
from score_distill.control.policy import Ending, code_of
from score_distill.errors import Exit
from score_distill.executors.local import processes
from score_distill.executors.local.servers import Server
from score_distill.train import launch
from score_distill.work_folder import WORKER, WorkFolder


def stage_command(step: Step, config: Path, ranks: int) -> list[str]:
    return launch.torchrun(ranks, "score_distill.cli", ["stage", step.verb, "--config", str(config)])


@dataclass
class Attempt:
    step: Step
    folder: WorkFolder
    log: Path
    workers: Workers
    _processes: Sequence[processes.Process]
    _ends: Sequence["asyncio.Task[int]"]
    _deaths: Mapping["asyncio.Task[str]", Server]

    @classmethod
    async def start(
        cls,
        step: Step,
        folder: WorkFolder,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        workers: Workers,
        servers: Sequence[Server],
    ) -> Self:
        """One process a shard; the ranks of a trainer share one launcher."""
        folder.begin()
        started = []
        for shard in range(workers.shards):
            own = {**environ, WORKER: str(shard)} if workers.shards > 1 else environ
            path = log.with_suffix(f".{shard}.log") if shard else log
            started.append(await processes.start(step.name, command, own, path))
        ends = [asyncio.create_task(process.wait()) for process in started]
        deaths = {asyncio.create_task(server.death()): server for server in servers}
        return cls(step, folder, log, workers, started, ends, deaths)

    @property
    def over(self) -> bool:
        """Whether all workers ended, or one ended badly, or a server that they use died."""
        codes = [end.result() for end in self._ends if end.done()]
        return len(codes) == len(self._ends) or any(codes) or any(death.done() for death in self._deaths)

    async def wait(self, seconds: float) -> None:
        """Return when a worker or server ends, at the latest after ``seconds``."""
        left = [task for task in (*self._ends, *self._deaths) if not task.done()]
        if left and not self.over:
            await asyncio.wait(left, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def end(self, now: float) -> Ending:
        """Stop what is left of it, and say how it ended."""
        fallen = [server.name for death, server in self._deaths.items() if death.done()]
        codes = [end.result() for end in self._ends if end.done()]
        bad = next((code for code in codes if code), 0)
        unfinished = len(codes) < len(self._ends)
        await self.stop()
        if fallen and (unfinished or bad):
            return Ending(int(Exit.INFRASTRUCTURE), f"server {fallen[0]} died", now)
        summaries = self.folder.read_summaries()
        code = code_of(bad, self.workers.ranks, summaries)
        told = next((one.message for one in summaries if one.message and not one.succeeded), "")
        if told and code != Exit.BUG:
            return Ending(code, told, now)
        end = "\n".join(f"  {line}" for line in processes.last_lines(self.log, 15))
        return Ending(code, f"{ended(code)}; the end of {self.log}:\n{end}", now)

    async def stop(self) -> None:
        for death in self._deaths:
            death.cancel()
        await asyncio.gather(*(process.stop() for process in self._processes if process.running))
        await asyncio.gather(*self._ends)
        for process in self._processes:
            process.close()


def ended(code: int) -> str:
    if code == 128 + 9:
        return "its process was killed (by signal 9; was memory short?)"
    return f"its process was ended by signal {code - 128}" if code > 128 else f"its process ended with exit code {code}"
