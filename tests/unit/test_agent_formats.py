import json

import pytest

from score_distill.agent.formats import SHOWN_FAULTS, content_id, read_tasks
from score_distill.agent.trajectory import Task
from score_distill.errors import BadInput


def lines(*rows: object) -> list[bytes]:
    return [row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows]


def read(format: str, *rows: object) -> list[Task]:  # noqa: A002
    return list(read_tasks(lines(*rows), format, "tasks.jsonl"))


def faults(format: str, *rows: object) -> list[str]:  # noqa: A002
    with pytest.raises(BadInput) as caught:
        read(format, *rows)
    return str(caught.value).splitlines()


def qa(**more: object) -> dict[str, object]:
    return {"id": "a", "question": "q", "answer": "1"} | more


def test_qa():
    rows = qa(documents=["one", "two"]), b"  \n", {"question": "p", "answer": 2.5}, qa(id=7)
    assert read("qa", *rows) == [
        Task(id="a", question="q", answer="1", documents=("one", "two")),
        Task(id=content_id("p"), question="p", answer="2.5"),
        Task(id="7", question="q", answer="1"),
    ]


def test_ids_from_content_are_those_of_yesterday():
    assert content_id("p") == "148de9c5a7a44d19"
    assert read("qa", {"question": "p", "answer": "1", "documents": ["d"]})[0].id == content_id("p\nd")


def test_gsm8k_takes_what_stands_after_the_last_mark():
    row = {"question": "How many?", "answer": "1 #### 2\nso it is <<600*2=1200>>\n#### 1,200 "}
    assert read("gsm8k", row) == [Task(id=content_id("How many?"), question="How many?", answer="1200")]


def test_chat_joins_what_stands_before_the_answer():
    messages = [("system", "be brief"), ("user", "q"), ("assistant", "42")]
    row = {"id": "c", "messages": [{"role": role, "content": content} for role, content in messages]}
    assert read("chat", row) == [Task(id="c", question="be brief\n\nq", answer="42")]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (b"{", "Expecting property name"),
        (b"[1, 2]", "expected a JSON object, found list"),
        (b"null", "expected a JSON object, found null"),
        (b'{"question": "\xff"}', "can't decode byte 0xff"),
        (b"[" * 100_000, "recursion"),
        (b'{"answer": ' + b"9" * 5000 + b"}", "4300 digits"),
        ({"id": "a", "answer": "1"}, "no field 'question'; found 'answer', 'id'"),
        ({}, "no field 'question'; found no fields"),
        (qa(question=" "), "question is empty"),
        (qa(answer=""), "answer is empty"),
        (qa(answer=None), "answer must be text, found null"),
        (qa(answer=True), "answer must be text, found bool"),
        (qa(answer=["1"]), "answer must be text, found list"),
        (qa(id=""), "id must be a text or a number"),
        (qa(id=[1]), "id must be a text or a number"),
        (qa(documents="d"), "documents must be a list of texts"),
        (qa(documents=[1]), "documents.0: Input should be a valid string"),
    ],
)
def test_faults_of_a_row(row, fault):
    (said,) = faults("qa", row)
    assert said.startswith("tasks.jsonl:1: ")
    assert fault in said


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([], "expected a JSON object"),
        ({"messages": "x"}, "messages must be a list"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "messages must be a list of at least"),
        ({"messages": [{"role": "user", "content": "q"}] * 2}, "the last message must be the assistant's"),
        (
            {"messages": [{"role": role, "content": "x"} for role in ("user", "assistant", "user", "assistant")]},
            "only system and user messages",
        ),
        ({"messages": [{"role": "user"}, {"role": "assistant", "content": "a"}]}, "no field 'content'"),
    ],
)
def test_faults_of_a_chat(row, fault):
    assert fault in faults("chat", row)[0]


def test_gsm8k_without_its_mark():
    assert "no text after '####'" in faults("gsm8k", {"question": "q", "answer": "42"})[0]
    assert "no text after '####'" in faults("gsm8k", {"question": "q", "answer": "42 #### "})[0]


def test_all_faults_come_at_once_with_their_lines():
    said = faults("qa", qa(), b"\n", b"{", qa(id="b"), qa(answer=""), qa(id="b"))
    assert [one.split(": ")[0] for one in said] == ["tasks.jsonl:3", "tasks.jsonl:5", "tasks.jsonl:6"]
    assert said[2] == "tasks.jsonl:6: id 'b' stands in line 4 already; ids must differ"


def test_a_number_and_its_text_are_the_same_id():
    assert "stands in line 1" in faults("qa", qa(id=7), qa(id="7"))[0]


def test_many_and_huge_faults_stay_readable():
    said = faults("qa", *[{"x" * 100_000: 1}] * 30)
    assert len(said) == SHOWN_FAULTS + 1
    assert said[-1] == "... and 10 more"
    assert max(map(len, said)) < 400


def test_a_huge_line_is_read():
    assert len(read("qa", qa(question="x" * 5_000_000))[0].question) == 5_000_000


def test_an_empty_file():
    assert faults("gsm8k", b"\n") == ["tasks.jsonl: no tasks; expected one JSON object a line in the gsm8k format"]


def test_a_byte_order_mark_is_no_fault():
    assert read("qa", b"\xef\xbb\xbf" + json.dumps(qa()).encode())[0].id == "a"


def test_nothing_after_a_fault_is_given_out():
    seen = []
    with pytest.raises(BadInput):
        seen.extend(read_tasks(lines(qa(), b"{", qa(id="b")), "qa", "f"))
    assert [task.id for task in seen] == ["a"]


def test_a_row_may_say_what_its_answer_is():
    rows = [b'{"question": "q", "answer": "3-1", "answerType": "number"}', b'{"question": "p", "answer": "3-1"}']
    assert [task.answer_type for task in read_tasks(rows, "qa", "x.jsonl")] == ["number", None]
    with pytest.raises(BadInput, match=r"x.jsonl:1: answer_type: .*'number'.*'code'"):
        list(read_tasks([b'{"question": "q", "answer": "a", "answerType": "numeric"}'], "qa", "x.jsonl"))
