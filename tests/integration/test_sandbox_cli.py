"""``score-distill sandbox``: cells of a file as steps of one session, and the prompt."""

import json
import subprocess
import sys
from pathlib import Path


def sandbox(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "score_distill.cli", "sandbox", *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=300)


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
