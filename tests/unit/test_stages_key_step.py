"""How the first step of a rollout relates to its correction, where rules decide and where only a judge can."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from score_distill.agent.chat_template import Message
from score_distill.agent.completer import Completion, Usage
from score_distill.agent.judge import Judge
from score_distill.agent.rl_starts import Item
from score_distill.agent.trajectory import Step, Task
from score_distill.api import Sampling
from score_distill.stages.rollouts import key_step


class FakeTeacher:
    """A completer that calls two candidates equal when both set the same name, and counts what it is asked."""

    def __init__(self, usable: bool = True) -> None:
        self.usable, self.asked = usable, 0

    async def generate(self, prompt: Sequence[int], **_: Any) -> Completion:
        raise AssertionError("a judge is asked by messages")

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        sampling: Sampling,
        seed: int,
        schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        self.asked += 1
        given = json.loads(messages[-1]["content"])
        one, other = given["candidate_a"]["code"], given["candidate_b"]["code"]
        equal = json.dumps({"equivalent": ("y =" in one) == ("y =" in other)})
        return Completion(equal if self.usable else "hm", Usage())


def step(code: str, state: str, observation: str = "None", answer: str | None = None) -> Step:
    text = f"<thought>t</thought><code>{code}</code>"
    return Step(
        author="student", text=text, thought="t", code=code, observation=observation, state=state, answer=answer
    )


CHOSEN, REJECTED = step("x = 3 + 4", "s1"), step("y = 3 - 4", "s2")
ITEM = Item(id="t#1", task=Task(id="t", question="q", answer="7"), rejected=REJECTED, chosen=CHOSEN)
SAME_IN_OTHER_WORDS, OLD_MISTAKE_IN_OTHER_WORDS = step("a = 4; x = a + 3", "s3"), step("b = 4; y = 3 - b", "s4")


@pytest.mark.parametrize(
    ("first", "found"), [(SAME_IN_OTHER_WORDS, "chosen"), (OLD_MISTAKE_IN_OTHER_WORDS, "rejected")]
)
async def test_other_words_are_told_apart_by_the_judge_and_by_nobody_without_one(first: Step, found: str) -> None:
    assert await key_step(ITEM, first, Judge(FakeTeacher(), Sampling(temperature=0), 64, 2)) == found
    assert await key_step(ITEM, first, None) is None
    unusable = FakeTeacher(usable=False)
    assert await key_step(ITEM, first, Judge(unusable, Sampling(temperature=0), 64, 2)) is None
    assert unusable.asked == 2


@pytest.mark.parametrize(
    ("first", "found"),
    [
        (step("x = 7", "s1"), "chosen"),
        (step("y = 3  -  4", "s9"), "rejected"),
        (step("x = 3", "s9", "printed"), "other"),
        (step("final_answer_print(1)", "s9", "1", "1"), "final"),
    ],
)
async def test_what_rules_decide_no_judge_is_asked(first: Step, found: str) -> None:
    judge = FakeTeacher()
    assert await key_step(ITEM, first, None) == found
    assert await key_step(ITEM, first, Judge(judge, Sampling(temperature=0), 64, 2)) == found
    assert judge.asked == 0
