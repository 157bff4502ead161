"""The sandbox as the runner starts it: it runs code, knows nothing of the user, and is gone at the end."""

import os
from pathlib import Path

import yaml

from score_distill import manifest
from score_distill.executors.local import processes
from score_distill.executors.local.fleet import Fleet
from score_distill.executors.local.layout import run_paths
from score_distill.machine import detect
from score_distill.sandbox.client import Sandbox

QUICKSTART = Path(__file__).parents[4] / "examples" / "quickstart.yaml"


async def test_the_sandbox_comes_up_runs_code_and_leaves_nothing(tmp_path: Path) -> None:
    environ = {**os.environ, "TEACHER_API_KEY": "sk-secret"}
    given = yaml.safe_load(QUICKSTART.read_text())
    given["spec"]["method"]["agent"]["libraries"] = ["numpy"]
    site = run_paths(manifest.parse(given), QUICKSTART.parent, tmp_path, environ, detect())
    async with Fleet(site) as fleet:
        await fleet.servers["sandbox"].ready()
        assert fleet.socket is not None
        for pid in processes.writers(site.logs):
            known = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"sk-secret" not in known
        sandbox = await Sandbox.connect(fleet.socket)
        branch = await sandbox.open(seed=1)
        assert (await branch.run("x = 6\nprint(x * 7)")).output == "42"
        assert (await branch.run("import numpy\nprint(numpy.arange(4).sum())")).output == "6"
        assert (await branch.run("import sympy")).output.startswith("ModuleNotFoundError")
        await sandbox.close()
    assert processes.writers(site.logs) == []
    assert not fleet.socket.parent.exists()
