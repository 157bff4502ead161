"""The budget of teacher tokens: spent before it is overspent, and never in the way of what is known already."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from score_distill.agent.completer import Completion, Usage
from score_distill.agent.ledger import Caller, Ledger, Record
from score_distill.api import Sampling
from score_distill.errors import BudgetSpent


class FakeTeacher:
    """Answers everything, for ten tokens."""

    async def chat(self, messages: Sequence[Mapping[str, str]], **_: Any) -> Completion:
        return Completion("yes", Usage(prompt=7, completion=3))

    async def generate(self, prompt: Sequence[int], **_: Any) -> Completion:
        raise AssertionError("a teacher is asked by messages")

    async def score(self, tokens: Sequence[int]) -> Completion:
        return Completion("", Usage(prompt=len(tokens), completion=1), logprobs=(-1.0,) * (len(tokens) - 1))


async def ask(ledger: Ledger, question: str, role: str = "teacher", task: str = "task") -> Completion:
    caller = Caller(FakeTeacher(), ledger, role, "r", task, "act")  # type: ignore[arg-type]
    return await caller.chat([{"role": "user", "content": question}], max_tokens=9, sampling=Sampling(), seed=0)


async def test_a_call_is_refused_once_the_budget_is_spent() -> None:
    ledger = Ledger(lambda _: None, teacher_tokens=20)
    await ask(ledger, "a")
    await ask(ledger, "b")
    with pytest.raises(BudgetSpent, match="20 are spent"):
        await ask(ledger, "c")


async def test_what_earlier_attempts_spent_counts_and_known_replies_cost_nothing() -> None:
    written: list[Record] = []
    await ask(Ledger(written.append), "a")
    ledger = Ledger(lambda _: None, past=written, teacher_tokens=10)
    assert (await ask(ledger, "a")).text == "yes"
    with pytest.raises(BudgetSpent):
        await ask(ledger, "b")


async def test_one_of_several_workers_may_spend_its_share_of_what_is_left() -> None:
    written: list[Record] = []
    await ask(Ledger(written.append), "a")
    ledger = Ledger(lambda _: None, past=written, teacher_tokens=70, workers=3)
    await ask(ledger, "b")
    await ask(ledger, "c")
    with pytest.raises(BudgetSpent, match="30 were left for this worker, 30 are spent"):
        await ask(ledger, "d")


async def test_what_the_tasks_of_all_workers_cost_adds_up_to_the_account_however_many_there_were_before() -> None:
    written: list[Record] = []
    for task in "abcd":
        await ask(Ledger(written.append), task, task=task)
    shares = [frozenset("ac"), frozenset("b"), frozenset("d")]
    ledgers = [Ledger(written.append, [*written], mine=mine, workers=3) for mine in shares]
    await ask(ledgers[1], "again", task="b")
    assert [one.own.tokens("teacher") for one in ledgers] == [20, 20, 10]
    assert sum(one.own.tokens("teacher") for one in ledgers) == Ledger(print, written).account.tokens("teacher")
    assert ledgers[0].account.tokens("teacher") == 40, "the budget is one of all workers"


async def test_the_student_is_free() -> None:
    ledger = Ledger(lambda _: None, teacher_tokens=1)
    await ask(ledger, "a")
    await ask(ledger, "b", role="student")


async def test_what_the_teacher_reads_to_score_is_paid_for_once() -> None:
    written: list[Record] = []
    ledger = Ledger(written.append, teacher_tokens=12)
    caller = Caller(FakeTeacher(), ledger, "teacher", "r", "task", "score")  # type: ignore[arg-type]
    first = await caller.score([1, 2, 3])
    assert await caller.score([1, 2, 3]) == first
    await caller.score(range(9))
    assert ledger.account.rows() == [
        {"role": "teacher", "purpose": "score", "calls": 2, "prompt": 12, "cached": 0, "completion": 2}
    ]
    with pytest.raises(BudgetSpent, match="14 are spent"):
        await caller.score([3, 2, 1])
    again = Caller(FakeTeacher(), Ledger(written.append, past=written), "teacher", "r", "task", "score")  # type: ignore[arg-type]
    assert await again.score([1, 2, 3]) == first and len(written) == 2
