"""What a model reads of the error that its code ended with: where in its code, which it is, and its notes."""

import linecache
import traceback
from itertools import islice

_GROUPED = 16  # errors shown of a group


def remember(code: str, number: int) -> str:
    """The name of a step's source, by which tracebacks and ``inspect`` find its lines."""
    name = f"<step {number}>"
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    return name


def described(error: BaseException, code: str, name: str) -> str:
    """``error`` as the step of ``code``, whose source is called ``name``, ended with it."""
    lines = _lines(error)
    if isinstance(error, BaseExceptionGroup):
        lines += [f"  {line}" for inner in islice(_leaves(error), _GROUPED) for line in _lines(inner)]
    if not isinstance(error, SyntaxError) and (place := _place(error, code, name)):
        lines.insert(0, place)
    return "\n".join(lines)


def _lines(error: BaseException) -> list[str]:
    """With its notes; a syntax error also with its line and where in that it is."""
    return "".join(traceback.format_exception_only(type(error), error)).rstrip("\n").split("\n")


def _leaves(group: BaseExceptionGroup[BaseException]) -> "list[BaseException]":
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending and len(leaves) < _GROUPED:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(reversed(error.exceptions))
        else:
            leaves.append(error)
    return leaves


def _place(error: BaseException, code: str, name: str) -> str | None:
    """The last line of the session's own code that led to ``error``; of a step of one line there is nothing to say."""
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if (file := frame.f_code.co_filename).startswith("<step "):
            found = file, line, frame.f_code.co_name
    if found is None or (found[0] == name and "\n" not in code.strip()):
        return None
    file, line, function = found
    where = f"line {line}" if file == name else f"{file.strip('<>')}, line {line}"
    within = "" if function.startswith("<") else f", in {function}"
    return f"{where}{within}:"
