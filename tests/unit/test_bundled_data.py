"""What data the repository brings along: made by its own code, so under its own licence and of no real person."""

from pathlib import Path

import yaml
from examples.ledger.data import write

EXAMPLES = Path(__file__).parents[2] / "examples"
BY_HAND = EXAMPLES / "search"
BROUGHT_BY_USERS = EXAMPLES / "gsm8k" / "data"


def test_every_task_file_is_made_by_the_code_beside_it_or_by_hand(tmp_path: Path) -> None:
    write(tmp_path)
    made = {EXAMPLES / "ledger" / "data" / path.name: path.read_bytes() for path in tmp_path.iterdir()}
    found = {path for path in EXAMPLES.rglob("*.jsonl*") if not path.is_relative_to(BROUGHT_BY_USERS)}
    assert found == {*made, BY_HAND / "train.jsonl", BY_HAND / "eval.jsonl"}
    assert "written by hand for this repository" in (BY_HAND / "README.md").read_text("utf-8")
    assert all(path.read_bytes() == content for path, content in made.items())


def test_data_of_others_is_named_with_its_licence_and_not_brought_along() -> None:
    assert "github.com/openai/grade-school-math) (MIT)" in (EXAMPLES / "gsm8k" / "README.md").read_text("utf-8")
    assert "examples/gsm8k/data" in (EXAMPLES.parent / ".gitignore").read_text("utf-8")


def test_the_quickstart_of_a_cluster_has_the_method_of_the_one_on_one_machine() -> None:
    one, other = (
        yaml.safe_load((EXAMPLES / name).read_text())["spec"]
        for name in ("quickstart.yaml", "kubernetes/quickstart.yaml")
    )
    assert one["method"] == other["method"]
    assert one["tasks"]["train"]["limit"] == other["tasks"]["train"]["limit"]
