"""The real runner, its servers and its leash, with fake stages: order, retries, resume, signals, kill -9, secrets."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from score_distill.executors.local import processes

ALL = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]


class Bench:
    """A manifest in a folder of its own, and the runner as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "behaviour").mkdir()
        self.environ = dict(os.environ)
        self.write()

    def write(self, **spec: Any) -> None:
        manifest = {
            "apiVersion": "distill.score.dev/v1alpha1",
            "kind": "DistillationRun",
            "metadata": {"name": "one"},
            "spec": {
                "student": {"model": "student"},
                "teacher": {"model": "teacher"},
                "tasks": {"train": {"uri": "train.jsonl"}, "eval": [{"name": "test", "uri": "test.jsonl"}]},
                "artifacts": {"uri": "."},
            }
            | spec,
        }
        (self.folder / "run.yaml").write_text(yaml.safe_dump(manifest))

    def behave(self, step: str, *lines: str) -> None:
        (self.folder / "behaviour" / step).write_text("\n".join(lines))

    def begin(self) -> "subprocess.Popen[str]":
        command = [sys.executable, str(Path(__file__).with_name("fake_run.py")), str(self.folder / "run.yaml")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environ)

    def run(self) -> tuple[int, str]:
        process = self.begin()
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def ask(self, *words: object) -> list[str]:
        command = [sys.executable, "-m", "score_distill.cli", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    def starts(self) -> list[str]:
        path = self.folder / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def left_alive(self) -> list[int]:
        return processes.writers(self.folder / "one" / "logs")

    def hang(self, step: str) -> "subprocess.Popen[str]":
        """A run that has come to ``step`` and hangs there."""
        self.behave(step, "hang")
        process = self.begin()
        until((self.folder / "hanging").exists)
        return process


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    processes.sweep(tmp_path / "one" / "logs")


def test_every_step_runs_once_in_order_and_nothing_runs_again(bench: Bench) -> None:
    code, output = bench.run()
    assert (code, bench.starts()) == (0, [f"{step} 1" for step in ALL]), output
    assert bench.left_alive() == []
    lines = output.splitlines()
    assert "server student: ready" in lines
    assert any(line.startswith("rl          done, in ") for line in lines)
    assert bench.run()[0] == 0
    assert len(bench.starts()) == len(ALL)


def test_a_control_runs_its_steps_before_the_evaluation(bench: Bench) -> None:
    bench.write(method={"control": "Imitation"}, resources={"rollout": {"parallelism": 2}})
    code, output = bench.run()
    names = list(dict.fromkeys(line.split()[0] for line in bench.starts()))
    assert (code, names) == (0, [*ALL[:-1], "more-demos", "imitate", "evaluate"]), output
    workers = (bench.folder / "workers").read_text().splitlines()
    assert {"more-demos 0 of 2", "more-demos 1 of 2", "imitate None of 1"} <= set(workers)


def test_steps_that_act_run_as_many_workers_as_the_manifest_says_each_with_a_log_of_its_own(bench: Bench) -> None:
    bench.write(resources={"rollout": {"parallelism": 2}})
    code, output = bench.run()
    assert code == 0, output
    acting = ("demonstrate", "mentor", "evaluate")
    started = [f"{step} {worker} of 2" for step in acting for worker in (0, 1)]
    alone = [f"{step} None of 1" for step in ALL if step not in acting]
    assert sorted((bench.folder / "workers").read_text().splitlines()) == sorted([*started, *alone])
    for step in acting:
        assert (bench.folder / f"one/logs/{step}.log").read_text() == "worker 0\n"
        assert (bench.folder / f"one/logs/{step}.1.log").read_text() == "worker 1\n"
    assert bench.left_alive() == []


def test_servers_start_at_once_and_end_with_the_last_step_that_needs_them(bench: Bench) -> None:
    bench.write(method={"evaluation": {"models": ["base", "sft"]}})
    bench.behave("evaluate", "hang")
    process = bench.hang("prepare")
    until(lambda: len(list((bench.folder / "one/logs").glob("*.log"))) == 4)
    (bench.folder / "hanging").unlink()
    os.kill(pid_of(bench, "prepare"), signal.SIGKILL)
    until((bench.folder / "hanging").exists)
    view = json.loads((bench.folder / "one/work/view.json").read_text())
    assert view["servers"] == {"teacher": "stopped", "student": "ready", "sandbox": "ready"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130


def pid_of(bench: Bench, name: str) -> int:
    """The process of a step or server itself, below its guard."""
    for pid in processes.writers(bench.folder / "one" / "logs" / f"{name}.log"):
        if b"process_supervisor.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError(f"no process for {name}")


def test_what_a_retry_may_help_is_tried_again(bench: Bench) -> None:
    bench.behave("mentor", "exit 3", "kill")
    code, output = bench.run()
    assert code == 0, output
    assert [line for line in bench.starts() if "mentor" in line] == ["mentor 1", "mentor 2", "mentor 3"]


@pytest.mark.parametrize("exit_code", [2, 4, 7])
def test_what_a_retry_cannot_help_ends_the_run_with_its_code(bench: Bench, exit_code: int) -> None:
    bench.behave("prepare", f"exit {exit_code}")
    code, output = bench.run()
    assert code == exit_code
    assert f"error: step prepare: asked to end with {exit_code}" in output
    assert bench.starts() == ["prepare 1"]
    assert bench.left_alive() == []


def test_a_step_that_gets_no_further_is_given_up(bench: Bench) -> None:
    bench.behave("prepare", *["stuck"] * 9)
    code, output = bench.run()
    assert code == 3
    assert "6 tries in a row got no further" in output
    assert bench.starts()[-1] == "prepare 6"


def test_a_control_that_gets_no_further_is_given_up_and_the_run_goes_on(bench: Bench) -> None:
    bench.write(method={"rl": {"controls": ["FullHorizon"]}})
    bench.behave("full-horizon", *["stuck"] * 6)
    code, output = bench.run()
    assert code == 0, output
    assert bench.starts()[-2:] == ["full-horizon 7", "evaluate 1"]
    assert (bench.folder / "given_up").read_text().startswith("full-horizon: its process ended with exit code 3")


def test_a_step_that_fails_for_no_known_reason_shows_the_end_of_its_log(bench: Bench) -> None:
    bench.behave("prepare", "exit 1")
    code, output = bench.run()
    assert code == 1
    assert "its process ended with exit code 1; the end of" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_and_the_same_command_goes_on(bench: Bench, number: int) -> None:
    process = bench.hang("mentor")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; the same command goes on" in output
    assert bench.left_alive() == []
    assert bench.run()[0] == 0
    assert bench.starts()[3:5] == ["mentor 1", "mentor 2"]


def test_kill_9_of_the_runner_takes_everything_and_the_same_command_goes_on(bench: Bench) -> None:
    process = bench.hang("mentor")
    assert len(bench.left_alive()) == 8, "a guard and its child for each of three servers and the stage"
    process.kill()
    process.wait()
    until(lambda: bench.left_alive() == [])
    assert bench.run()[0] == 0
    assert bench.starts()[3:5] == ["mentor 1", "mentor 2"]


@pytest.mark.parametrize("name", ["mentor", "teacher", "student", "sandbox"])
def test_kill_9_of_a_stage_or_server_is_healed(bench: Bench, name: str) -> None:
    process = bench.hang("mentor")
    os.kill(pid_of(bench, name), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert bench.starts()[3:5] == ["mentor 1", "mentor 2"]
    assert bench.left_alive() == []


def test_a_second_runner_is_turned_away(bench: Bench) -> None:
    process = bench.hang("prepare")
    code, output = bench.run()
    assert code == 5
    assert f"process {process.pid}" in output
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_a_changed_manifest_is_refused_with_the_fields_that_changed(bench: Bench) -> None:
    bench.behave("demonstrate", "exit 4", "exit 4")
    assert bench.run()[0] == 4
    bench.write(seed=5, budget={"teacherTokens": "5M"}, resources={"rollout": {"concurrency": 2}})
    code, output = bench.run()
    assert code == 6
    assert output.splitlines()[-1].strip() == "spec.seed: 0, now 5"
    bench.write(budget={"teacherTokens": "5M"}, resources={"rollout": {"concurrency": 2}})
    assert bench.run()[0] == 4
    assert bench.starts() == ["prepare 1", "demonstrate 1", "demonstrate 2"]


def test_a_spent_budget_stops_before_the_next_step_and_a_larger_one_goes_on(bench: Bench) -> None:
    usage = {"role": "teacher", "purpose": "x", "calls": 1, "prompt": 40, "cached": 0, "completion": 20}
    bench.environ["FAKE_USAGE"] = json.dumps([usage])
    bench.write(budget={"teacherTokens": 100})
    code, output = bench.run()
    assert code == 7
    assert "spec.budget.teacherTokens: 100; 180 are spent before step mentor" in output
    bench.write(budget={"teacherTokens": 1000})
    assert bench.run()[0] == 0


def test_the_teachers_key_is_in_no_log_artifact_or_argument(bench: Bench) -> None:
    bench.environ["TEACHER_API_KEY"] = secret = "sk-very-secret-4711"
    key = {"name": "teacher", "key": "api-key"}
    bench.write(teacher={"endpoint": {"url": "http://127.0.0.1:9/v1", "model": "m", "apiKeySecret": key}})
    process = bench.hang("demonstrate")
    arguments = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in bench.left_alive())
    key_file = bench.folder / "one/work/keys/endpoint"
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert key_file.read_text() == secret
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert secret.encode() not in arguments
    assert not key_file.exists()
    for path in bench.folder.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_status_and_plan_tell_of_a_run_while_it_goes_and_after_it_was_killed(bench: Bench) -> None:
    process = bench.hang("mentor")
    during = bench.ask("status", bench.folder / "one")
    process.kill()
    process.wait()
    until(lambda: bench.left_alive() == [])
    after = bench.ask("status", bench.folder / "one")
    assert f"running (process {process.pid})" in during[0]
    assert during[1].startswith("prepare     done, in 0.")
    assert during[4].startswith("mentor      running, 1/9 things (11 %)")
    assert during[5].split() == ["sft", "waiting"]
    assert "server student: ready" in during
    assert "not running; score-distill run goes on" in after[0]
    assert after[4].startswith("mentor      interrupted, 1/9 things (11 %)")
    states = [line.split()[:2] for line in bench.ask("plan", bench.folder / "run.yaml")[1:8]]
    assert states == [[name, "done"] for name in ALL[:3]] + [["mentor", "ready"]] + [
        [name, "waiting"] for name in ALL[4:]
    ]
