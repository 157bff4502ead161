"""What the teacher thinks of each token that the student sampled: its log-probability, on the student's own ids."""

from collections import Counter
from dataclasses import replace

from score_distill.agent.refusals import ContextOverflow, RequestRefused
from score_distill.stages.acting import RolloutContext
from score_distill.stages.rollouts import Group, Rollout
from score_distill.stages.together import together


async def scored(here: RolloutContext, found: Group) -> Group:
    """The group with the teacher's log-probabilities. A rollout that the teacher's server will not take is lost.

    They are raw, as the student's are at temperature 1; the teacher reads the student's conversation, not one in its
    own form.
    """
    caller = here.caller("teacher", found.item.task.id, "score", "")

    async def one(rollout: Rollout) -> Rollout:
        if rollout.lost:
            return rollout
        try:
            said = await caller.score(rollout.ids)
        except (ContextOverflow, RequestRefused):
            return replace(rollout, lost="unscored")
        pairs = zip(rollout.mask[1:], said.logprobs, strict=True)
        return replace(rollout, teacher=tuple(value for sampled, value in pairs if sampled))

    made = await together(map(one, found.made))
    unscored = sum(rollout.lost == "unscored" for rollout in made)
    return Group(found.item, tuple(made), found.lost + Counter(unscored=unscored))
