"""Writes and reads the ledger's task files.

    python -m examples.ledger.data examples/ledger/data [--facts 3 8]

makes `train.jsonl` and `eval.jsonl`; tasks of the two, and those that the models are pretrained
on, are disjoint by the hash of the task id. The same seed gives the same files. `--facts`: the
fewest and the most facts of a task.
"""

import argparse
import json
import random
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from examples.ledger.family import FACTS, WHOLE, Split, Task, tasks

SIZES: dict[Split, int] = {"train": 1300, "eval": 2000}
SEED = 0


def write(folder: Path, facts: tuple[int, int] = FACTS) -> None:
    """Writes one JSONL file a split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in SIZES.items():
        rows = islice(tasks(random.Random(f"{split} {SEED}"), split, WHOLE, facts), size)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(asdict(task)) + "\n" for task in rows))


def load(path: Path) -> list[Task]:
    """The tasks of a file."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Task(row["id"], row["question"], row["answer"], tuple(row["documents"])) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--facts", type=int, nargs=2, default=FACTS, metavar=("FEWEST", "MOST"))
    arguments = parser.parse_args()
    write(arguments.folder, tuple(arguments.facts))


if __name__ == "__main__":
    main()
