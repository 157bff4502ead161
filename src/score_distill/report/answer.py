"""The outcome of a run in one sentence, and what it has not produced so far. Pure; made from facts already counted."""

from collections.abc import Sequence

from score_distill.report.facts import Comparison, Score, StepFact
from score_distill.report.scores import TEACHER
from score_distill.report.wording import percent

WITHOUT = {
    "prepare": "no tasks have been read",
    "demonstrate": "no demonstrations",
    "warmup": "no warmed-up student (init)",
    "mentor": "no corrections",
    "sft": "no student after corrections (sft)",
    "rl": "no student after reinforcement (rl)",
    "evaluate": "no scores",
}


def answer(scores: Sequence[Score], comparisons: Sequence[Comparison], steps: Sequence[StepFact]) -> str:
    """How far the student came on the first eval set, and whether that is more than chance."""
    if not scores:
        done = sum(one.state == "done" for one in steps)
        return f"{done} of {len(steps)} steps are done; no model has been evaluated yet."
    name = scores[0].eval
    judged = {one.model: one for one in scores if one.eval == name and one.score is not None}
    students = [model for model in judged if model != TEACHER]
    if not students:
        return f"No student has been scored on {name} yet."
    first, last = judged[students[0]], judged[students[-1]]
    if first is last:
        return f"{percent(last.score)} of {last.n:,} {name} tasks are solved by {last.model}{beside(judged)}."
    found = next((c for c in comparisons if (c.eval, c.new, c.old) == (name, last.model, first.model)), None)
    there = f"{percent(last.score)} ({last.model}) of {last.n:,} {name} tasks"
    start = f"from {percent(first.score)} ({first.model}) to {there}"
    if found is None or found.ruling == "unclear":
        return f"The student went {start}, which cannot be told from chance{beside(judged)}."
    verb = "rose" if found.ruling == "better" else "fell"
    return f"The student {verb} {start}{beside(judged)}."


def beside(judged: dict[str, Score]) -> str:
    return f"; the teacher stands at {percent(judged[TEACHER].score)}" if TEACHER in judged else ""


def missing(steps: Sequence[StepFact]) -> tuple[str, ...]:
    """One line for each step that has no result."""
    return tuple(f"{one.name} has not finished: {WITHOUT[one.name]}" for one in steps if one.state != "done")
