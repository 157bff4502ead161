"""The real runner with fake stages and fake model servers: ``fake_run.py MANIFEST``; exits as ``score-distill run``."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import typer

from score_distill import cli, manifest
from score_distill.contract import Served
from score_distill.control.pipeline import Step
from score_distill.executors.local import keys
from score_distill.executors.local.display import Lines
from score_distill.executors.local.fleet import Fleet, Name, answers, free_port
from score_distill.executors.local.layout import run_paths
from score_distill.executors.local.runner import Overrides, execute
from score_distill.executors.local.servers import Launch
from score_distill.machine import detect

HERE = Path(__file__).parent


class FleetOfFakes(Fleet):
    """Real processes, kept up by the real code, that only pretend to be vLLM; the sandbox is the same pretender."""

    async def teacher(self) -> Launch:
        return self.fake("teacher")

    async def student(self) -> Launch:
        return self.fake("student")

    async def sandbox(self) -> Launch:
        return self.fake("sandbox")

    def fake(self, name: Name) -> Launch:
        port, key = free_port(), keys.fresh()
        key_file = str(keys.keep(self.site.work / "keys" / name, key))
        served = Served(url=f"http://127.0.0.1:{port}/v1", model=name, key_file=key_file)

        async def ready() -> bool:
            if not await answers(served):
                return False
            self.served[name] = served
            self.socket = Path("none")
            return True

        environ = {**os.environ, "VLLM_API_KEY": key}
        return Launch([sys.executable, str(HERE / "fake_server.py"), str(port), name], environ, ready)


def stage(_: Step, config: Path, __: int) -> list[str]:
    return [sys.executable, str(HERE / "fake_stage.py"), str(config)]


@contextmanager
def ended() -> Iterator[None]:
    try:
        yield
    except typer.Exit as end:
        sys.exit(end.exit_code)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    with ended(), cli.exit_codes():
        site = run_paths(manifest.read(path), path.parent, None, os.environ, detect())
        means = Overrides(command=stage, fleet=FleetOfFakes, preflight=False, clock=count(0, 100).__next__)
        cli.interruptible(execute(site, Lines(lambda text: print(text, flush=True)), means))
