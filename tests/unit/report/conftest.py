"""A small made-up run of the ledger task, committed step by step through the real artifacts; seeded."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from score_distill.api import kind_of
from score_distill.artifacts.folder import FolderStore
from score_distill.artifacts.steps import StepWriter
from score_distill.artifacts.store import Store
from score_distill.report import Facts, gather

RUN = "runs/quickstart"
BEGIN = datetime(2026, 11, 22, 14, 3, tzinfo=UTC)
SECONDS = {"prepare": 2, "demonstrate": 21, "warmup": 34, "mentor": 148, "sft": 61, "rl": 242, "evaluate": 74}
CONTROL_SECONDS = {"full-horizon": 250, "distil-on-policy": 255, "more-demos": 130, "imitate": 60}
RATES = {"base": 0.21, "init": 0.28, "sft": 0.43, "rl": 0.435, "teacher": 0.97}
Rows = Sequence[Mapping[str, Any]]


def step(author: str, thought: str, code: str, observation: str, answer: str | None = None) -> dict[str, Any]:
    text = f"<thought>{thought}</thought><code>{code}</code>"
    made = {"author": author, "text": text, "thought": thought, "code": code, "observation": observation}
    return made | ({"answer": answer} if answer else {})


@dataclass
class MadeUpRun:
    """Commits the steps one by one, in the order of the pipeline; ``scale`` multiplies the tasks.

    With ``control``, the rate of a student that imitates, or 0 for none left by it, the run has a control.
    ``full_horizon`` and ``on_policy`` are the rates of the students of RL's controls, or 0 for one that failed.
    ``later`` are the rates of the students of later rounds of mentoring, such as sft-2.
    """

    store: Store
    scale: int = 1
    control: float | None = None
    full_horizon: float | None = None
    on_policy: float | None = None
    later: Mapping[str, float] = field(default_factory=dict)
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    clock: datetime = BEGIN

    def finish(self, until: str = "evaluate") -> None:
        for name in SECONDS:
            if name == "evaluate" and self.full_horizon is not None:
                self.reinforce_whole_tasks()
            if name == "evaluate" and self.on_policy is not None:
                self.distil_on_policy(self.on_policy)
            if name == "evaluate" and self.control is not None:
                self.more_demos()
                self.imitate()
            getattr(self, name)()
            for student in self.later if name == "sft" else ():
                self.mentor(student.replace("sft", "mentor"))
                self.sft(student)
            if name == until:
                break

    def commit(self, name: str, files: Mapping[str, Rows], counts: Mapping[str, int], **summary: Any) -> None:
        writer = StepWriter(self.store, RUN, name)
        for file, rows in files.items():
            writer.add_rows(file, rows)
        started, self.clock = self.clock, self.clock + timedelta(seconds=(SECONDS | CONTROL_SECONDS)[kind_of(name)])
        writer.commit(
            verb=name,
            inputs={},
            config_digest="0" * 64,
            counts=counts,
            summary=summary,
            started=started,
            finished=self.clock,
            attempt=2 if name == "mentor" else 1,
            versions={},
        )

    def prepare(self) -> None:
        dropped = [{"id": f"d{i}", "why": "13-gram of", "against": "ledger"} for i in range(9)]
        dropped += [{"id": "e", "why": "exact double of", "against": "train"}]
        self.commit("prepare", {"dropped.jsonl": dropped}, {"read": 510, "kept": 500, "dropped": 10, "cold_start": 100})

    def demonstrate(self) -> None:
        wrong = {"task": task(1), "trajectory": trajectory(1, 4), "verdict": {"correct": False, "by": "math"}}
        lost = {"task": task(2), "trajectory": trajectory(2, 8, "out_of_steps"), "verdict": wrong["verdict"]}
        self.commit(
            "demonstrate",
            {"rejected.jsonl": [wrong, wrong, lost]},
            {"accepted": 97, "rejected": 3},
            usage=[usage("teacher", "demonstrate", 612, 210)],
        )

    def warmup(self) -> None:
        self.commit("warmup", {"curve.jsonl": self.losses(60, 4.1, 0.9)}, {"rows": 97, "dropped_long": 0})

    def mentor(self, step: str = "mentor") -> None:
        rows = [self.mentored(i) for i in range(80 * self.scale)]
        self.commit(
            step,
            {"mentored.jsonl": rows},
            {"corrections": sum(len(row["corrections"]) for row in rows), "sft_teacher_tokens": 155_000},
            usage=[usage("teacher", "reenact", 1450, 190), usage("student", "act", 3100, 205)],
            problems=["2 of 400 tasks set aside: judge or repair stayed unusable"],
        )

    def sft(self, step: str = "sft") -> None:
        self.commit(step, {"curve.jsonl": self.losses(180, 1.4, 0.34)}, {"rows": 262, "dropped_long": 4, "steps": 180})

    def rl(self) -> None:
        curve = [self.update(i) for i in range(1, 81)]
        dev = [{"update": u, "correct": 80 + u // 4 - (u > 60) * 3, "n": 200} for u in range(0, 81, 10)]
        self.commit(
            "rl",
            {"curve.jsonl": curve, "dev.jsonl": dev},
            {"updates": 80, "best_update": 60, "lost_judge": 17},
            usage=[usage("student", "rollout", 24_000, 180), usage("teacher", "judge", 410, 600)],
        )

    def reinforce_whole_tasks(self) -> None:
        if self.full_horizon:
            self.commit("full-horizon", {}, {"updates": 40})
        else:
            why = "failed: torch.OutOfMemoryError: tried to allocate 2 GiB"
            self.commit("full-horizon", {}, {}, problems=[why], message=why, failed=True)

    def distil_on_policy(self, rate: float) -> None:
        if rate:
            curve = [{"update": i, "reverse_kl": 0.4 * 0.9**i} for i in range(20)]
            used = [usage("teacher", "score", 800, 300)]
            self.commit("distil-on-policy", {"curve.jsonl": curve}, {"updates": 20}, usage=used)
        else:
            why = "failed: the trainer diverged"
            self.commit("distil-on-policy", {}, {}, problems=[why], message=why, failed=True)

    def more_demos(self) -> None:
        wrong = {"task": task(1), "trajectory": trajectory(1, 4), "verdict": {"correct": False, "by": "math"}}
        counts = {"accepted": 640, "rejected": 2}
        used = [usage("teacher", "demonstrate", 700, 200)]
        self.commit("more-demos", {"rejected.jsonl": [wrong, wrong]}, counts, usage=used)

    def imitate(self) -> None:
        if self.control:
            self.commit("imitate", {"curve.jsonl": self.losses(180, 1.4, 0.5)}, {"rows": 640, "steps": 180})
        else:
            problems = ["no student by imitation alone: no row to train on"]
            self.commit("imitate", {}, {"rows": 0, "steps": 0}, problems=problems)

    def evaluate(self) -> None:
        self.commit(
            "evaluate",
            {"scored.jsonl": list(self.scored(200 * self.scale))},
            {"tasks": 1000 * self.scale, "unjudged": 1},
            usage=[usage("student", "evaluate", 5100, 190), usage("teacher", "evaluate", 1300, 210)],
        )

    def losses(self, steps: int, first: float, last: float) -> Rows:
        return [
            {"step": i, "loss": last + (first - last) * 0.95 ** (i * 100 / steps) * self.dice.uniform(0.85, 1.15)}
            for i in range(steps)
        ]

    def update(self, number: int) -> dict[str, float]:
        rate = 0.42 + 0.16 * (1 - 0.97**number) + self.dice.gauss(0, 0.03)
        return {
            "update": number,
            "reward": rate + 0.09,
            "final_rate": rate,
            "key_rate": min(1, rate + 0.21 + self.dice.gauss(0, 0.02)),
            "kl": 0.0004 * number * self.dice.uniform(0.7, 1.3),
            "entropy": 0.31 - 0.0009 * number + self.dice.gauss(0, 0.006),
            "importance": 1 + self.dice.gauss(0, 0.004),
            "staleness": self.dice.choice([0, 1, 1, 2]),
            "zero_variance": self.dice.uniform(0.25, 0.4),
        }

    def scored(self, tasks: int) -> Iterator[dict[str, Any]]:
        luck = {number: (self.dice.random(), self.dice.randint(5, 10)) for number in range(tasks)}
        controls = {
            "imitation": self.control or 0,
            "full-horizon": self.full_horizon or 0,
            "distil-on-policy": self.on_policy or 0,
        }
        for model, rate in {**RATES, **self.later, **{name: rate for name, rate in controls.items() if rate}}.items():
            for number, (hard, length) in luck.items():
                odds = rate ** (length / 7.5)
                right = 0.75 * hard + 0.25 * self.dice.random() < odds or self.dice.random() < 0.04 * odds
                lost = not right and self.dice.random() < 0.2
                yield {
                    "eval": "ledger",
                    "model": model,
                    "task": f"held-{number}",
                    "correct": None if model == "init" and number == 0 else right,
                    "by": "math",
                    "answer": None if lost else "42",
                    "reference": "42",
                    "steps": length if right else self.dice.randint(3, 12),
                    "ending": "out_of_steps" if lost else "answered",
                    "tokens": 25 * length,
                }

    def mentored(self, number: int) -> dict[str, Any]:
        made = self.dice.choices([0, 1, 2, 3, 4], [15, 40, 26, 12, 7])[0]
        corrections = [correction(self.dice.choice([1, 2, 2, 3, 3, 3, 4, 5, 6])) for _ in range(made)]
        outcome = "solved" if not made else "unsolved" if made == 4 else "corrected"
        if number % 40 == 17:
            outcome, corrections = "set_aside", []
        return {
            "task": task(number),
            "split": "sft" if number % 2 else "rl",
            "outcome": outcome,
            "trajectory": trajectory(number, 6),
            "corrections": corrections,
            "leaks": int(number % 30 == 3),
            "note": "the judge's reply was no JSON in 3 tries" if outcome == "set_aside" else "",
        }


def usage(role: str, purpose: str, calls: int, each: int) -> dict[str, Any]:
    prompt = calls * each
    return {
        "role": role,
        "purpose": purpose,
        "calls": calls,
        "prompt": prompt,
        "cached": prompt * 7 // 10,
        "completion": calls * 24,
    }


def task(number: int) -> dict[str, Any]:
    documents = ["Mia has 42 cups.", "Mia buys 32 coins.", "Ida gives Mia 9 cups.", "end."]
    question = "How many cups does Mia have at the end?"
    return {"id": f"train-{number:04d}", "question": question, "answer": "51", "documents": documents}


def trajectory(number: int, length: int, ending: str = "answered") -> dict[str, Any]:
    steps = [step("student", "read", "print(read())", "Mia has 42 cups.") for _ in range(length)]
    return {"task": f"train-{number:04d}", "steps": steps, "ending": ending}


def correction(k: int) -> dict[str, Any]:
    before = step("student", "Mia cups, Mia me cups yes: start", "x = 42\nprint(read())", "Mia buys 32 coins.")
    wrong = "x += 32\nprint(read())"
    return {
        "k": k,
        "prefix": [step("student", "read", "print(read())", "Mia has 42 cups."), *([before] * (k - 2))][: k - 1],
        "rejected": [step("student", "Mia cups, Mia me coins yes: gain", wrong, "Ida gives Mia 9 cups.")],
        "chosen": step("teacher", "Mia cups, Mia me coins not: skip", "print(read())", "Ida gives Mia 9 cups."),
        "advice": "The question asks for cups; the coins that Mia buys change nothing.",
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def made_up(store: Store) -> MadeUpRun:
    return MadeUpRun(store)


@pytest.fixture(scope="session")
def run_key() -> str:
    return RUN


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    store = FolderStore(tmp_path_factory.mktemp("finished"))
    MadeUpRun(store).finish()
    return gather(store, RUN)
