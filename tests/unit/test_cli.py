"""The commands: quick help, exit codes, one clear message, and a summary of every stage."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from score_distill.agent.refusals import EndpointRefused, EndpointUnavailable
from score_distill.artifacts.models import ModelNotUsable
from score_distill.artifacts.store import ArtifactCorrupt, StoreDenied, StoreFull
from score_distill.cli import app
from score_distill.errors import BadInput, BudgetSpent, Exit, Infrastructure, ModelFailure, cause_of, exit_of
from score_distill.executors.local.layout import run_paths
from score_distill.machine import detect
from score_distill.manifest import read

HEAVY = {"torch", "transformers", "vllm", "deepspeed", "aiohttp", "boto3"}


def test_help_imports_neither_the_ml_stack_nor_clients() -> None:
    code = "import sys; from score_distill.cli import app; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_help_tells_the_exit_codes() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert "6: the manifest is not the one that this run began with" in result.output


def test_a_bad_manifest_ends_with_its_faults_and_nothing_is_made(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("kind: DistillationRun")
    for command in ("run", "plan", "check"):
        result = CliRunner().invoke(app, [command, str(path)])
        assert result.exit_code == Exit.BAD_INPUT
        assert "error: " in result.output
        assert "apiVersion: missing; must be given" in result.output
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_folder_without_a_run_is_refused(tmp_path: Path, command: str) -> None:
    result = CliRunner().invoke(app, [command, str(tmp_path)])
    assert result.exit_code == Exit.BAD_INPUT
    assert "no run was begun here" in result.output


ENDS = [
    (BadInput("x"), Exit.BAD_INPUT),
    (Infrastructure("x"), Exit.INFRASTRUCTURE),
    (ModelFailure("x"), Exit.MODEL),
    (BudgetSpent("x"), Exit.BUDGET),
    (EndpointRefused("x"), Exit.BAD_INPUT),
    (EndpointUnavailable("x"), Exit.INFRASTRUCTURE),
    (ModelNotUsable("x"), Exit.BAD_INPUT),
    (StoreDenied("x"), Exit.BAD_INPUT),
    (StoreFull("x"), Exit.INFRASTRUCTURE),
    (ArtifactCorrupt("x"), Exit.INFRASTRUCTURE),
    (OSError(errno.ENOSPC, "No space left on device"), Exit.INFRASTRUCTURE),
    (MemoryError(), Exit.MODEL),
    (ConnectionResetError(), Exit.INFRASTRUCTURE),
    (KeyboardInterrupt(), Exit.INTERRUPTED),
    (ZeroDivisionError(), Exit.BUG),
    (ExceptionGroup("g", [ZeroDivisionError(), ExceptionGroup("h", [EndpointRefused("x")])]), Exit.BAD_INPUT),
]


@pytest.mark.parametrize(("error", "code"), ENDS, ids=[type(error).__name__ for error, _ in ENDS])
def test_an_error_has_its_exit_code(error: BaseException, code: Exit) -> None:
    assert exit_of(error)[0] == code


def test_the_cause_in_a_group_is_the_error_whose_exit_it_has() -> None:
    group = ExceptionGroup("g", [ZeroDivisionError(), ExceptionGroup("h", [EndpointRefused("x")])])
    assert (cause_of(group), cause_of(StoreFull("x"))) == ("EndpointRefused", "StoreFull")


def stage_config(folder: Path) -> Path:
    """A prepare step whose task file is missing."""
    spec = {
        "student": {"model": "s"},
        "teacher": {"model": "t"},
        "tasks": {"train": {"uri": "none.jsonl"}, "eval": [{"name": "e", "uri": "also-none.jsonl"}]},
        "artifacts": {"uri": "store"},
    }
    work = folder / "work"
    work.mkdir()
    config = {"run": "r", "step": "prepare", "verb": "prepare", "spec": spec, "base": str(folder)}
    path = work / "stage.json"
    path.write_text(json.dumps(config | {"store": str(folder / "store"), "work": str(work)}))
    return path


def test_a_stage_that_fails_leaves_a_summary_and_its_code(tmp_path: Path) -> None:
    path = stage_config(tmp_path)
    result = CliRunner().invoke(app, ["stage", "prepare", "--config", str(path)])
    assert result.exit_code == Exit.BAD_INPUT
    summary = json.loads((path.parent / "summary.json").read_text())
    assert (summary["succeeded"], summary["reason"]) == (False, "BAD_INPUT")
    assert summary["cause"] == "DataNotUsable"
    assert "also-none.jsonl: no file" in summary["message"]


def test_a_stage_config_for_another_verb_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["stage", "rl", "--config", str(stage_config(tmp_path))])
    assert result.exit_code == Exit.BAD_INPUT
    assert "is for prepare, not for rl" in result.output


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifest of a run that was begun in ./runs/one and did nothing yet."""
    text = Path("examples/quickstart.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    manifest = yaml.safe_load(text)
    manifest["metadata"]["name"], manifest["spec"]["artifacts"] = "one", {"uri": "runs"}
    Path("one.yaml").write_text(yaml.safe_dump(manifest))
    run_paths(read(Path("one.yaml")), tmp_path, None, {}, detect()).remember()
    return tmp_path


@pytest.mark.parametrize("named", ["one.yaml", "runs/one", "one"])
def test_a_run_is_named_by_its_manifest_its_folder_or_its_name(begun: Path, named: str) -> None:
    result = CliRunner().invoke(app, ["status", named])
    assert result.exit_code == 0
    assert result.output.startswith(f"run one in {begun / 'runs' / 'one'}: not begun\n")
    refused = CliRunner().invoke(app, ["status", f"{named}-x"])
    assert (refused.exit_code, "no run was begun here" in refused.output) == (Exit.BAD_INPUT, True)


def test_the_runs_of_a_folder_are_listed(begun: Path) -> None:
    result = CliRunner().invoke(app, ["list"])
    assert (result.exit_code, len(result.output.splitlines())) == (0, 1)
    name, done, *_, folder = result.output.split()
    assert (name, done, folder) == ("one", "0/9", str(begun / "runs" / "one"))
    nowhere = CliRunner().invoke(app, ["list", "nowhere"])
    assert (nowhere.exit_code, "nowhere: no such folder" in nowhere.output) == (Exit.BAD_INPUT, True)


@pytest.mark.parametrize("arguments", [[], ["run"], ["status"], ["list"], ["stage"], ["fetch"], ["sandbox"]])
def test_help_has_its_short_form_everywhere(arguments: list[str]) -> None:
    short, long = (CliRunner().invoke(app, [*arguments, one]) for one in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)
    assert "Usage: " in short.output
