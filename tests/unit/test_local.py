"""The pure parts of running here: what vLLM is told, where a key is, how a run is shown."""

from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from score_distill import machine, secret_keys
from score_distill.api import SecretKey, Serving
from score_distill.contract import Progress
from score_distill.errors import BadInput
from score_distill.executors.local import keys
from score_distill.executors.local.display import Lines, table
from score_distill.executors.local.view import StepView, View, line
from score_distill.machine import Machine
from score_distill.serving import vllm

CPU, GPU = Machine(cores=2, memory_gib=24, gpus=0), Machine(cores=64, memory_gib=512, gpus=8)
SECRET = SecretKey(name="my-teacher", key="api.key")


def test_vllm_is_told_what_the_manifest_says_and_no_key() -> None:
    serving = Serving(dtype="float32", context_length=512, args=("--max-num-seqs", "8"))
    words = vllm.command(Path("/m"), "student", serving, 8123, CPU)
    pairs = dict(pairwise(words))
    assert (pairs["--model"], pairs["--served-model-name"], pairs["--host"]) == ("/m", "student", "127.0.0.1")
    assert (pairs["--dtype"], pairs["--max-model-len"], pairs["--port"]) == ("float32", "512", "8123")
    assert pairs["--logprobs-mode"] == "processed_logprobs"
    assert pairs["--generation-config"] == "vllm"
    assert "--enforce-eager" in words
    assert words[-2:] == ["--max-num-seqs", "8"]
    assert not any("key" in word for word in words)


def test_a_gpu_gets_graphs_and_no_settings_for_cpu() -> None:
    assert "--enforce-eager" not in vllm.command(Path("/m"), "t", Serving(), 1, GPU)
    assert "VLLM_CPU_KVCACHE_SPACE" not in vllm.environ({}, GPU, Path("/h"), managed=False)


def test_only_the_student_can_be_managed_and_no_server_gets_the_users_secrets() -> None:
    given = {"AWS_SECRET_ACCESS_KEY": "a", "HF_TOKEN": "b", "PATH": "/bin", "HOME": "/root"}
    found = vllm.environ(given, CPU, Path("/h"), managed=True)
    assert found["VLLM_SERVER_DEV_MODE"] == "1"
    assert vllm.environ(given, CPU, Path("/h"), managed=False)["VLLM_SERVER_DEV_MODE"] == "0"
    assert (found["HOME"], found["PATH"]) == ("/h", "/bin")
    assert not {"AWS_SECRET_ACCESS_KEY", "HF_TOKEN"} & found.keys()


def test_the_users_word_on_the_cache_counts() -> None:
    assert vllm.environ({}, CPU, Path("/h"), managed=False)["VLLM_CPU_KVCACHE_SPACE"] == "1"
    given = {"VLLM_CPU_KVCACHE_SPACE": "6"}
    assert vllm.environ(given, CPU, Path("/h"), managed=False)["VLLM_CPU_KVCACHE_SPACE"] == "6"


def test_few_cores_mean_one_thread_a_process_unless_the_user_says_otherwise() -> None:
    assert machine.environment({}, CPU)["OMP_NUM_THREADS"] == "1"
    assert machine.environment({"OMP_NUM_THREADS": "2"}, CPU)["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in machine.environment({}, GPU)


def test_who_runs_a_models_code_knows_nothing_of_the_user() -> None:
    given = {"PATH": "/bin", "HOME": "/root", "TEACHER_API_KEY": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    assert machine.bare_environment(given) == {"PATH": "/bin", "PYTHONUNBUFFERED": "1"}


def test_a_key_is_a_file_first_and_a_variable_second(tmp_path: Path) -> None:
    environ = {"SCORE_SECRETS": str(tmp_path), "MY_TEACHER_API_KEY": "from variable"}
    assert secret_keys.find(SECRET, environ) == "from variable"
    (tmp_path / "my-teacher").mkdir()
    (tmp_path / "my-teacher" / "api.key").write_text("from file\n")
    assert secret_keys.find(SECRET, environ) == "from file"


@pytest.mark.parametrize("environ", [{}, {"MY_TEACHER_API_KEY": " "}])
def test_a_missing_key_says_where_it_was_looked_for(environ: dict[str, str]) -> None:
    with pytest.raises(BadInput, match=r"my-teacher, key api\.key: not found; give it as variable MY_TEACHER_API_KEY"):
        secret_keys.find(SECRET, environ)


def test_a_kept_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = keys.keep(tmp_path / "a" / "key", "old")
    assert keys.keep(path, "new").read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_stores_secret_gives_its_variables(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "AWS_ACCESS_KEY_ID").write_text("id\n")
    (tmp_path / "s3" / "AWS_REGION").write_text("north")
    environ = {"SCORE_SECRETS": str(tmp_path), "AWS_REGION": "south"}
    found = keys.store_environ("s3", environ)
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_REGION"]) == ("id", "south")
    assert keys.store_environ(None, environ) == environ


def running(done: int, *, first: int = 0, total: int | None = 400) -> StepView:
    progress = Progress(done=done, total=total, unit="tasks", message="fine")
    return StepView(name="mentor", state="running", attempt=1, began=100.0, first=first, progress=progress)


def test_the_pace_counts_from_where_the_attempt_began() -> None:
    assert running(120, first=100).pace(110.0) == (2.0, 140.0)
    assert running(100, first=100).pace(110.0) == (None, None)
    assert running(120, total=None).pace(110.0) == (12.0, None)


def test_a_step_in_one_line() -> None:
    told = line(running(120, first=100), 110.0)
    assert told == "mentor      running, 120/400 tasks (30 %), 2 tasks/s, 2 min 20 s left, fine"


def test_plain_lines_come_with_changes_and_else_every_ten_seconds_or_percent() -> None:
    told: list[str] = []
    lines = Lines(told.append)
    for now, done in [(0, 0), (1, 1), (2, 30), (3, 45), (4, 46), (13, 46), (14, 47), (15, 48)]:
        lines.show(View(run="r", pid=1, began=0, steps=[running(done)]), float(now))
    amounts = [one.split(", ")[1] for one in told]
    assert amounts == ["0/400 tasks (0 %)", "45/400 tasks (11 %)", "46/400 tasks (12 %)"]


def test_plain_lines_tell_each_state_of_step_and_server_once() -> None:
    told: list[str] = []
    lines = Lines(told.append)
    for state in ("waiting", "waiting", "done", "done"):
        step = StepView.model_validate({"name": "sft", "state": state})
        lines.show(View(run="r", pid=1, began=0, steps=[step], servers={"student": "ready"}), 0.0)
    assert told == ["server student: ready", "sft         done"]


def test_a_terminal_shows_every_step_with_its_pace_and_obeys_no_markup() -> None:
    mentor = running(120, first=100).model_copy(update={"note": "[red]x[/]"})
    view = View(run="r", pid=1, began=0, steps=[mentor, StepView(name="sft")], servers={"student": "ready"})
    screen = StringIO()
    Console(file=screen, width=160).print(table(view, 110.0))
    rows = [row.split() for row in screen.getvalue().splitlines()]
    assert rows[0][:2] == ["mentor", "running"]
    assert rows[0][3:] == ["120/400", "tasks", "2/s", "2", "min", "20", "s", "left", "[red]x[/]"]
    assert rows[1] == ["sft", "waiting"]
    assert rows[2] == ["servers", "student", "ready"]
