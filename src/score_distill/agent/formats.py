"""Reading task files: plain question and answer, GSM8K, and chat. Every fault of a file is found before any is used.

qa: ``{"id", "question", "answer", "documents"?}``; gsm8k: ``{"question", "answer": "... #### 72"}``; chat:
``{"id"?, "messages": [..., {"role": "assistant", "content": answer}]}``. An absent id is a digest of the question;
any row may say what its answer is by ``answerType``.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from pydantic import ValidationError

from score_distill.agent.trajectory import Task
from score_distill.api import Format
from score_distill.errors import BadInput

SHOWN_FAULTS = 20
SHOWN_CHARS = 300
LONGEST_NUMBER = 4300
_THOUSANDS = re.compile(r"(?<![\w.,(\[{])[1-9]\d{0,2}(?:,\d{3})+(?!,?\d|[)\]}])")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Number(str):
    """A number of JSON as it was written."""


def read_tasks(
    lines: Iterable[bytes],
    format: Format,  # noqa: A002
    where: str,
    repeated: Callable[[Task], object] = lambda _: None,
) -> Iterator[Task]:
    """The tasks of a file, one a line, empty lines skipped. A task without id that stood before goes to ``repeated``.

    Raises BadInput with the first faults and their line numbers: not JSON, fields missing or of a wrong type, empty
    question or answer, an id that stood before, a question with two answers. It comes after the last line; use no task
    before.
    """
    seen: dict[bytes, tuple[int, bytes]] = {}
    shown: list[str] = []
    count = faulty = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _object(line)
            task = _READERS[format](row)
            if kind := row.get("answerType"):
                task = Task.model_validate(task.model_dump() | {"answer_type": kind})
            first, answer = seen.setdefault(_digest(task.id), (number, _digest(task.answer.strip())))
            if first != number and row.get("id") is not None:
                raise ValueError(f"id {task.id[:60]!r} stands in line {first} already; ids must differ")
            if answer != _digest(task.answer.strip()):
                raise ValueError(
                    f"the question of line {first} with another answer ({task.answer[:60]!r}); keep the right one, or "
                    "give both an id"
                )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            faulty += 1
            if faulty <= SHOWN_FAULTS:
                shown.append(f"{where}:{number}: {_said(error)[:SHOWN_CHARS]}")
            continue
        count += 1
        if first != number:
            repeated(task)
        elif not faulty:
            yield task
    if faulty:
        more = [f"... and {faulty - SHOWN_FAULTS} more"] if faulty > SHOWN_FAULTS else []
        raise BadInput("\n".join(shown + more))
    if not count:
        raise BadInput(f"{where}: no tasks; expected one JSON object a line in the {format} format")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def content_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _qa(row: dict[str, Any]) -> Task:
    documents = row.get("documents", [])
    if not isinstance(documents, list):
        raise ValueError("documents must be a list of texts")
    for place, one in enumerate(documents):
        if not isinstance(one, str) or isinstance(one, Number):
            raise ValueError(f"documents.{place}: Input should be a valid string, found {_kind(one)}")
        _whole(f"documents.{place}", one)
    question = _text(row, "question")
    return Task(
        id=_id(row, "\n".join([question, *documents])),
        question=question,
        answer=_text(row, "answer"),
        documents=tuple(documents),
    )


def _gsm8k(row: dict[str, Any]) -> Task:
    question, answer = _text(row, "question"), _text(row, "answer")
    final = answer.rpartition("####")[2].strip() if "####" in answer else ""
    if not final:
        raise ValueError("answer has no text after '####'")
    return Task(
        id=_id(row, question), question=question, answer=_THOUSANDS.sub(lambda found: found[0].replace(",", ""), final)
    )


def _chat(row: dict[str, Any]) -> Task:
    if "messages" not in row:
        raise ValueError(_absent("messages", row))
    messages = row["messages"]
    if not isinstance(messages, list) or len(messages) < 2 or not all(isinstance(one, dict) for one in messages):
        raise ValueError("messages must be a list of at least a user's and an assistant's message")
    *before, last = messages
    if last.get("role") != "assistant":
        raise ValueError(f"the last message must be the assistant's answer, found role {last.get('role')!r}")
    if any(one.get("role") not in ("system", "user") for one in before):
        raise ValueError(
            "before the answer only system and user messages can stand; give multi-turn tasks as one question"
        )
    question = "\n\n".join(_text(one, "content") for one in before)
    return Task(id=_id(row, question), question=question, answer=_text(last, "content"))


_READERS: dict[Format, Callable[[dict[str, Any]], Task]] = {"qa": _qa, "gsm8k": _gsm8k, "chat": _chat}


def _object(line: bytes) -> dict[str, Any]:
    """The object of a line; its numbers keep the form in which they are written."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not UTF-8: can't decode byte 0x{error.object[error.start]:02x} at {error.start + 1}; is it Latin-1 or "
            "Windows-1252? Save the file as UTF-8"
        ) from None
    try:
        row = json.loads(
            text, parse_int=_number, parse_float=_number, parse_constant=_no_number, object_pairs_hook=_without_doubles
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, found {_kind(row)}")
    return row


def _number(written: str) -> Number:
    if len(written) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(written)} characters; it can have {LONGEST_NUMBER} digits at most")
    return Number(written)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f'{name} is no JSON; write a number, or "{name}" if that text is meant')


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"the field {double[:60]!r} stands twice in one object; keep one")
    return row


def _whole(name: str, text: str) -> None:
    if half := _SURROGATE.search(text):
        raise ValueError(
            f"{name} holds \\u{ord(half[0]):04x}, half of a character (a lone surrogate); write it whole, or not at all"
        )


def _kind(value: object) -> str:
    """The type of a JSON value."""
    return "number" if isinstance(value, Number) else "null" if value is None else type(value).__name__


def _absent(name: str, row: dict[str, Any]) -> str:
    return f"no field {name!r}; found {', '.join(map(repr, sorted(row))) or 'no fields'}"


def _text(row: dict[str, Any], name: str) -> str:
    if name not in row:
        raise ValueError(_absent(name, row))
    value = row[name]
    if isinstance(value, bool):
        raise ValueError(f'{name} must be text, found bool; write "{value}" or "yes" or "no", as a model would answer')
    if not isinstance(value, str):
        meant = "; write the text that a model would answer" if name == "answer" else ""
        raise ValueError(f"{name} must be text, found {_kind(value)}{meant}")
    if not value.strip():
        raise ValueError(f"{name} is empty")
    _whole(name, value)
    return str(value)


def _id(row: dict[str, Any], content: str) -> str:
    given = row.get("id")
    if given is None:
        return content_id(content)
    if not isinstance(given, str) or not given:
        raise ValueError("id must be a text or a number")
    _whole("id", given)
    return str(given)


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
