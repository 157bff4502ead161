"""Mentored problem solving: the student acts, the teacher steps in only at the first wrong step.

act -> check the answer -> locate the first wrong step -> the teacher's one step in its place, executed in the state
before it -> the student goes on from there; until the answer is right or the corrections are spent (paper, section 3).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from score_distill.agent.codeact import Actor, AgentState, act, trajectory
from score_distill.agent.completer import Completer
from score_distill.agent.environment import EnvState, SnapshotPool
from score_distill.agent.equality import repeats
from score_distill.agent.localize import Localizer, Located, NothingWrong, SetAside
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Correction, Mentored, Step, Task, Trajectory, Verdict

Check = Callable[[Task, str | None], Awaitable[Verdict]]
Outcome = Literal["solved", "corrected", "unsolved", "unfinished", "set_aside"]


async def mentor(
    task: Task,
    split: Literal["sft", "rl"],
    world: EnvState,
    student: Actor,
    completer: Completer,
    localizer: Localizer,
    check: Check,
    *,
    max_steps: int,
    max_corrections: int,
    correct_unfinished: bool,
    seed: int,
) -> Mentored:
    """Mentor one task to its outcome; ``world`` is closed at the end.

    After a correction the student has ``max_steps`` again, the teacher's step counting as the first of them.
    """
    async with SnapshotPool() as scope:
        stand, ending = await act(
            AgentState((), (scope.hold(world),)),
            student,
            completer,
            max_steps=max_steps,
            seed=seed_of(seed, task.id, 0),
            scope=scope,
            keep=True,
        )
        corrections: list[Correction] = []
        attempts: list[Trajectory] = [trajectory(task.id, stand, ending)]
        leaks, sound = 0, 0

        def done(outcome: Outcome, note: str = "") -> Mentored:
            return Mentored(
                task=task,
                split=split,
                outcome=outcome,
                trajectory=attempts[-1],
                corrections=tuple(corrections),
                attempts=tuple(attempts[:-1]),
                leaks=leaks,
                note=note,
            )

        while True:
            verdict = await check(task, stand.steps[-1].answer if stand.steps else None)
            if verdict.correct is None:
                return done("set_aside", f"no verdict: {verdict.detail}")
            if verdict.correct:
                return done("corrected" if corrections else "solved")
            if ending == "refused":
                return done("set_aside", "the student's server refused the request")
            if ending != "answered" and not (correct_unfinished and stand.steps):
                return done("unfinished", ending)
            if len(corrections) == max_corrections:
                return done("unsolved", f"wrong after {max_corrections} corrections")
            try:
                found, leaked = await localizer.locate(task, stand, sound, scope)
            except SetAside as error:
                leaks += error.leaks
                return done("set_aside", str(error))
            leaks += leaked
            if isinstance(found, NothingWrong):
                return done("unsolved", "the localizer found every step sound")
            if _rejected_before(corrections, stand.steps, found):
                return done("set_aside", f"the correction of step {found.k} repeats what was rejected there")
            corrections = splice(corrections, stand.steps, found.k, found.corrected.steps[-1], found.advice)
            sound = found.k
            await scope.release(stand.worlds[found.k :], keep=found.corrected.worlds)
            stand, ending = await act(
                found.corrected,
                student,
                completer,
                max_steps=max_steps - 1,
                seed=seed_of(seed, task.id, len(corrections)),
                scope=scope,
                keep=True,
            )
            attempts.append(trajectory(task.id, stand, ending))


def _rejected_before(corrections: Sequence[Correction], steps: Sequence[Step], found: Located) -> bool:
    """Whether the chosen step repeats one that was rejected at its place, now or in an earlier correction."""
    chosen, prefix = found.corrected.steps[-1], tuple(steps[: found.k - 1])
    earlier = [one.rejected[0] for one in corrections if one.rejected and (one.k, one.prefix) == (found.k, prefix)]
    return any(repeats(chosen, rejected) for rejected in (steps[found.k - 1], *earlier))


def splice(
    corrections: Sequence[Correction], steps: Sequence[Step], k: int, chosen: Step, advice: str
) -> list[Correction]:
    """Add the correction of step ``k``; earlier ones at k or after it no longer stand in the trajectory.

    Their rejected student steps are kept with the new one, the student's step at k first (reference: student_mistake).
    """
    overwritten = [one for one in corrections if one.kept and one.k >= k]
    rejected = [steps[k - 1]] if steps[k - 1].author == "student" else []
    for one in sorted(overwritten, key=lambda each: each.k):
        rejected += one.rejected
    new = Correction(k=k, prefix=tuple(steps[: k - 1]), rejected=tuple(rejected), chosen=chosen, advice=advice)
    return [*(one.model_copy(update={"kept": one.kept and one.k < k}) for one in corrections), new]
