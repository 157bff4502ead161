"""Measures the ledger's models.

    python -m examples.ledger.measure MODEL [--limit 1000] [--part]

The share of held-out tasks that a model answers right, with its 95 % Wilson interval; `--part` takes
tasks of the student's part of the family instead.
"""

import argparse
import random
from itertools import islice
from pathlib import Path

import torch
from examples.ledger.data import load
from examples.ledger.family import STUDENT_PART, tasks
from examples.ledger.playing import Player
from scipy.stats import binomtest

EVAL = Path("examples/ledger/data/eval.jsonl")


def share(successes: int, trials: int) -> str:
    """A percentage with its 95 % Wilson interval."""
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return f"{successes / trials:.1%} [{interval.low:.1%}, {interval.high:.1%}] n={trials}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--part", action="store_true")
    parser.add_argument("--tasks", type=Path, default=EVAL)
    parser.add_argument("--limit", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held_out = load(arguments.tasks)[: arguments.limit]
    if arguments.part:
        held_out = list(islice(tasks(random.Random("part"), "eval", STUDENT_PART), arguments.limit))
    played = Player.load(arguments.model).play(held_out)
    print(f"solved {share(sum(p.solved for p in played), len(played))}")


if __name__ == "__main__":
    main()
