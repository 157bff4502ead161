"""The cells of `make science` are manifests that a run accepts, and its table says what their results say."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from science.cells import DIALS, HORIZON, SEEDS, TAUGHT, cells, data, manifest_of
from science.plots import draw
from science.results import interval, result, table
from science.starts import CHANGES, Group
from science.starts import table as table_of_starts

from score_distill import manifest

TOP = Path(__file__).parents[2]
BASE = yaml.safe_load((TOP / "science" / "base.yaml").read_text())


def test_each_cell_is_a_manifest_of_its_own_with_the_ledgers_files(tmp_path: Path) -> None:
    found = list(cells(BASE))
    assert len(found) == len(SEEDS) * sum(map(len, DIALS.values())) == len({cell.name for cell in found})
    for cell in found:
        file = TOP / "docs" / "science" / "manifests" / f"{cell.name}.yaml"
        copy = tmp_path / file.name
        copy.write_text(yaml.safe_dump(dict(cell.manifest)))
        run = manifest.read(copy)
        assert (run.metadata.name, run.spec.seed, run.spec.method.control) == (cell.name, cell.seed, "Imitation")
        files = data(int(cell.value)) if cell.dial in (HORIZON, TAUGHT) else Path("examples/ledger/data")
        assert (file.parent / run.spec.tasks.train.uri).resolve() == TOP / files / "train.jsonl"


def report(imitation: float, sft: float) -> dict[str, Any]:
    scores = {"init": 0.3, "imitation": imitation, "sft": 0.4, "sft-2": sft}
    return {
        "run": {"seconds": 61.2},
        "control": {
            "correction": {"teacher_tokens": 90, "steps": 800, "rows": 4},
            "imitation": {"teacher_tokens": 88, "steps": 800, "rows": 3},
            "lacks": "",
        },
        "scores": [{"model": model, "score": score, "n": 1000} for model, score in scores.items()],
    }


def test_a_row_has_the_last_rounds_student_and_what_each_way_cost_over_the_seeds() -> None:
    found = [result("rounds", "two", 0, report(0.7, 0.74)), result("rounds", "two", 1, report(0.72, 0.8))]
    row = table(found).splitlines()[-1]
    assert row.startswith("| rounds | two | 2 | 30.0 [30.0, 30.0] | 71.0 [58.3, 83.7] | 77.0 [38.9, 115.1] | +6.0 [")
    assert row.endswith("| 88 and 90 | 800 and 800 |")


def test_a_cell_without_its_control_is_named_and_counts_in_no_row() -> None:
    failed = report(0.7, 0.74)
    del failed["scores"][1]
    failed["control"]["lacks"] = "failed: out of memory"
    told = table([result("rounds", "two", 0, report(0.7, 0.74)), result("rounds", "two", 3, failed)])
    assert "| rounds | two | 1 |" in told
    assert told.endswith("Not counted: rounds, two, seed 3: failed: out of memory\n")


def test_each_dial_with_results_has_a_drawing_that_is_the_same_every_time(tmp_path: Path) -> None:
    dial, (weak, strong, *_) = HORIZON, DIALS[HORIZON]
    found = [result(dial, value, seed, report(0.5, 0.6)) for value in (weak, strong) for seed in (0, 1)]
    draws = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        assert draw(found, folder) == "\n![steps of a task](steps-of-a-task.svg)\n"
        draws.append({file.name: file.read_text() for file in folder.iterdir()})
    assert draws[0] == draws[1]
    assert list(draws[0]) == ["steps-of-a-task.svg"]
    assert all(word in draws[0]["steps-of-a-task.svg"] for word in ("imitation", "correction", f">{weak}<"))


@pytest.mark.parametrize(("values", "words"), [([74.0], "74.0"), ([1.0, 3.0, 5.0], "3.0 [-2.0, 8.0]")])
def test_an_interval_needs_two_seeds(values: list[float], words: str) -> None:
    assert interval(values) == words


def test_the_run_that_compares_starts_is_accepted_and_draws_once_from_the_sft_student(tmp_path: Path) -> None:
    file = tmp_path / "starts.yaml"
    file.write_text(yaml.safe_dump(manifest_of(BASE, "starts", CHANGES)))
    rl = manifest.read(file).spec.method.rl
    assert (rl.enabled, rl.updates, rl.corrections) == (True, 1, "all")


def test_starts_are_compared_by_their_groups_of_rollouts() -> None:
    groups = [
        Group(0, 20.0, (True, False), (1.0, 0.0), noise=4.0, signal=0.4),
        Group(12, 8.0, (True, False), (1.0, 0.5), noise=1.0, signal=0.2),
        Group(15, 6.0, (False, False), (0.5, 0.0)),
    ]
    whole, late = table_of_starts(groups).splitlines()[-2:]
    assert whole == "| nothing: the whole task | 1 | 20.0 | 50 | 0 | 0 | 0.250 | 0.250 | 1.00 | 0.100 |"
    assert late == "| 11-15 steps | 2 | 7.0 | 25 | 50 | 0 | 0.125 | 0.062 | 0.25 | 0.200 |"
