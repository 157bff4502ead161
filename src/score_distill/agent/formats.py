"""Reading task files: plain question and answer, GSM8K, and chat. Every fault of a file is found before any is used.

qa: ``{"id", "question", "answer", "documents"?}``; gsm8k: ``{"question", "answer": "... #### 72"}``; chat:
``{"id"?, "messages": [..., {"role": "assistant", "content": answer}]}``. An absent id is a digest of the question.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from score_distill.agent.trajectory import Task
from score_distill.api import Format
from score_distill.errors import BadInput

SHOWN_FAULTS = 20
SHOWN_CHARS = 300


def read_tasks(lines: Iterable[bytes], format: Format, where: str) -> Iterator[Task]:  # noqa: A002
    """The tasks of a file, one a line, empty lines skipped.

    Raises BadInput with the first faults and their line numbers: not JSON, fields missing or of a wrong type, empty
    question or answer, an id that stood before. It comes after the last line; use no task before.
    """
    seen: dict[bytes, int] = {}
    shown: list[str] = []
    count = faulty = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            task = _READERS[format](_object(line))
            key = hashlib.blake2b(task.id.encode(), digest_size=8).digest()
            if (first := seen.setdefault(key, number)) != number:
                raise ValueError(f"id {task.id[:60]!r} stands in line {first} already; ids must differ")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            faulty += 1
            if faulty <= SHOWN_FAULTS:
                shown.append(f"{where}:{number}: {_said(error)[:SHOWN_CHARS]}")
            continue
        count += 1
        if not faulty:
            yield task
    if faulty:
        more = [f"... and {faulty - SHOWN_FAULTS} more"] if faulty > SHOWN_FAULTS else []
        raise BadInput("\n".join(shown + more))
    if not count:
        raise BadInput(f"{where}: no tasks; expected one JSON object a line in the {format} format")


def content_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _qa(row: dict[str, Any]) -> Task:
    documents = row.get("documents", [])
    if not isinstance(documents, list):
        raise ValueError("documents must be a list of texts")
    question = _text(row, "question")
    return Task(
        id=_id(row, "\n".join([question, *map(str, documents)])),
        question=question,
        answer=_text(row, "answer"),
        documents=tuple(documents),
    )


def _gsm8k(row: dict[str, Any]) -> Task:
    question, answer = _text(row, "question"), _text(row, "answer")
    final = answer.rpartition("####")[2].strip() if "####" in answer else ""
    if not final:
        raise ValueError("answer has no text after '####'")
    return Task(id=_id(row, question), question=question, answer=final.replace(",", ""))


def _chat(row: dict[str, Any]) -> Task:
    messages = row.get("messages")
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
    row = json.loads(line.decode("utf-8-sig"))
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, found {type(row).__name__}")
    return row


def _text(row: dict[str, Any], name: str) -> str:
    if name not in row:
        raise ValueError(f"no field {name!r}; found {', '.join(map(repr, sorted(row))) or 'no fields'}")
    value = row[name]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, found {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return value


def _id(row: dict[str, Any], content: str) -> str:
    given = row.get("id")
    if given is None:
        return content_id(content)
    if not isinstance(given, str | int) or not str(given):
        raise ValueError("id must be a text or a number")
    return str(given)


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
