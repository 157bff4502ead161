"""``score-distill sandbox``: cells of a file as steps of one session, and the prompt."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def sandbox(*arguments: str, given: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "score_distill.cli", "sandbox", *arguments]
    environment = {**os.environ, **environ}
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=300, env=environment)


def test_cells_are_steps_of_one_session(tmp_path: Path) -> None:
    file = tmp_path / "cells.py"
    file.write_text("x = 20\n# %%\nprint(x + 1)\n# %% the answer\nfinal_answer_print(x)\n")
    done = sandbox("run", str(file))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["output"], row["answer"], row["error"]) for row in rows] == [
        ("None", None, None),
        ("21", None, None),
        ("20", "20", None),
    ]
    assert done.returncode == 0


def test_the_exit_code_tells_of_an_error_in_the_last_step_and_of_nothing_to_run(tmp_path: Path) -> None:
    file = tmp_path / "cells.py"
    file.write_text("# %%\n1 / 0\n")
    done = sandbox("run", str(file))
    assert json.loads(done.stdout)["error"] == "ZeroDivisionError"
    assert done.returncode == 1
    missing = sandbox("run", str(tmp_path / "none.py"))
    assert missing.returncode == 2
    assert "none.py" in missing.stderr


def test_the_prompt_runs_what_is_typed() -> None:
    done = sandbox(given="x = 2\n\nprint(x * 21)\n")
    assert done.stdout.splitlines() == ["None", "42"]


def test_what_a_terminal_would_obey_is_shown_escaped() -> None:
    done = sandbox(given="print('a\\x1b[2Jb\\tc\\rd\\u202eé')\n")
    assert done.stdout == "a\\x1b[2Jb\tc\\rd\\u202eé\n"


@pytest.mark.parametrize("arguments", [[], ["run", "cells.py"]], ids=["prompt", "run"])
def test_an_error_of_the_sandbox_is_a_message(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "cells.py").write_text("print(1)\n")
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    done = sandbox(*(argument.replace("cells", f"{tmp_path}/cells") for argument in arguments), TMPDIR=str(deep))
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "no socket can be made at" in done.stderr and "error: the sandbox daemon did not start" in done.stderr
