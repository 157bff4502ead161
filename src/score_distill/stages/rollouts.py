"""Groups of rollouts: G attempts forked from one world, each with its tokens, its reward and what the server said."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from score_distill.agent.chat import encode, trained
from score_distill.agent.codeact import Stand, StudentActor, act
from score_distill.agent.environment import Scope, World
from score_distill.agent.equality import same_step
from score_distill.agent.items import Item
from score_distill.agent.judge import Judge, JudgeFailed, judged, steps_equivalent
from score_distill.agent.rewards import Judged, KeyStep, reward
from score_distill.agent.seeds import seed_of
from score_distill.agent.trajectory import Step
from score_distill.stages.acting import Floor


@dataclass(frozen=True)
class Rollout:
    """One attempt from an item's prefix. ``mask`` marks the sampled tokens, ``logprobs`` has one for each of them."""

    ids: tuple[int, ...]
    mask: tuple[int, ...]
    logprobs: tuple[float, ...]
    reward: float
    judged: Judged


@dataclass(frozen=True)
class Group:
    """The rollouts of one item that could be rewarded, and what became of the others."""

    item: Item
    rollouts: tuple[Rollout, ...]
    lost: Counter[str]


async def roll_out(here: Floor, item: Item, seed: int, longest: int) -> Group:
    """G rollouts of an item; those longer than ``longest`` tokens are lost, never cut."""
    spec = here.frame.config.spec
    size = spec.method.rl.group_size
    actor = here.student_actor(item.task, spec.method.rl.sampling, logprobs=True)
    async with Scope() as scope:
        start = await reproduce(scope.hold(await here.world(item.task)), item.prefix, scope)
        if start is None:
            return Group(item, (), Counter(not_reproducible=size))
        made = await asyncio.gather(*(_one(here, item, start, actor, seed_of(seed, item.id, n)) for n in range(size)))
    lost: Counter[str] = Counter()
    kept = []
    for one in made:
        if one is None:
            lost["unjudged"] += 1
        elif not one.logprobs:
            lost["empty"] += 1
        elif len(one.ids) > longest:
            lost["too_long"] += 1
        else:
            kept.append(one)
    return Group(item, tuple(kept), lost)


async def reproduce(world: World, prefix: Sequence[Step], scope: Scope) -> World | None:
    """The world after a prefix, by running its code once; None when it does not print what it printed before."""
    for step in prefix:
        if step.code is None:
            continue
        effect = await world.run(step.code)
        if effect.world.snapshot is not world.snapshot:
            scope.hold(effect.world)
            await scope.release([world])
        if effect.observation != step.observation:
            return None
        world = effect.world
    return world


async def _one(here: Floor, item: Item, start: World, actor: StudentActor, seed: int) -> Rollout | None:
    spec = here.frame.config.spec
    caller = here.caller("student", item.task.id, "rl", "")
    begun = Stand(item.prefix, (start,))
    async with Scope() as scope:
        stand, _ = await act(begun, actor, caller, max_steps=spec.method.agent.max_steps, seed=seed, scope=scope)
    verdict = await judged(spec.tasks.train.metric, item.task, _answer(stand, item), here.judge(item.task, "verify"))
    new = stand.steps[len(item.prefix) :]
    answered, rl = _answer(stand, item) is not None, spec.method.rl
    counts = verdict.correct is False and (answered or not rl.require_final_for_key)
    outcome = Judged(
        answered=answered,
        correct=verdict.correct,
        key=await key_step(item, new[0], here.judge(item.task, "step") if counts else None) if new else "other",
    )
    value = reward(outcome, rl.rewards, require_final_for_key=rl.require_final_for_key)
    if value is None:
        return None
    if not new:
        return Rollout((), (), (), value, outcome)
    whole = trained(actor.chat, actor.opening, stand.steps)
    before = len(encode(actor.chat, actor.opening, item.prefix).ids)
    return Rollout(
        ids=whole.ids,
        mask=(*[0] * before, *whole.mask[before:]),
        logprobs=tuple(value for step in new for value in step.logprobs or ()),
        reward=value,
        judged=outcome,
    )


def _answer(stand: Stand, item: Item) -> str | None:
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
