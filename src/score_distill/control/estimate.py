"""How many tokens a step will cost, before it is paid: pure arithmetic on the manifest, with its basis in words.

A step that has run is not estimated. Until a step that asks the same role has run, an attempt is taken to be
``TYPICAL``; after that, what was measured a task takes its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from score_distill.api import PromptStyle, Spec, round_of
from score_distill.contract import CONTROLS, ON_POLICY
from score_distill.control.pipeline import Step


@dataclass(frozen=True)
class Tokens:
    """Prompt and completion tokens together, prompt tokens that a server has cached included."""

    teacher: int = 0
    student: int = 0
    basis: str = "asks no model"


@dataclass(frozen=True)
class Typical:
    """Shares of the manifest's bounds that an attempt is taken to use, and the size of what it begins with."""

    steps: float = 0.6
    step_tokens: float = 0.25
    observation: float = 0.1
    instructions: int = 400
    question: int = 50
    corrections: float = 1.5


TYPICAL = Typical()


@dataclass(frozen=True)
class Tasks:
    """How many tasks each part of a run has."""

    cold_start: int
    dev: int
    mentor: int
    evaluation: int


def tasks_of(spec: Spec, train: int, evaluation: int) -> Tasks:
    """The parts of ``train`` tasks by the shares of the manifest; the real split, by hash, differs a little."""
    split = spec.method.split
    cold_start, dev = round(train * split.cold_start), round(train * split.dev)
    return Tasks(cold_start, dev, train - cold_start - dev, evaluation)


def attempt_tokens(spec: Spec, prompt: PromptStyle, measured: float | None) -> int:
    """Tokens of one attempt at a task; every step sends all that came before."""
    if measured is not None:
        return round(measured)
    return round(sum(_sent(spec, prompt)))


def conversation_tokens(spec: Spec, prompt: PromptStyle) -> int:
    """Tokens of an attempt as one text, as it is trained on."""
    return round(_sent(spec, prompt)[-1])


def _sent(spec: Spec, prompt: PromptStyle) -> list[float]:
    """Tokens read and written at each step of an attempt."""
    agent = spec.method.agent
    steps = max(1, round(agent.max_steps * TYPICAL.steps))
    turn = agent.step_tokens * TYPICAL.step_tokens
    observation = agent.observation_chars / 4 * TYPICAL.observation
    opening = TYPICAL.question + (TYPICAL.instructions if prompt == "Instructions" else 0)
    return [opening + n * (turn + observation) + turn for n in range(steps)]


def estimate(step: Step, spec: Spec, tasks: Tasks, measured: Mapping[str, float]) -> Tokens:
    """What ``step`` will cost. ``measured`` has the tokens of an attempt by role, where a step has shown them."""
    method = spec.method
    student = attempt_tokens(spec, spec.student.prompt, measured.get("student"))
    teacher = attempt_tokens(spec, spec.teacher.prompt, measured.get("teacher"))
    known = {role: "measured" if role in measured else "assumed" for role in ("student", "teacher")}
    match step.verb:
        case "demonstrate" if step.name in CONTROLS:
            half = round(method.split.sft * tasks.mentor * _fixes(spec) * _localize(spec, teacher))
            return Tokens(teacher=half, basis="as many tokens as the corrections of the SFT half")
        case "demonstrate":
            return Tokens(
                teacher=tasks.cold_start * teacher,
                basis=f"{tasks.cold_start} tasks x {teacher} tokens an attempt ({known['teacher']}), "
                f"up to {method.demonstrate.attempts} attempts",
            )
        case "mentor":
            fixes = _fixes(spec)
            localize = _localize(spec, teacher)
            mentored = round(tasks.mentor * sum(shares_of_round(spec, round_of(step.name))))
            return Tokens(
                teacher=round(mentored * fixes * localize),
                student=round(mentored * (1 + fixes / 2) * student),
                basis=f"{mentored} tasks x {fixes:g} corrections (assumed) x {localize} teacher tokens, "
                f"{student} tokens a student attempt ({known['student']})",
            )
        case "rl":
            rl = method.rl
            rollouts = rl.updates * rl.groups_per_update * rl.group_size
            horizon = rl.full_horizon + (1 - rl.full_horizon) / 2
            looks = rl.updates // rl.dev_every * min(rl.dev_tasks, tasks.dev)
            read = conversation_tokens(spec, spec.student.prompt) if step.name == ON_POLICY else 0
            return Tokens(
                teacher=round(rollouts * horizon * read),
                student=round((rollouts * horizon + looks) * student),
                basis=f"{rl.updates} updates x {rl.groups_per_update} groups x {rl.group_size} rollouts of "
                f"{horizon:.2f} attempts (prefixes in the middle, assumed), {looks} dev attempts, "
                f"{student} tokens an attempt ({known['student']}); what a judge is asked is not in it"
                + f"; the teacher reads each attempt once, {read} tokens"
                * (read > 0),
            )
        case "evaluate":
            models = method.evaluated
            students = sum(one != "teacher" for one in models)
            return Tokens(
                teacher=tasks.evaluation * teacher * ("teacher" in models),
                student=tasks.evaluation * student * students,
                basis=f"{tasks.evaluation} tasks x {len(models)} models, tokens an attempt: "
                f"teacher {teacher} ({known['teacher']}), student {student} ({known['student']})",
            )
        case _:
            return Tokens()


def _fixes(spec: Spec) -> float:
    return min(TYPICAL.corrections, spec.method.correction.max_corrections)


def _localize(spec: Spec, attempt: int) -> int:
    """Teacher tokens of one correction."""
    return attempt if spec.method.correction.localizer == "Reenactment" else attempt // 2


def shares_of_round(spec: Spec, number: int) -> tuple[float, float]:
    """Of the mentored tasks, what a round mentors for SFT, and for RL."""
    method = spec.method
    return method.split.sft / method.rounds, (1 - method.split.sft) * (number == method.rounds)
