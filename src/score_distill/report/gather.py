"""Reads what the steps of a run have left in the store into `Facts`, row by row.

A step is done when its manifest is there, begun when it has only left a journal. What is not done is missing from the
facts and named in them, so this works at any time; a run that was evaluated is finished, and steps that it never did
(RL switched off) are no part of it. Artifacts that are corrupt raise: a report on half of the rows would mislead.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from score_distill.agent.trajectory import Demonstration, Mentored, Scored
from score_distill.api import in_round, kind_of, round_of
from score_distill.artifacts.steps import Manifest, StepReader, completed_steps, journal_key
from score_distill.artifacts.store import Store
from score_distill.contract import CONTROLS, ON_POLICY
from score_distill.report.answer import answer, missing
from score_distill.report.curves import Downsampled
from score_distill.report.facts import (
    Control,
    Curves,
    DevScore,
    Dropped,
    Effort,
    Facts,
    Point,
    Problem,
    Run,
    StepFact,
    Usage,
)
from score_distill.report.mentoring import MentorFold
from score_distill.report.sanitize import one_line
from score_distill.report.scores import EvalFold
from score_distill.report.significance import proportion

STEPS = ("prepare", "demonstrate", "warmup", "mentor", "sft", "rl", *CONTROLS, "evaluate")
ROUND = ("mentor", "sft")  # steps that come again in each round
LEFT_OUT = ("dropped_", "lost_")
REASONS = 20
PROBLEMS = 50
LINE_CHARS = 300
NAME_CHARS = 60


def gather(store: Store, run: str) -> Facts:
    """Everything the report says of a run, from what its steps have committed so far."""
    found = completed_steps(store, run)
    begun = set(store.children(f"{run}/steps"))
    rounds = max(map(round_of, begun | found.keys()), default=1)
    later = {in_round(kind, number + 1) for number in range(1, rounds) for kind in ROUND}
    names = sorted({*STEPS, *later, *found}, key=place)
    done = {name: found[name] for name in names if name in found}
    readers = {step: StepReader(store, run, step) for step in done}
    evals = fold_scores(readers.values())
    mentoring = fold_mentored(readers)
    scores = tuple(score for one in evals for score in one.scores())
    comparisons = tuple(found for one in evals for found in one.comparisons())
    finished = "evaluate" in done
    controls = {CONTROLS[step] for step in CONTROLS if step in begun}
    expected = {*STEPS, *later} - {step for step, control in CONTROLS.items() if control not in controls}
    control = control_of(done)
    steps = tuple(
        done_step(done[name]) if name in done else open_step(store, run, name, begun=name in begun)
        for name in names
        if name in done or (name in expected and not finished)
    )
    return Facts(
        run=run_fact(run, done.values(), finished),
        answer=answer(scores, comparisons, steps, control),
        missing=missing(steps),
        scores=scores,
        comparisons=comparisons,
        control=control,
        steps=steps,
        tokens=summed(usage for step in steps for usage in step.usage),
        curves=Curves(
            warmup=curve(readers.get("warmup"), "step"),
            sft=curve(readers.get("sft"), "step"),
            rounds={step: curve(readers[step], "step") for step in students(done)[1:]},
            imitate=curve(readers.get("imitate"), "step"),
            rl=curve(readers.get("rl"), "update"),
            distil_on_policy=curve(readers.get(ON_POLICY), "update"),
            dev=dev_scores(readers.get("rl")),
        ),
        first_errors=dict(sorted(mentoring.first_errors.items())),
        corrections_per_task=mentoring.corrections_per_task(),
        accuracy_by_length=tuple(found for one in evals for found in one.by_length()),
        endings=tuple(found for one in evals for found in one.all_endings()),
        samples=mentoring.samples(),
        dropped=tuple(all_dropped(readers, mentoring)),
        leaks=mentoring.leaks(),
        states=mentoring.states(),
        problems=tuple(problem for name, manifest in done.items() for problem in problems(name, manifest)),
    )


def place(step: str) -> tuple[int, int, int, str]:
    """Where a step stands in the pipeline; one that is not of it comes after, by the alphabet."""
    kind = kind_of(step)
    at = STEPS.index(kind) if kind in STEPS else len(STEPS)
    return (STEPS.index(ROUND[0]) if kind in ROUND else at, round_of(step), at, step)


def students(done: Iterable[str]) -> list[str]:
    """The steps that left a student after corrections, in the order of the rounds."""
    return [step for step in done if kind_of(step) == "sft"]


def control_of(done: Mapping[str, Manifest]) -> Control | None:
    """What correction and imitation were made with; None while there is no control."""
    mentored = [manifest for step, manifest in done.items() if kind_of(step) == "mentor"]
    if not {"mentor", "sft", "more-demos", "imitate"} <= done.keys():
        return None
    used = summed(map(usage_of, entries(done["more-demos"], "usage")))
    spent = sum(one.prompt + one.completion for one in used if one.role == "teacher")
    lacking = next((one.text for one in problems("imitate", done["imitate"])), "")
    imitation = effort(done["imitate"], spent)
    return Control(
        correction=effort(done[students(done)[-1]], sum(one.counts.get("sft_teacher_tokens", 0) for one in mentored)),
        imitation=imitation,
        lacks="" if imitation.rows else lacking,
    )


def effort(trained: Manifest, teacher_tokens: int) -> Effort:
    steps, rows = (trained.counts.get(name, 0) for name in ("steps", "rows"))
    return Effort(teacher_tokens=teacher_tokens, steps=steps, rows=rows)


def run_fact(run: str, done: Iterable[Manifest], finished: bool) -> Run:
    done = list(done)
    started = min((one.started for one in done), default=None)
    ended = max((one.finished for one in done), default=None) if finished else None
    return Run(
        key=run,
        name=run.rsplit("/", 1)[-1],
        state="finished" if finished else "unfinished" if done else "not started",
        started=started,
        finished=ended,
        seconds=(ended - started).total_seconds() if started and ended else None,
    )


def open_step(store: Store, run: str, name: str, *, begun: bool) -> StepFact:
    outcomes = sum(1 for key in store.list(journal_key(run, name, "outcomes")) for _ in store.open_lines(key))
    message = f"{outcomes:,} tasks have an outcome so far" if outcomes else ""
    return StepFact(name=name, state="begun" if begun else "waiting", message=message)


def done_step(manifest: Manifest) -> StepFact:
    return StepFact(
        name=manifest.step,
        state="done",
        attempt=manifest.attempt,
        started=manifest.started,
        finished=manifest.finished,
        seconds=(manifest.finished - manifest.started).total_seconds(),
        counts={one_line(key, NAME_CHARS): count for key, count in manifest.counts.items()},
        message=one_line(str(manifest.summary.get("message", "")), LINE_CHARS),
        usage=summed(map(usage_of, entries(manifest, "usage"))),
    )


def entries(manifest: Manifest, name: str) -> list[JsonValue]:
    found = manifest.summary.get(name, [])
    return found if isinstance(found, list) else []


def usage_of(entry: JsonValue) -> Usage:
    known = entry if isinstance(entry, dict) else {}
    fields = {name: known[name] for name in Usage.model_fields if name in known}
    return Usage.model_validate(fields | {"purpose": one_line(str(known.get("purpose")), NAME_CHARS)})


def summed(usages: Iterable[Usage]) -> tuple[Usage, ...]:
    """One entry for each role and purpose, the teacher's first."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for one in usages:
        sums.setdefault((one.role, one.purpose), Counter()).update(one.model_dump(exclude={"role", "purpose"}))
    ordered = sorted(sums.items(), key=lambda item: (item[0][0] != "teacher", item[0][1]))
    return tuple(
        Usage.model_validate({"role": role, "purpose": purpose, **counts}) for (role, purpose), counts in ordered
    )


def fold_scores(readers: Iterable[StepReader]) -> list[EvalFold]:
    folds: dict[str, EvalFold] = {}
    for reader in readers:
        for row in rows(reader, "scored.jsonl"):
            scored = Scored.model_validate(row)
            folds.setdefault(scored.eval, EvalFold(scored.eval)).add(scored)
    return list(folds.values())


def fold_mentored(readers: Mapping[str, StepReader]) -> MentorFold:
    """Of all rounds together."""
    fold = MentorFold()
    for step, reader in readers.items():
        if kind_of(step) == "mentor":
            for row in rows(reader, "mentored.jsonl"):
                fold.add(Mentored.model_validate(row), step)
    return fold


def curve(reader: StepReader | None, position: str) -> tuple[Point, ...]:
    thinned = Downsampled(position)
    for row in rows(reader, "curve.jsonl"):
        thinned.add(row)
    return thinned.points()


def dev_scores(reader: StepReader | None) -> tuple[DevScore, ...]:
    kept = reader.manifest.counts.get("best_update") if reader else None
    found = ((row["update"], proportion(row["correct"], row["n"])) for row in rows(reader, "dev.jsonl"))
    return tuple(
        DevScore(update=update, score=one.share, low=one.low, high=one.high, n=one.n, kept=update == kept)
        for update, one in found
        if one
    )


def all_dropped(readers: Mapping[str, StepReader], mentoring: MentorFold) -> Iterator[Dropped]:
    """What each step left out and why: by its rows where it kept them, otherwise by its counts."""
    for step, reader in readers.items():
        reasons: Counter[str] = Counter()
        if step == "prepare":
            for row in rows(reader, "dropped.jsonl"):
                count_reason(reasons, " ".join(str(row[name]) for name in ("why", "against") if row.get(name)))
        elif step in ("demonstrate", "more-demos"):
            for row in rows(reader, "rejected.jsonl"):
                count_reason(reasons, why_rejected(Demonstration.model_validate(row)))
        elif kind_of(step) == "mentor":
            for note, count in mentoring.set_aside[step].items():
                count_reason(reasons, f"set aside: {note}" if note else "set aside", count)
        if not reasons:
            for name, count in reader.manifest.counts.items():
                if name.startswith(LEFT_OUT):
                    count_reason(reasons, name.removeprefix("dropped_").replace("_", " "), count)
        yield from (Dropped(step=step, why=why, count=count) for why, count in reasons.most_common() if count)


def count_reason(reasons: Counter[str], why: str, count: int = 1) -> None:
    """Reasons may be free text: after the first 20 they are counted together."""
    line = one_line(why, LINE_CHARS)
    reasons[line if line in reasons or len(reasons) < REASONS else "other reasons"] += count


def why_rejected(row: Demonstration) -> str:
    if row.trajectory.ending != "answered":
        return f"the teacher's attempt ended {row.trajectory.ending.replace('_', ' ')}"
    return (
        "nobody could judge the teacher's answer" if row.verdict.correct is None else "the teacher's answer was wrong"
    )


def problems(step: str, manifest: Manifest) -> Iterator[Problem]:
    found = entries(manifest, "problems")
    yield from (Problem(step=step, text=one_line(str(text), LINE_CHARS)) for text in found[:PROBLEMS])
    if len(found) > PROBLEMS:
        yield Problem(step=step, text=f"and {len(found) - PROBLEMS} more")


def rows(reader: StepReader | None, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a file that a step may not have written."""
    if reader is not None and name in reader.manifest.files:
        yield from reader.open_rows(name)
