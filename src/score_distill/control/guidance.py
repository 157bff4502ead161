"""What a plan can warn of before anything is paid: too little training, too few dev tasks, groups that teach nothing.

Pure arithmetic on the manifest, on the sizes of the parts, and on what finished steps counted. Each warning says what
it reckons with and what would be right. What is not known yet is taken in
the run's favour: every demonstration right, every mentored task corrected.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from math import ceil, sqrt
from statistics import NormalDist

from score_distill.api import Spec, Training, in_round
from score_distill.control.estimate import Tasks, conversation_tokens, shares_of_round
from score_distill.control.plan import Done

STEPS = 200  # optimizer steps below which a small student has hardly learned to act
ROUND = 50  # tasks that a round of mentoring should have for SFT
GAIN = 0.05  # of the dev tasks: what RL is expected to add
DISCORDANT = 3.0  # tasks that two students do differently, for each of the gain
SIGNIFICANCE, POWER = 0.95, 0.8  # one-sided, as RL tests its looks


def guidance(spec: Spec, tasks: Tasks, done: Mapping[str, Done]) -> tuple[str, ...]:
    """Warnings about steps that are not done."""
    found = (
        *few_steps(spec, tasks, done),
        *few_tasks_a_round(spec, tasks),
        *few_dev_tasks(spec, tasks),
        *groups_alike(spec, done),
    )
    return tuple(text for step, text in found if step not in done)


def few_steps(spec: Spec, tasks: Tasks, done: Mapping[str, Done]) -> Iterator[tuple[str, str]]:
    """Steps of supervised training in which the optimizer acts too seldom."""
    method = spec.method
    demonstrated = done["demonstrate"].counts.get("accepted", 0) if "demonstrate" in done else tasks.cold_start
    replayed = demonstrated if method.sft.replay_demonstrations else 0
    corrected = accumulate(rows_of_round(spec, tasks, done, number + 1) for number in range(method.rounds))
    for step, rows, field, training in (
        ("warmup", demonstrated, "warmup", method.warmup),
        *(
            (student, round(rows) + replayed, "sft", method.sft)
            for student, rows in zip(method.students, corrected, strict=True)
        ),
    ):
        tokens = rows * conversation_tokens(spec, spec.student.prompt)
        steps = optimizer_steps(tokens, training)
        if steps < STEPS:
            right = max(training.pack_tokens, tokens * training.epochs // STEPS)
            batch = f"lower spec.method.{field}.batchTokens to about {right:,}, "
            cure = batch if right < training.batch_tokens else ""
            yield (
                step,
                f"{step} will make about {steps:,} optimizer steps at most ({rows:,} rows of "
                f"{tokens // max(1, rows):,} tokens, assumed, {training.epochs} times over, "
                f"{training.batch_tokens:,} tokens a step); fewer than {STEPS} teach little: "
                f"{cure}raise its epochs, or give more tasks",
            )


def rows_of_round(spec: Spec, tasks: Tasks, done: Mapping[str, Done], number: int) -> float:
    """What the mentoring of one round adds to the rows of SFT."""
    method, mentor = spec.method, in_round("mentor", number)
    mine, others = shares_of_round(spec, number)
    if mentor not in done:
        return tasks.mentor * mine
    counts = done[mentor].counts
    usable = counts.get("corrected", 0) + method.sft.keep_solved * counts.get("solved", 0)
    return usable * mine / (mine + others)


def few_tasks_a_round(spec: Spec, tasks: Tasks) -> Iterator[tuple[str, str]]:
    """Rounds of mentoring that divide the tasks until a round has too few to teach anything of its own."""
    method = spec.method
    each = round(tasks.mentor * method.split.sft / method.rounds)
    if method.rounds > 1 and each < ROUND:
        fewer = max(1, int(tasks.mentor * method.split.sft / ROUND))
        yield (
            in_round("mentor", method.rounds),
            f"each of {method.rounds} rounds mentors about {each:,} tasks for SFT; fewer than {ROUND} show little of "
            f"what the student of the round before does wrong: lower spec.method.rounds to {fewer}, or give more tasks",
        )


def optimizer_steps(tokens: int, training: Training) -> int:
    """Of all epochs over rows of so many tokens, perfectly packed."""
    packs = max(1, training.batch_tokens // training.pack_tokens)
    return training.epochs * ceil(tokens / (packs * training.pack_tokens))


def few_dev_tasks(spec: Spec, tasks: Tasks) -> Iterator[tuple[str, str]]:
    """Dev tasks so few that RL would mostly keep the earlier student, though the later one is better."""
    rl = spec.method.rl
    looked, needed = min(rl.dev_tasks, tasks.dev), dev_tasks_needed(GAIN)
    if rl.enabled and looked < needed:
        which = "raise spec.method.rl.devTasks" if tasks.dev >= needed else "raise spec.method.split.dev"
        yield (
            "rl",
            f"rl keeps a later student by {looked:,} dev tasks: too few to tell a gain of {100 * GAIN:g} points from "
            f"chance in four of five runs; about {needed:,} would be needed ({which})",
        )


def dev_tasks_needed(gain: float) -> int:
    """Tasks with which a one-sided McNemar test finds a true gain (Connor, Biometrics 43, 1987)."""
    differ = DISCORDANT * gain
    level, power = (NormalDist().inv_cdf(share) for share in (SIGNIFICANCE, POWER))
    return ceil(((level * sqrt(differ) + power * sqrt(differ - gain**2)) / gain) ** 2)


def groups_alike(spec: Spec, done: Mapping[str, Done]) -> Iterator[tuple[str, str]]:
    """Groups of rollouts that would mostly end all right or all wrong, by what the student solved alone in mentor."""
    rl = spec.method.rl
    mentor = in_round("mentor", spec.method.rounds)
    counts = done[mentor].counts if mentor in done else {}
    judged = sum(counts.get(name, 0) for name in ("solved", "corrected", "unsolved", "unfinished"))
    if not (rl.enabled and judged):
        return
    rate = counts.get("solved", 0) / judged
    alike = share_alike(rate, rl.group_size)
    if alike > 0.5:
        cure = "raise spec.method.rl.groupSize" if rate < 0.5 else "give harder tasks"
        yield (
            "rl",
            f"rl: the student solved {rate:.0%} of the mentored tasks alone; of groups of {rl.group_size} "
            f"rollouts from the start of a task about {alike:.0%} would all end alike and teach "
            f"nothing by their answers ({cure})",
        )


def share_alike(rate: float, size: int) -> float:
    """How many groups are all right or all wrong when each rollout is right at this rate."""
    return float(rate**size + (1 - rate) ** size)
