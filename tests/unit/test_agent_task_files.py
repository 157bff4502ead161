"""Task files as people have them: what is read, and in which words each fault is told before any task is used."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import pytest

from score_distill.agent.formats import content_id, read_tasks
from score_distill.agent.trajectory import Task
from score_distill.artifacts.data import open_data
from score_distill.artifacts.uris import UriResolver
from score_distill.errors import BadInput

ROW = b'{"question": "q", "answer": "1"}\n'


def read(folder: Path, content: bytes, form: str, name: str = "t.jsonl") -> tuple[list[Task], list[str]]:
    """The tasks of a file, and the ids of those that were dropped."""
    (folder / name).write_bytes(content)
    dropped: list[str] = []
    places = UriResolver(folder, folder, folder, {})
    tasks = list(read_tasks(open_data(name, places), form, name, lambda task: dropped.append(task.id)))
    return tasks, dropped


def qa(answer: str, question: str = '"q"') -> bytes:
    return f'{{"question": {question}, "answer": {answer}}}\n'.encode()


def gsm8k(final: str) -> bytes:
    return json.dumps({"question": "q", "answer": f"so 1,000 * 2\n#### {final}"}).encode()


ANSWERS = {
    "text": ("qa", qa('"1,234"'), "1,234"),
    "whole number": ("qa", qa("7"), "7"),
    "number with a zero at its end": ("qa", qa("1.10"), "1.10"),
    "one and a zero": ("qa", qa("1.0"), "1.0"),
    "beyond floats": ("qa", qa("1e400"), "1e400"),
    "exponent": ("qa", qa("6.02E+23"), "6.02E+23"),
    "small": ("qa", qa("0.00001"), "0.00001"),
    "minus zero": ("qa", qa("-0"), "-0"),
    "many digits": ("qa", qa("0.1000000000000000055511151231257827"), "0.1000000000000000055511151231257827"),
    "large": ("qa", qa("123456789012345678901234567890"), "123456789012345678901234567890"),
    "NaN in words": ("qa", qa('"NaN"'), "NaN"),
    "yes": ("qa", qa('"yes"'), "yes"),
    "unicode": ("qa", qa('"é 漢 🙂"'), "é 漢 🙂"),
    "escaped pair": ("qa", qa('"\\ud83d\\ude42"'), "🙂"),
    "byte order mark": ("qa", b"\xef\xbb\xbf" + ROW, "1"),
    "windows lines": ("qa", ROW.replace(b"\n", b"\r\n"), "1"),
    "no last newline": ("qa", ROW.rstrip(), "1"),
    "empty lines": ("qa", b"\n  \n" + ROW + b"\n", "1"),
    "number in a chat": (
        "chat",
        b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": 2.50}]}',
        "2.50",
    ),
    "gzip": ("qa", gzip.compress(ROW), "1"),
    "gzip in two members": ("qa", gzip.compress(b"\n") + gzip.compress(ROW), "1"),
    "gsm8k": ("gsm8k", gsm8k("72"), "72"),
    "thousands": ("gsm8k", gsm8k("1,234"), "1234"),
    "millions": ("gsm8k", gsm8k("-1,234,567"), "-1234567"),
    "money": ("gsm8k", gsm8k("$1,234,567.50"), "$1234567.50"),
    "percent": ("gsm8k", gsm8k("1,200%"), "1200%"),
    "two numbers": ("gsm8k", gsm8k("1,000 and 2,000"), "1000 and 2000"),
    "decimal comma": ("gsm8k", gsm8k("2,5"), "2,5"),
    "decimal comma after zero": ("gsm8k", gsm8k("0,125"), "0,125"),
    "pair": ("gsm8k", gsm8k("(1, 2)"), "(1, 2)"),
    "tight pair": ("gsm8k", gsm8k("(1,200)"), "(1,200)"),
    "set": ("gsm8k", gsm8k("{3,100}"), "{3,100}"),
    "list": ("gsm8k", gsm8k("1, 2, 3"), "1, 2, 3"),
    "tight list": ("gsm8k", gsm8k("1,2,3"), "1,2,3"),
    "list that is no group": ("gsm8k", gsm8k("100,200,3"), "100,200,3"),
    "four digits after": ("gsm8k", gsm8k("1,2345"), "1,2345"),
    "words": ("gsm8k", gsm8k("red, blue"), "red, blue"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_as_it_is_written(tmp_path: Path, name: str):
    form, content, answer = ANSWERS[name]
    (task,), dropped = read(tmp_path, content, form)
    assert (task.question, task.answer, type(task.answer), dropped) == ("q", answer, str, [])


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("t.jsonl", ROW)
    return held.getvalue()


FAULTS = {
    # values
    "NaN": (ROW + qa("NaN"), "t.jsonl:2: NaN is no JSON"),
    "Infinity": (qa("Infinity"), "t.jsonl:1: Infinity is no JSON"),
    "minus Infinity": (qa("-Infinity"), "t.jsonl:1: -Infinity is no JSON"),
    "NaN that nobody reads": (b'{"question": "q", "answer": "1", "score": NaN}', "t.jsonl:1: NaN is no JSON"),
    "number without end": (qa("9" * 5000), "a number of 5000 characters"),
    "true": (qa("true"), "t.jsonl:1: answer must be text, found bool"),
    "nothing": (qa("null"), "answer must be text, found null"),
    "list": (qa("[1, 2]"), "answer must be text, found list"),
    "nested list": (qa("[[[1]]]"), "answer must be text, found list"),
    "object": (qa('{"value": 1}'), "answer must be text, found dict"),
    "blank": (qa('" "'), "answer is empty"),
    "true as id": (b'{"id": true, "question": "q", "answer": "1"}', "id must be a text or a number"),
    "number as document": (b'{"question": "q", "answer": "1", "documents": [1.5]}', "documents.0: "),
    "list as document": (b'{"question": "q", "answer": "1", "documents": ["d", ["e"]]}', "documents.1: "),
    "half a character": (qa('"\\ud800"'), "t.jsonl:1: answer holds \\ud800, half of a character (a lone surrogate)"),
    "half a character in the question": (qa('"1"', '"a\\udfffb"'), "question holds \\udfff"),
    "half a character in a document": (
        b'{"question": "q", "answer": "1", "documents": ["\\ud83d"]}',
        "documents.0 holds \\ud83d",
    ),
    "half a character in an id": (b'{"id": "\\ud83d", "question": "q", "answer": "1"}', "id holds \\ud83d"),
    "half a character as bytes": (qa('"1"').replace(b"1", b"\xed\xa0\x80"), "t.jsonl:1: not UTF-8"),
    "two answers in one row": (
        b'{"question": "q", "answer": "1", "answer": "2"}',
        "t.jsonl:1: the field 'answer' stands twice",
    ),
    "twice within": (b'{"question": "q", "answer": "1", "more": {"a": 1, "a": 1}}', "the field 'a' stands twice"),
    "question with two answers": (
        qa('"4"', '"p"') + ROW + qa('"5"', '"p"'),
        "t.jsonl:3: the question of line 1 with another answer ('5')",
    ),
    "id twice": (
        b'{"id": "a", "question": "q", "answer": "1"}\n' * 2,
        "t.jsonl:2: id 'a' stands in line 1 already",
    ),
    "id as number and as text": (
        b'{"id": 7, "question": "q", "answer": "1"}\n{"id": "7", "question": "p", "answer": "1"}',
        "t.jsonl:2: id '7' stands in line 1 already",
    ),
    # lines
    "half a row": (ROW + ROW[:12], "t.jsonl:2: "),
    "Latin-1": (ROW + '{"question": "é", "answer": "1"}'.encode("latin-1"), "t.jsonl:2: not UTF-8"),
    "two rows in a line": (ROW.strip() * 2, "t.jsonl:1: not JSON: Extra data at character 33"),
    "a list in a line": (ROW + b"[1, 2]\n", "t.jsonl:2: expected a JSON object, found list"),
    "a number in a line": (b"7\n", "t.jsonl:1: expected a JSON object, found number"),
    "comments": (b"// tasks\n" + ROW, "t.jsonl:1: not JSON: Expecting value at character 1"),
    "conflict": (b"<<<<<<< HEAD\n" + ROW, "t.jsonl:1: not JSON: Expecting value at character 1"),
    "Python": (ROW + b"{'question': 'q'}\n", "t.jsonl:2: not JSON: Expecting property name"),
    "comma at the end": (b'{"question": "q", "answer": "1",}\n', "t.jsonl:1: not JSON: "),
    "empty": (b"", "no tasks"),
    "blank lines alone": (b"\n\n", "no tasks"),
    # files that are none of this kind
    "array": (b'[{"question": "q", "answer": "1"}]', "this is a JSON array"),
    "array over lines": (b'[\n  {"question": "q"}\n]', "this is a JSON array"),
    "object over lines": (b'{\n  "question": "q",\n  "answer": "1"\n}', "this is one JSON object over several lines"),
    "a field over lines": (b'{"question":\n "q", "answer": "1"}', "this is one JSON object over several lines"),
    "object of lists": (b'{"data": [\n {"question": "q"}]}', "this is one JSON object over several lines"),
    "commas between": (ROW.strip() + b",\n" + ROW, "this is JSON objects with commas between them"),
    "Parquet": (b"PAR1\x15\x04\x15\x10" + bytes(99) + b"PAR1", "this is a Parquet file"),
    "Arrow": (b"ARROW1\0\0" + bytes(99), "this is an Arrow file"),
    "Avro": (b"Obj\x01\x04" + bytes(9), "this is an Avro file"),
    "SQLite": (b"SQLite format 3\0" + bytes(99), "this is an SQLite database"),
    "zip": (zipped(), "this is a zip archive or an .xlsx table"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x00" + bytes(20), "this is compressed with zstd"),
    "bzip2": (bz2.compress(ROW), "this is compressed with bzip2"),
    "xz": (lzma.compress(ROW), "this is compressed with xz"),
    "gzip within gzip": (gzip.compress(gzip.compress(ROW)), "this is gzip within gzip"),
    "Parquet within gzip": (gzip.compress(b"PAR1" + bytes(99)), "this is a Parquet file"),
    "cut gzip": (gzip.compress(ROW * 1000)[:-10], "damaged gzip"),
    "LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "this is a Git LFS pointer",
    ),
    "annex pointer": (b"/annex/objects/SHA256E-s5--ab.jsonl\n", "this is a git-annex pointer"),
    "CSV": (b"question,answer\nq,1\n", "this is a CSV table"),
    "quoted CSV": (b'"id","question","answer"\r\n"1","q, r","1"\r\n', "this is a CSV table"),
    "TSV": (b"question\tanswer\nq\t1\n", "this is a CSV table"),
    "semicolons": (b"\xef\xbb\xbfquestion;answer\nq;1\n", "this is a CSV table"),
    "YAML": (b"- question: q\n  answer: 1\n", "this is YAML"),
    "HTML": (b"\n<!DOCTYPE html><html><body>404", "this is an HTML or XML page"),
    "XML error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "this is an HTML or XML page"),
    "PDF": (b"%PDF-1.7\n", "this is a PDF"),
    "UTF-16": (ROW.decode().encode("utf-16"), "this is UTF-16 text; save it as UTF-8"),
    "UTF-16 without mark": (ROW.decode().encode("utf-16-le"), "this is UTF-16 or UTF-32 text"),
    "UTF-16 the other way": (ROW.decode().encode("utf-16-be"), "this is UTF-16 or UTF-32 text"),
    "UTF-32": (ROW.decode().encode("utf-32"), "this is UTF-32 text"),
    "binary": (b"\x07\x00\x01" + bytes(50), "this is a binary file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_cannot_be_used_is_told_as_what_it_is(tmp_path: Path, name: str):
    content, said = FAULTS[name]
    with pytest.raises(BadInput) as caught:
        read(tmp_path, content, "qa")
    assert said in str(caught.value)
    assert str(caught.value).startswith("t.jsonl:")
    assert "codec" not in str(caught.value)


def test_a_repeated_question_without_id_is_dropped_and_told(tmp_path: Path):
    again = b'{"question": "q", "answer": 1}\n{"question": "q", "answer": " 1 "}\n'
    assert read(tmp_path, ROW + again + qa("2", '"p"'), "qa") == (
        [Task(id=content_id("q"), question="q", answer="1"), Task(id=content_id("p"), question="p", answer="2")],
        [content_id("q")] * 2,
    )


def test_a_packed_file_is_told_by_its_content_whatever_its_name(tmp_path: Path):
    assert len(read(tmp_path, gzip.compress(ROW), "qa", "t.jsonl")[0]) == 1
    assert len(read(tmp_path, gzip.compress(ROW), "qa", "t.jsonl.gz")[0]) == 1
