"""Groups of rollouts: G attempts forked from one world, each with its tokens, its reward and what the server said."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from score_distill.agent.chat import encode, trained
from score_distill.agent.codeact import AgentState, StudentActor, act
from score_distill.agent.environment import EnvState, SnapshotPool
from score_distill.agent.equality import same_step
from score_distill.agent.judge import Judge, JudgeFailed, judged, steps_equivalent
from score_distill.agent.rewards import Judged, KeyStep, reward
from score_distill.agent.rl_starts import Item
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Step
from score_distill.stages.acting import RolloutContext
from score_distill.stages.together import together


@dataclass(frozen=True)
class Rollout:
    """One attempt from an item's prefix. ``mask`` marks the sampled tokens, ``logprobs`` has one for each of them.

    ``drawn`` is the number of updates in the weights that its first token is of; a later one may be of newer weights.
    ``lost`` says why nothing is learnt from it, where that is so. ``teacher`` has the teacher's log-probability of each
    sampled token, where it was asked.
    """

    seed: int
    drawn: int
    steps: tuple[Step, ...]
    ids: tuple[int, ...]
    mask: tuple[int, ...]
    logprobs: tuple[float, ...]
    reward: float
    judged: Judged
    lost: str = ""
    teacher: tuple[float, ...] = ()

    def row(self) -> dict[str, Any]:
        """What is kept of it; its tokens are those of the steps' text."""
        steps = [step.model_dump(mode="json", exclude={"tokens", "logprobs"}) for step in self.steps]
        told = {"correct": self.judged.correct, "key": self.judged.key, "reward": None if self.lost else self.reward}
        return {"seed": self.seed, "drawn": self.drawn, **told, "lost": self.lost, "steps": steps}


@dataclass(frozen=True)
class Group:
    """The rollouts of one item; ``lost`` counts those, made or not, that nothing is learnt from, by reason."""

    item: Item
    made: tuple[Rollout, ...]
    lost: Counter[str]

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        return tuple(one for one in self.made if not one.lost)


def group(item: Item, made: Sequence[Rollout]) -> Group:
    return Group(item, tuple(made), Counter(one.lost for one in made if one.lost))


async def roll_out(
    here: RolloutContext,
    item: Item,
    seed: int,
    longest: int,
    updates: Callable[[], int] = lambda: 0,
    *,
    rewarded: bool = True,
) -> Group:
    """G rollouts of an item; those longer than ``longest`` tokens are lost, never cut.

    ``updates`` says how many are in the weights that the server computes with now. What is not ``rewarded`` is
    judged by rules alone, and not lost where they cannot.
    """
    spec = here.frame.config.spec
    size = spec.method.rl.group_size
    actor = here.student_actor(item.task, spec.method.rl.sampling, logprobs=True)

    async def one(start: EnvState, n: int) -> Rollout:
        return await _one(here, item, start, actor, seed_of(seed, item.id, n), longest, updates(), rewarded)

    async with SnapshotPool() as scope:
        start = await reproduce(scope.hold(await here.world(item.task)), item.prefix, scope)
        if start is None:
            return Group(item, (), Counter(not_reproducible=size))
        return group(item, await together(one(start, n) for n in range(size)))


async def reproduce(world: EnvState, prefix: Sequence[Step], scope: SnapshotPool) -> EnvState | None:
    """The world after a prefix, by running its code once; None when it does not print what it printed before."""
    for step in prefix:
        if step.code is None:
            continue
        effect = await world.run(step.code, keep=False)
        world = scope.replace(world, effect.world)
        if effect.observation != step.observation:
            return None
    return world


async def _one(
    here: RolloutContext,
    item: Item,
    start: EnvState,
    actor: StudentActor,
    seed: int,
    longest: int,
    drawn: int,
    rewarded: bool,
) -> Rollout:
    spec = here.frame.config.spec
    caller = here.caller("student", item.task.id, "rl", "")
    begun = AgentState(item.prefix, (start,))
    async with SnapshotPool() as scope:
        steps = spec.method.agent.max_steps
        stand, ending = await act(begun, actor, caller, max_steps=steps, seed=seed, scope=scope, compared=1)
    judge = here.judge(item.task, "verify") if rewarded else None
    verdict = await judged(spec.tasks.train.metric, item.task, _answer(stand, item), judge)
    new = stand.steps[len(item.prefix) :]
    answered, rl = _answer(stand, item) is not None, spec.method.rl
    counts = verdict.correct is False and (answered or not rl.require_final_for_key)
    outcome = Judged(
        answered=answered,
        correct=verdict.correct,
        key=await key_step(item, new[0], here.judge(item.task, "step") if counts else None) if new else "other",
    )
    value = reward(outcome, rl.rewards, require_final_for_key=rl.require_final_for_key)
    whole = trained(actor.chat, actor.opening, stand.steps)
    before = len(encode(actor.chat, actor.opening, item.prefix).ids)
    logprobs = tuple(value for step in new for value in step.logprobs or ())
    return Rollout(
        seed=seed,
        drawn=drawn,
        steps=new,
        ids=whole.ids,
        mask=(*[0] * before, *whole.mask[before:]),
        logprobs=logprobs,
        reward=value or 0.0,
        judged=outcome,
        lost="refused" if ending == "refused" else _lost(value, rewarded, len(logprobs), len(whole.ids) > longest),
    )


def _lost(value: float | None, rewarded: bool, sampled: int, too_long: bool) -> str:
    if value is None and rewarded:
        return "unjudged"
    if not sampled:
        return "empty"
    return "too_long" if too_long else ""


def _answer(stand: AgentState, item: Item) -> str | None:
    return stand.steps[-1].answer if len(stand.steps) > len(item.prefix) else None


async def key_step(item: Item, first: Step, judge: Judge | None) -> KeyStep | None:
    """How the first step after the prefix relates to the correction; None when nobody could say."""
    if item.chosen is None:
        return "none"
    if first.answer is not None:
        return "final"
    corrections: tuple[tuple[KeyStep, Step | None], ...] = (("chosen", item.chosen), ("rejected", item.rejected))
    compared = [(name, other, same_step(first, other)) for name, other in corrections if other is not None]
    for name, _, same in compared:
        if same:
            return name
    unsure = [(name, other) for name, other, same in compared if same is None]
    if unsure and judge is None:
        return None
    try:
        for name, other in unsure:
            if judge is not None and await steps_equivalent(item.task, item.prefix, first, other, judge):
                return name
    except JudgeFailed:
        return None
    return "other"
