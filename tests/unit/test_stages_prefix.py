"""A group of rollouts starts where its prefix led before: its code is run once, and nothing else is taken for it."""

from tests.unit.interpreter import ADD, PLAN, READ, SUM, FakeActor, FakeCompleter, Tally, attempt, turn, world

from score_distill.agent.codeact import AgentState, act
from score_distill.agent.environment import SnapshotPool
from score_distill.stages.rollouts import reproduce

GROUP = 4


async def test_the_code_of_a_prefix_is_run_once_for_the_whole_group() -> None:
    tally = Tally()
    async with SnapshotPool() as scope:
        prefix = (await attempt(tally, scope, PLAN, READ, turn("z"), ADD)).steps
    assert prefix[2].error == "NameError"
    before = len(tally)
    async with SnapshotPool() as scope:
        start = await reproduce(scope.hold(world(tally)), prefix, scope)
        assert start is not None
        assert (len(tally) - before, tally.open) == (1 + 3, 1)
        for _ in range(GROUP):
            begun = AgentState(prefix, (start,))
            stand, _ = await act(
                begun, FakeActor([SUM]), FakeCompleter([]), max_steps=1, seed=0, scope=scope, keep=True
            )
            assert stand.steps[-1].answer == "15"
    assert len(tally) - before == 1 + 3 + GROUP
    assert tally.open == 0


async def test_a_prefix_that_prints_something_else_is_no_start() -> None:
    tally = Tally()
    async with SnapshotPool() as scope:
        prefix = (await attempt(tally, scope, READ, turn("import random; print(random.random())"))).steps
        assert await reproduce(scope.hold(world(tally)), prefix, scope) is None
    assert tally.open == 0
