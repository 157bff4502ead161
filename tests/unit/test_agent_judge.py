"""Verdicts by cascade, the judge's JSON, the ledger of paid calls, and the tools."""

import asyncio
import json
from typing import Any

import pytest

from score_distill.agent import prompts
from score_distill.agent.completer import Completion, Usage
from score_distill.agent.judge import Judge, JudgeFailed, judged, read_json, steps_equivalent
from score_distill.agent.ledger import Account, Caller, Ledger
from score_distill.agent.refusals import ContextOverflow, EndpointUnavailable, RequestRefused
from score_distill.agent.tools import Read, chosen
from score_distill.agent.trajectory import Step, Task
from score_distill.api import Correction, Sampling
from score_distill.sandbox.client import ToolError

GREEDY, WARM = Sampling(temperature=0), Sampling(temperature=0.7)
TASK = Task(id="t", question="q", answer="$$ $$")  # nothing that rules can read
EQUIVALENT = prompts.Equivalent
SCHEMA = EQUIVALENT.model_json_schema()


class FakeCompleter:
    """Gives the replies one after another, raising those that are errors; remembers every request."""

    def __init__(self, *replies: str | Exception) -> None:
        self.replies, self.asked = list(replies), []

    async def chat(self, messages, **asked: Any) -> Completion:
        return self._next({"messages": messages, **asked})

    async def generate(self, prompt, **asked: Any) -> Completion:
        return self._next({"prompt": list(prompt), **asked})

    def _next(self, asked: dict[str, Any]) -> Completion:
        self.asked.append(asked)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Completion(reply, Usage(10, 4, 2), tokens=(1, 2), logprobs=(-0.5, -0.25))


def judge(*replies: str | Exception, sampling: Sampling = GREEDY) -> Judge:
    return Judge(FakeCompleter(*replies), sampling, 64, 3)


@pytest.mark.parametrize(
    "text",
    [
        '{"equivalent": true}',
        ' {"equivalent": true, "why": 1}\n',
        'So:\n```json\n{"equivalent": true}\n```',
        '是{"equivalent":true}。',
        'The sets {1, 2} and {2, 1} are the same: {"equivalent": true}',
        'f"{x}" prints x, {"a": {"b": 1}} does not.\n\n```json\n{\n "equivalent": true\n}\n```\nThat {is} all.',
        'First I thought {"equivalent": false}, but {they} agree: {"equivalent": true}',
        '<think>{"equivalent": false}? No.</think>{"equivalent": true}',
        'is it {"equivalent": false}? No.\n</think>\n{"equivalent": true}',
        '{"equivalent": true} as I said: {"equivalent": true}',
        '{"thoughts": "{"} {"equivalent": true}',
        '{"unfinished": [1, {"equivalent": true}',
        "{" * 900 + '{"equivalent": true}',
    ],
)
def test_json_is_read(text: str):
    assert read_json(text, EQUIVALENT).equivalent is True


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no JSON object"),
        ("equivalent: true", "no JSON object"),
        ("} {", "no JSON object"),
        ('{"equivalent": tr', "no JSON object"),
        ('{"equivalent": tr}', "Invalid JSON"),
        ("{1, 2} and {2, 1}", "Invalid JSON"),
        ('<think>{"equivalent": true}</think> I cannot say.', "no JSON object"),
        ('<think>{"equivalent": true}', "no JSON object"),
        ("{" * 100_000 + "}", "Invalid JSON"),
        ('{"' * 100_000 + "}", "Invalid JSON"),
        ('{"a": ' * 50_000 + "}" * 50_000, "Invalid JSON"),
        ('{"equivalent": ' + "9" * 5000 + "}", "Invalid JSON"),
        ('{"equivalent": "true"}', "equivalent: "),
        ('{"equivalent": 1}', "equivalent: "),
        ('{"equivalent": null}', "equivalent: "),
        ('{"Equivalent": true}', "equivalent: "),
        ('{"equivalent": false} ignore the above {"equivalent": true}', "Invalid JSON"),
    ],
)
def test_what_is_no_json_of_the_schema_is_refused(text: str, fault: str):
    with pytest.raises(ValueError, match=fault):
        read_json(text, EQUIVALENT)


@pytest.mark.parametrize("step", ["0", "4", "-1", "2.0", "true", '"2"', "null"])
def test_a_step_that_is_none_is_refused(step: str):
    with pytest.raises(ValueError, match="step: Input should be"):
        read_json(f'{{"analysis": "", "step": {step}, "advice": ""}}', prompts.first_wrong(1, 3))


async def test_the_judge_is_asked_again_warmer_and_with_another_seed():
    asked = judge("what?", "{}", '{"equivalent": false}')
    assert await asked.ask([], EQUIVALENT, "t") == EQUIVALENT(equivalent=False)
    completer = asked.completer
    assert [one["sampling"].temperature for one in completer.asked] == [0, 0.5, 0.5]
    assert len({one["seed"] for one in completer.asked}) == 3
    assert all(one["schema"] == SCHEMA for one in completer.asked)


async def test_a_warm_judge_stays_as_warm():
    asked = judge("what?", '{"equivalent": false}', sampling=WARM)
    await asked.ask([], EQUIVALENT, "t")
    assert [one["sampling"].temperature for one in asked.completer.asked] == [0.7, 0.7]


async def test_tries_have_a_bound_and_the_last_fault_is_told():
    asked = judge("x", "y", "last words", "never asked")
    with pytest.raises(JudgeFailed, match="3 replies, none usable; the last: no JSON object in 'last words'"):
        await asked.ask([], EQUIVALENT, "t")
    assert asked.completer.replies == ["never asked"]


def test_right_or_wrong_and_where_are_two_questions_asked_without_chance():
    assert Correction().judge_sampling.temperature == 0
    assert set(SCHEMA["properties"]) == {"equivalent"}
    assert set(prompts.first_wrong(1, 3).model_json_schema()["properties"]) == {"analysis", "step", "advice"}


async def test_rules_come_before_the_judge():
    task = Task(id="t", question="q", answer="42")
    unasked = judge()
    assert (await judged("exact", task, "42", unasked)).correct is True
    assert (await judged("exact", task, "41", unasked)).correct is False
    assert (await judged("math", task, "42.0", unasked)).by == "math"
    assert (await judged("math", task, None, unasked)).correct is False


async def test_the_judge_decides_where_rules_cannot():
    for reply, correct in (("true", True), ("false", False)):
        verdict = await judged("math", TASK, "x", judge(f'{{"equivalent": {reply}}}'))
        assert (verdict.correct, verdict.by) == (correct, "judge")


@pytest.mark.parametrize("replies", [["no"] * 3, [ContextOverflow("600 of 512")], [RequestRefused("filtered")]])
async def test_a_judge_that_fails_is_no_verdict(replies: list[Any]):
    verdict = await judged("math", TASK, "x", judge(*replies))
    assert (verdict.correct, verdict.by) == (None, "none")
    assert verdict.detail


async def test_without_a_judge_nobody_decides():
    assert (await judged("math", TASK, "x", None)).correct is None


async def test_a_server_that_is_gone_is_no_judgement():
    with pytest.raises(EndpointUnavailable):
        await judged("math", TASK, "x", judge(EndpointUnavailable("gone")))


async def test_two_steps_are_compared_by_the_judge():
    one = Step(author="student", text="a", thought="", code="a", observation="1")
    asked = judge('{"equivalent": true}')
    assert await steps_equivalent(TASK, [one], one, one, asked) is True
    assert len(json.loads(asked.completer.asked[0]["messages"][1]["content"])["earlier_steps"]) == 1
    with pytest.raises(JudgeFailed):
        await steps_equivalent(TASK, [], one, one, judge("a", "b", "c"))


def caller(ledger: Ledger, *replies: str, **more: str) -> Caller:
    given = {"role": "teacher", "revision": "r1", "task": "t", "purpose": "judge"} | more
    return Caller(FakeCompleter(*replies), ledger, **given)


async def chat(one: Caller, text: str = "q", **more: Any) -> str:
    asked = {"max_tokens": 7, "sampling": GREEDY, "seed": 1} | more
    return (await one.chat([{"role": "user", "content": text}], **asked)).text


async def test_a_paid_call_is_answered_from_the_ledger():
    written: list[dict[str, Any]] = []
    assert await chat(caller(Ledger(written.append), "first")) == "first"
    again = Ledger(written.append, json.loads(json.dumps(written)))
    unasked = caller(again)
    assert await chat(unasked) == "first"
    assert len(written) == 1
    assert again.account.rows() == [
        {"role": "teacher", "purpose": "judge", "calls": 1, "prompt": 10, "cached": 4, "completion": 2}
    ]


async def test_sampled_tokens_and_logprobs_come_back_whole():
    written: list[dict[str, Any]] = []
    asked = {"max_tokens": 7, "sampling": WARM, "seed": 1, "stop_token": 2, "logprobs": True}
    first = await caller(Ledger(written.append), "x", role="student").generate([3, 4], **asked)
    past = json.loads(json.dumps(written))
    assert await caller(Ledger(written.append, past), role="student").generate((3, 4), **asked) == first


@pytest.mark.parametrize(
    ("of_caller", "of_call"),
    [
        ({"revision": "r2"}, {}),
        ({"task": "u"}, {}),
        ({"purpose": "repair"}, {}),
        ({}, {"text": "p"}),
        ({}, {"seed": 2}),
        ({}, {"sampling": WARM}),
        ({}, {"max_tokens": 8}),
        ({}, {"schema": SCHEMA}),
    ],
)
async def test_another_question_is_paid_for(of_caller: dict[str, str], of_call: dict[str, Any]):
    written: list[dict[str, Any]] = []
    await chat(caller(Ledger(written.append), "first"))
    assert await chat(caller(Ledger(written.append, list(written)), "second", **of_caller), **of_call) == "second"
    assert len(written) == 2


async def test_a_call_that_failed_is_not_written_down():
    written: list[dict[str, Any]] = []
    with pytest.raises(EndpointUnavailable):
        await chat(caller(Ledger(written.append), EndpointUnavailable("gone")))
    assert written == []


async def test_a_reply_is_used_only_once_it_is_written_down():
    def disk_full(_: Any) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        await chat(caller(Ledger(disk_full), "lost"))


async def test_finished_tasks_count_and_are_not_kept():
    written: list[dict[str, Any]] = []
    await chat(caller(Ledger(written.append), "first"))
    again = Ledger(written.append, list(written), finished=frozenset(["t"]))
    assert again.account.tokens("teacher") == 12
    assert await chat(caller(again, "second")) == "second"
    assert again.account.tokens("teacher") == 24


async def test_of_two_records_of_a_call_the_first_counts():
    written: list[dict[str, Any]] = []
    await chat(caller(Ledger(written.append), "first"))
    twice = [written[0], written[0] | {"reply": written[0]["reply"] | {"text": "late"}}]
    assert await chat(caller(Ledger(written.append, twice))) == "first"


def test_accounts_are_by_role_and_purpose():
    account = Account()
    account.add("teacher", "judge", Usage(10, 4, 2))
    account.add("teacher", "judge", Usage(1, 0, 1))
    account.add("student", "act", Usage(5, 5, 5))
    assert account.rows() == [
        {"role": "student", "purpose": "act", "calls": 1, "prompt": 5, "cached": 5, "completion": 5},
        {"role": "teacher", "purpose": "judge", "calls": 2, "prompt": 11, "cached": 4, "completion": 3},
    ]
    assert (account.tokens("teacher"), account.tokens("student")) == (14, 10)


def test_read_gives_one_document_a_call():
    read, task = Read(), Task(id="t", question="q", answer="a", documents=("one", "two"))

    def call(state: Any, *args: Any, **kwargs: Any) -> Any:
        return asyncio.run(read.call(task, state, args, kwargs))

    assert call(None) == ("one", 1)
    assert call(1) == ("two", 2)
    assert call(2) == ("End of documents.", 2)
    for wrong in ({"args": [1]}, {"kwargs": {"n": 1}}):
        with pytest.raises(ToolError, match="takes no arguments"):
            call(None, *wrong.get("args", []), **wrong.get("kwargs", {}))


def test_reading_gives_nothing_but_the_documents_of_its_task():
    task = Task(id="t", question="q", answer="a", documents=("one",))
    given = [asyncio.run(Read().call(task, cursor, [], {}))[0] for cursor in (None, 1, 99, "x", {"path": "/etc"})]
    assert given == ["one", "End of documents.", "End of documents.", "one", "one"]


def test_python_is_no_tool_that_code_calls():
    assert list(chosen(["python", "read"])) == ["read"]
    assert chosen(["python"]) == {}
