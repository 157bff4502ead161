"""A control that fails is a result with a reason; any other step that fails ends the run."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.integration.stages.conftest import RUN, ledger, write_spec

from score_distill.artifacts.folder import FolderStore
from score_distill.artifacts.steps import StepReader, StepWriter
from score_distill.contract import Served, StageConfig
from score_distill.errors import BadInput, ModelFailure
from score_distill.stages.context import StageContext
from score_distill.stages.entry import run_stage
from score_distill.stages.evaluate import Evaluation

METHOD: dict[str, Any] = {"control": "Imitation", "rl": {"controls": ["FullHorizon"]}}
STUDENT = Served(url="http://localhost/v1", model="student")
NOTHING = "mentoring left no task to reinforce"


class Folder:
    """A run in which mentoring left no task for RL."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, FolderStore(folder / "store")
        self.spec = write_spec(folder, ledger(4), ledger(2, "eval"), method=METHOD)
        self.commit("mentor", {"mentored.jsonl": []}, {})
        self.commit("rl", {}, {"rollout_tokens": 9})

    def commit(self, step: str, files: dict[str, list[Any]], counts: dict[str, int]) -> None:
        writer = StepWriter(self.store, RUN, step)
        for name, rows in files.items():
            writer.add_rows(name, rows)
        now = datetime.now(UTC)
        writer.commit(
            verb="mentor",
            inputs={},
            config_digest="0" * 64,
            counts=counts,
            summary={},
            started=now,
            finished=now,
            attempt=1,
            versions={},
        )

    def config(self, step: str, verb: str, *inputs: str, student: Served | None = STUDENT) -> StageConfig:
        work = self.folder / "work" / step
        work.mkdir(parents=True, exist_ok=True)
        places = {"base": str(self.folder), "store": str(self.folder / "store"), "work": str(work)}
        given = {"run": RUN, "step": step, "verb": verb, "spec": self.spec, "inputs": inputs, "student": student}
        return StageConfig.model_validate(given | places)


def test_a_control_that_fails_ends_with_its_reason_as_its_result(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    for _ in range(2):  # the second time it is told of, and not done again
        summary = run_stage(place.config("full-horizon", "rl", "mentor"), {})
        assert summary.succeeded and summary.digest
        assert summary.message.startswith(f"failed: {NOTHING}")
    said = StepReader(place.store, RUN, "full-horizon").manifest.summary["message"]
    assert str(said).startswith(f"failed: {NOTHING}")

    run_stage(place.config("imitate", "sft", "full-horizon"), {})
    manifest = StepReader(place.store, RUN, "imitate").manifest
    assert str(manifest.summary["problems"]).startswith(f"['full-horizon failed: {NOTHING}")
    frame = StageContext(place.config("evaluate", "evaluate", "full-horizon", "imitate"), place.store)
    assert Evaluation(frame).models == ["base", "init", "sft", "rl", "teacher"]


def test_a_control_that_is_given_up_ends_with_the_reason_and_does_nothing_else(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    config = place.config("full-horizon", "rl", "mentor").model_copy(update={"given_up": "its process was killed"})
    assert run_stage(config, {}).message == "failed: its process was killed"


def test_a_step_of_the_method_that_fails_is_no_result(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    place.store.delete(f"{RUN}/steps/rl/manifest.json")
    with pytest.raises(ModelFailure, match=NOTHING):
        run_stage(place.config("rl", "rl", "mentor"), {})
    assert not place.store.exists(f"{RUN}/steps/rl/manifest.json")


def test_what_its_user_can_mend_ends_a_control_as_any_other_step(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    with pytest.raises(BadInput, match="needs the student"):
        run_stage(place.config("full-horizon", "rl", "mentor", student=None), {})
    assert not place.store.exists(f"{RUN}/steps/full-horizon/manifest.json")
