"""Measures the ledger's models.

    python -m examples.ledger.measure solve MODEL [--limit 1000] [--part]
    python -m examples.ledger.measure localise TEACHER STUDENT [--limit 1000]

`solve`: the share of held-out tasks that a model answers right, with its 95 % Wilson interval;
`--part` takes tasks of the student's part of the family instead. `localise`: on the student's
failures, how often re-enactment by the teacher (its own next step at every prefix, executed;
the first that has another effect than the student's is the error) finds the true earliest error,
and how often its step there has the right effect. The truth comes from the generator.
"""

import argparse
import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from examples.ledger.data import load
from examples.ledger.family import STUDENT_PART, next_step, tasks
from examples.ledger.playing import Played, Player
from scipy.stats import binomtest

EVAL = Path("examples/ledger/data/eval.jsonl")


def share(successes: int, trials: int) -> str:
    """A percentage with its 95 % Wilson interval."""
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return f"{successes / trials:.1%} [{interval.low:.1%}, {interval.high:.1%}] n={trials}"


@dataclass(frozen=True)
class Located:
    """The first step (from 0) where a reference acts to another effect, and the reference's turn."""

    step: int
    turn: str


def first_difference(played: Played, turns: list[str]) -> Located | None:
    """Compares a trajectory with a reference's own turn at each of its prefixes, by executed effect."""
    for step, turn in enumerate(turns):
        ours, theirs = played.before(step + 1), played.before(step).then(turn)
        if (ours.observations[-1], ours.state) != (theirs.observations[-1], theirs.state):
            return Located(step, turn)
    return None


def truth(played: Played) -> Located | None:
    """The earliest error of a trajectory by the generator's own knowledge."""
    seen = ("", *played.observations)
    return first_difference(played, [next_step(played.task.question, seen[k]) for k in range(len(played.turns))])


def localise(teacher: Player, failures: list[Played]) -> tuple[int, int]:
    """How many earliest errors re-enactment finds exactly, and with a correction of the right effect."""
    prefixes = [(i, p.before(k)) for i, p in enumerate(failures) for k in range(len(p.turns))]
    turns: dict[int, list[str]] = {i: [] for i in range(len(failures))}
    for (i, _), turn in zip(prefixes, teacher.next_turns([prefix for _, prefix in prefixes]), strict=True):
        turns[i].append(turn)
    exact = right = 0
    for i, played in enumerate(failures):
        true, found = truth(played), first_difference(played, turns[i])
        if true is None or found is None or true.step != found.step:
            continue
        exact += 1
        before = played.before(found.step)
        right += before.then(found.turn).states == before.then(true.turn).states
    return exact, right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    solving, localising = commands.add_parser("solve"), commands.add_parser("localise")
    solving.add_argument("model", type=Path)
    solving.add_argument("--part", action="store_true")
    localising.add_argument("teacher", type=Path)
    localising.add_argument("student", type=Path)
    for command in (solving, localising):
        command.add_argument("--tasks", type=Path, default=EVAL)
        command.add_argument("--limit", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held_out = load(arguments.tasks)[: arguments.limit]
    if arguments.command == "solve":
        if arguments.part:
            held_out = list(islice(tasks(random.Random("part"), "eval", STUDENT_PART), arguments.limit))
        played = Player.load(arguments.model).play(held_out)
        print(f"solved {share(sum(p.solved for p in played), len(played))}")
    else:
        failures = [p for p in Player.load(arguments.student).play(held_out) if not p.solved]
        exact, right = localise(Player.load(arguments.teacher), failures)
        print(f"earliest error found {share(exact, len(failures))}")
        print(f"found and corrected {share(right, len(failures))}")


if __name__ == "__main__":
    main()
