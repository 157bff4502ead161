"""Which way of finding the first error finds it: `python -m science.localizers`, after `make quickstart`.

Attempts that end wrong, of two kinds: those of the quickstart's warmed-up student on held-out tasks, and perfect ones
with one error planted after which that student goes on. The truth is the generator's, and each way sees the attempt and
the teacher alone. Writes docs/science/localizers.md; takes minutes of one core.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from examples.ledger.data import load
from examples.ledger.family import Task, next_step
from examples.ledger.playing import Played, Player
from science.finished import finished
from scipy.stats import binomtest

TOP = Path(__file__).parent.parent
QUICKSTART, PLACE = TOP / "examples" / "quickstart.yaml", TOP / "docs" / "science" / "localizers.md"
EVAL, TEACHER = (TOP / "examples" / "ledger" / name for name in ("data/eval.jsonl", "models/teacher"))
TASKS, VOTES, TEMPERATURE = 600, 3, 0.6
NUMBER = re.compile(r"(?<== )\d+")


@dataclass(frozen=True)
class Found:
    """What a way says of one attempt: its first wrong step (from 0; None: every step is sound), and what that cost."""

    step: int | None
    turns: int  # that the teacher wrote


Way = Callable[[Player, Sequence[Played]], list[Found]]


def differs(played: Played, step: int, turn: str) -> bool:
    """Whether this turn in the place of that step has another effect."""
    ours, theirs = played.before(step + 1), played.before(step).then(turn)
    return (ours.observations[-1], ours.state) != (theirs.observations[-1], theirs.state)


def truth(played: Played) -> int | None:
    """The first wrong step by the generator's own knowledge."""
    seen = ("", *played.observations)
    question = played.task.question
    wrong = (k for k in range(len(played.turns)) if differs(played, k, next_step(question, seen[k])))
    return next(wrong, None)


def reenacted(teacher: Player, attempts: Sequence[Played]) -> list[Found]:
    """The first step that the teacher, greedy at the same prefix, would not have taken: ``localizer: Reenactment``."""
    return _first_outvoted(teacher, attempts, votes=1, temperature=0)


def voted(teacher: Player, attempts: Sequence[Played]) -> list[Found]:
    """The same with three sampled turns a prefix, of which two must have another effect."""
    return _first_outvoted(teacher, attempts, votes=VOTES, temperature=TEMPERATURE)


def continued(teacher: Player, attempts: Sequence[Played]) -> list[Found]:
    """The first step after which the teacher, going on greedily, ends wrong."""
    places = [(i, k) for i, one in enumerate(attempts) for k in range(len(one.turns))]
    ends = teacher.go_on([attempts[i].before(k + 1) for i, k in places])
    wrong, turns = [list[int]() for _ in attempts], [0] * len(attempts)
    for (i, k), end in zip(places, ends, strict=True):
        if not wrong[i]:
            turns[i] += len(end.turns) - k - 1
            if not end.solved:
                wrong[i].append(k)
    return [Found(next(iter(ks), None), count) for ks, count in zip(wrong, turns, strict=True)]


def _first_outvoted(teacher: Player, attempts: Sequence[Played], votes: int, temperature: float) -> list[Found]:
    places = [(i, k) for i, one in enumerate(attempts) for k in range(len(one.turns))]
    prefixes = [attempts[i].before(k) for i, k in places]
    against = [0] * len(places)
    for _ in range(votes):
        for at, turn in enumerate(teacher.next_turns(prefixes, temperature)):
            i, k = places[at]
            against[at] += differs(attempts[i], k, turn)
    wrong = [list[int]() for _ in attempts]
    for (i, k), count in zip(places, against, strict=True):
        if 2 * count > votes:
            wrong[i].append(k)
    return [
        Found(next(iter(ks), None), votes * (min(ks, default=len(one.turns) - 1) + 1))
        for ks, one in zip(wrong, attempts, strict=True)
    ]


WAYS: Mapping[str, Way] = {
    "re-enactment": reenacted,
    f"re-enactment, {VOTES} votes": voted,
    "continuation": continued,
}


def planted(student: Player, tasks: Sequence[Task], rng: random.Random) -> list[Played]:
    """Of each task that has a number to get wrong: its perfect steps, one with another number, and the student's on."""
    begun = []
    for task in tasks:
        perfect = Played(task)
        while perfect.state.answer is None:
            perfect = perfect.then(next_step(task.question, ("", *perfect.observations)[-1]))
        places = [k for k, turn in enumerate(perfect.turns) if NUMBER.search(turn)]
        if places:
            k = rng.choice(places)
            other = NUMBER.sub(lambda found: str(int(found[0]) + rng.randint(1, 9)), perfect.turns[k])
            begun.append(perfect.before(k).then(other))
    wrong: list[Played] = student.go_on(begun)
    return wrong


def row(kind: str, way: str, true: Sequence[int], found: Sequence[Found]) -> str:
    """One line of the table, with Wilson's 95 % interval of the share that is exact."""
    exact = sum(one.step == k for one, k in zip(found, true, strict=True))
    early = sum(one.step is not None and one.step < k for one, k in zip(found, true, strict=True))
    late = sum(one.step is not None and one.step > k for one, k in zip(found, true, strict=True))
    count = len(true)
    interval = binomtest(exact, count).proportion_ci(method="wilson")
    shares = [f"{100 * one / count:.1f}" for one in (early, late, count - exact - early - late)]
    figure = f"{100 * exact / count:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    turns = sum(one.turns for one in found) / count
    return f"| {kind} | {count} | {way} | {figure} | {' | '.join(shares)} | {turns:.1f} |\n"


HEAD = f"""# Which way of finding the first error finds it
Written by `python -m science.localizers` after `make quickstart`: attempts at the first {TASKS} held-out tasks of
the ledger that end wrong, the warmed-up student's own and perfect ones with one error planted, after which that
student goes on. The true first wrong step is known from the generator. "Re-enactment" is `localizer: Reenactment`
(the first step whose effect is not that of the teacher's greedy step at the same prefix); with votes, the first
that two of three sampled steps (temperature {TEMPERATURE}) differ from; "continuation" is the first step after
which the teacher, going on greedily, ends wrong. Shares in per cent with Wilson's 95 % interval; "turns" are those
that the teacher writes for one attempt.

| attempts | n | way | exact | too early | too late | none found | turns |
|---|---|---|---|---|---|---|---|
"""


def main() -> int:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with finished(QUICKSTART) as frame:
        teacher, student = Player.load(TEACHER), Player.load(frame.model("warmup"))
    held_out = load(EVAL)[:TASKS]
    kinds = {"the student's own": student.play(held_out), "planted": planted(student, held_out, random.Random(0))}
    told = HEAD
    for kind, played in kinds.items():
        known = [(one, k) for one in played if not one.solved and (k := truth(one)) is not None]
        attempts, true = [one for one, _ in known], [k for _, k in known]
        told += "".join(row(kind, name, true, way(teacher, attempts)) for name, way in WAYS.items())
    PLACE.write_text(told)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
