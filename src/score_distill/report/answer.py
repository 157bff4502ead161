"""The outcome of a run in a sentence or two, and what it has not produced. Pure; made from facts already counted."""

from collections.abc import Sequence

from score_distill.api import kind_of, round_of
from score_distill.report.facts import Comparison, Control, Score, StepFact
from score_distill.report.scores import ASIDE, IMITATION, REINFORCED, TEACHER, corrected_of
from score_distill.report.wording import percent, tokens

EQUAL = 0.1  # teacher tokens of the two sides of a control may differ by this share without a word
WITHOUT = {
    "prepare": "no tasks have been read",
    "demonstrate": "no demonstrations",
    "warmup": "no warmed-up student (init)",
    "mentor": "no corrections",
    "sft": "no student after corrections (sft)",
    "rl": "no student after reinforcement (rl)",
    "full-horizon": "no student by reinforcement of whole tasks (full-horizon) to compare with",
    "distil-on-policy": "no student by on-policy distillation (distil-on-policy) to compare with",
    "more-demos": "no demonstrations for the control",
    "imitate": "no student by imitation alone (imitation) to compare with",
    "evaluate": "no scores",
}

# Of each control of RL: what is asked of rl beside it, and what its ruling against rl says.
ASKED = {
    "full-horizon": ("the verified prefixes paid", "the verified prefixes did not pay, whole tasks did better"),
    "distil-on-policy": (
        "corrections and rewards beat on-policy distillation",
        "on-policy distillation did better than corrections and rewards",
    ),
}


def answer(
    scores: Sequence[Score],
    comparisons: Sequence[Comparison],
    steps: Sequence[StepFact],
    control: Control | None = None,
) -> str:
    """How far the student came on the first eval set, whether that is more than chance, and whether correction paid."""
    came = way(scores, comparisons, steps)
    if not scores:
        return came
    told = [paid(scores, comparisons, control)] if control else []
    told += [
        reinforced_better(scores, comparisons, one, steps) for one in steps if one.name in ASKED if one.state == "done"
    ]
    return " ".join((came, *told))


def paid(scores: Sequence[Score], comparisons: Sequence[Comparison], control: Control) -> str:
    """Correction against its control on the first eval set."""
    name = scores[0].eval
    share = {one.model: percent(one.score) for one in scores if one.eval == name}
    corrected = corrected_of(share)
    found = next((c for c in comparisons if (c.eval, c.new, c.old) == (name, corrected, IMITATION)), None)
    if found is None:
        return f"Whether correction paid is not known: {control.lacks or 'the two were not scored on the same tasks'}."
    there = f"{share[found.new]} ({found.new}) against {share[IMITATION]} ({IMITATION})"
    match found.ruling:
        case "better":
            return f"Correction paid: {there}."
        case "worse":
            return f"Correction did not pay, plain imitation did better: {there}."
        case _:
            return f"Whether correction paid cannot be told from chance: {there}."


def reinforced_better(
    scores: Sequence[Score], comparisons: Sequence[Comparison], control: StepFact, steps: Sequence[StepFact]
) -> str:
    """Reinforcement from verified prefixes against one of its controls, on the first eval set."""
    better, worse = ASKED[control.name]
    name = scores[0].eval
    share = {one.model: percent(one.score) for one in scores if one.eval == name}
    found = next((c for c in comparisons if (c.eval, c.new, c.old) == (name, REINFORCED, control.name)), None)
    if found is None:
        why = control.message or "the two were not scored on the same tasks"
        return f"Whether {better} is not known: {why}."
    if {REINFORCED, control.name} <= {one.name for one in steps if one.counts.get("best_update") == 0}:
        return f"Whether {better} is not known: both steps left the SFT student unchanged ({share[found.new]})."
    there = f"{share[found.new]} ({found.new}) against {share[found.old]} ({found.old})"
    match found.ruling:
        case "better":
            return f"{_sentence(better)}: {there}."
        case "worse":
            return f"{_sentence(worse)}: {there}."
        case _:
            return f"Whether {better} cannot be told from chance: {there}."


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def costs(control: Control) -> str:
    """How equal the two sides of the control were."""
    one, other = control.correction, control.imitation
    more = other.teacher_tokens / one.teacher_tokens - 1 if one.teacher_tokens else 0.0
    favoured = "imitation" if more > 0 else "correction"
    unequal = f" {favoured.capitalize()} is favoured by {abs(more):.0%} of the tokens." if abs(more) > EQUAL else ""
    return (
        f"Control: correction cost {tokens(one.teacher_tokens)} teacher tokens and {one.steps:,} optimizer steps on "
        f"{one.rows:,} rows, imitation {tokens(other.teacher_tokens)}, {other.steps:,} and {other.rows:,}.{unequal}"
    )


def way(scores: Sequence[Score], comparisons: Sequence[Comparison], steps: Sequence[StepFact]) -> str:
    if not scores:
        done = sum(one.state == "done" for one in steps)
        return f"{done} of {len(steps)} steps are done; no model has been evaluated yet."
    name = scores[0].eval
    judged = {one.model: one for one in scores if one.eval == name and one.score is not None}
    students = [model for model in judged if model not in ASIDE]
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


def without(step: str) -> str:
    number = round_of(step)
    return WITHOUT[kind_of(step)] + (f" in round {number}" if number > 1 else "")


def missing(steps: Sequence[StepFact]) -> tuple[str, ...]:
    """One line for each step that has no result."""
    return tuple(f"{one.name} has not finished: {without(one.name)}" for one in steps if one.state != "done")
