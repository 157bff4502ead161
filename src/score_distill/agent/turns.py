"""What an assistant's reply says: reasoning, then one turn, then a tail.

    turn = plan | thought code | text without code
    plan = <first_thought>…</first_thought>
    code = <code>…</code> | a fence of Python | a bare fence, where there is nothing better

Reasoning stands between marks such as ``<think>`` and ``</think>``, or before a closing mark alone. The first code is
the step; the tail is what follows it, such as an observation that the model invents. Neither is executed. Marks and
ends in a string or a comment of the code are none: Python's syntax decides. Texts are hostile: all work is bounded.
"""

import ast
import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

OPENERS, ENDS, PARSED_CHARS = 16, 32, 40_000  # most openings and marks looked at, ends of one, characters parsed

_NAME = r"(?:\w+:)?(?:think|thinking|reason|reasoning|reflection|analysis|scratchpad)"
_OPENING_MARK = rf"<{_NAME}(?:\s[^<>]*)?>|\[think\]|<\|start_thinking\|>|<\|begin_of_thought\|>|◁think▷|<unused94>"
_CLOSING_MARK = rf"</{_NAME}\s*>|\[/think\]|<\|end_thinking\|>|<\|end_of_thought\|>|◁/think▷|<unused95>"
_CHANNEL = r"<\|channel\|>(?:analysis|commentary)[^<]*<\|message\|>"
_MARK = re.compile(
    rf"(?<!(?<!``)`)(?:(?P<opens>{_OPENING_MARK}|{_CHANNEL})"
    rf"|{_CLOSING_MARK}|<\|channel\|>final[^<]*<\|message\|>|(?-i:assistantfinal))",
    re.IGNORECASE,
)
_MARK_TOKEN = re.compile(rf"{_OPENING_MARK}|{_CLOSING_MARK}|<\|(?:channel|message)\|>", re.IGNORECASE)

_OPENER = re.compile(
    r"(?<!`)<code(?P<about>\s[^<>]*)?>|(?P<fence>(?<!`)`{3,}+|^[ \t]*~{3,}+)(?P<info>[^\n`<]*)(?=\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSING_TAG = re.compile(r"</code\s*>", re.IGNORECASE)
_PYTHON = re.compile(r"\W*(?:language-)?(?:i?py(?:thon)?[\d.]*|jupyter|tool_code)(?![\w+-])", re.IGNORECASE)
_MARKUP = re.compile(r"(?:xml|html|markdown|md)\b", re.IGNORECASE)
_ABOUT = re.compile(r"(?:lang|language|class|type)\s*=\s*[\"']?([^\"'>]*)", re.IGNORECASE)
_QUOTED = re.compile(
    r"'''[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+'''"
    r'|"""[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+"""'
    r"|'(?:\\.|[^'\\\n])*+'"
    r'|"(?:\\.|[^"\\\n])*+"'
    r"|(?P<comment>\#[^\n]*)",
    re.DOTALL,
)
_THOUGHT = re.compile(
    r"<(?P<name>(?:first_)?thought)>(?:(?!<(?:first_)?thought>).)*?(?P<end></(?P=name)>)", re.IGNORECASE | re.DOTALL
)
_TAGGED = re.compile(r"<thought>(.*?)(?:</thought>|\Z)", re.IGNORECASE | re.DOTALL)
_PLAN = re.compile(r"<first_thought>(.*?)(?:</first_thought>|\Z)", re.IGNORECASE | re.DOTALL)
_STRAY = re.compile(r"</(?:first_)?thought>", re.IGNORECASE)
_OBSERVED = re.compile(r"^[ \t*]*Observation[ \t*]*:", re.IGNORECASE | re.MULTILINE)
_NO_CODE = re.compile(r"^[ \t]*(?:(?:Observation|Output)[ \t]*:|</?(?:first_)?thought>|`{3}|<\|)", re.I | re.M)
_NO_PROSE = re.compile(r"\s*(?:<|\n|\Z|Observation|Output)", re.IGNORECASE)


class Turn(NamedTuple):
    """What a turn says: ``code`` None when it has none, ``plan`` when it is a first thought."""

    thought: str
    code: str | None
    plan: bool


class Reply(NamedTuple):
    """A reply that was read: its turn as written, without reasoning and tail, and where in the reply that ends."""

    turn: Turn
    text: str
    end: int


def parse_turn(text: str) -> Turn:
    """What the turn in a reply says."""
    return read_reply(text).turn


def write_turn(turn: Turn) -> str:
    """The normal form of a turn, for steps that a teacher wrote in its own way."""
    thought = re.sub(r"^\s*(?:first\s+)?thought\s*:\s*", "", turn.thought, flags=re.IGNORECASE)
    if turn.plan:
        return f"<first_thought>{thought}</first_thought>"
    return f"<thought>{thought}</thought><code>{turn.code or ''}</code>"


def read_reply(text: str) -> Reply:
    """Find the turn in what a model wrote."""
    reasoning = _reasoning(text)
    said = _without(text, reasoning)
    turn, end = _turn(said)
    kept = said[:end] if said[end:].strip() else said
    cut_off = turn.code is None and not turn.plan and end == len(said)
    return Reply(turn, kept.lstrip() if reasoning else kept, len(text) if cut_off else _place(end, reasoning))


def without_reasoning(text: str) -> str:
    return _without(text, _reasoning(text))


def end_of_reasoning(prompt: str) -> str:
    """What ends the reasoning that a prompt leaves open, as those of R1-like models do; empty when it opens none."""
    opened = re.search(r"<(\w[\w:]*)>\s*\Z|\[(THINK)\]\s*\Z", prompt)
    if opened is None or not is_reasoning_mark(opened[0].strip()):
        return ""
    return f"</{opened[1]}>" if opened[1] else f"[/{opened[2]}]"


def is_reasoning_mark(token: str) -> bool:
    """Whether a token tells reasoning from the turn: a special one must then be read as text."""
    return _MARK_TOKEN.fullmatch(token) is not None


def _reasoning(text: str) -> list[tuple[int, int]]:
    """The spans of a reply that are reasoning. A closing mark without an opening one ends all that stands before it."""
    marks = list(_MARK.finditer(text))
    closings = [mark for mark in marks if not mark["opens"]]
    spans: list[tuple[int, int]] = []
    at = 0
    for number, mark in enumerate(marks):
        if mark.start() < at:
            continue
        if number < OPENERS and (code := _code_around(text, at, mark.start())):
            at = code.end
        elif not mark["opens"]:
            if spans and not text[mark.end() :].strip():
                break
            at = mark.end()
            spans = [(0, at)]
        elif closings and closings[-1].start() > mark.start():
            at = next(one.end() for one in closings if one.start() > mark.start())
            spans.append((mark.start(), at))
        elif not text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()].strip():
            return [*spans, (mark.start(), len(text))]
    return spans


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    starts, ends = [0, *(end for _, end in spans)], [*(start for start, _ in spans), len(text)]
    return "".join(text[start:end] for start, end in zip(starts, ends, strict=True))


def _place(at: int, spans: list[tuple[int, int]]) -> int:
    """Where a place in the text without ``spans`` stands in the text with them."""
    for start, end in spans:
        if at > start or start == 0:
            at += end - start
    return at


class _Block(NamedTuple):
    """A piece of a reply that may be its code, from its opening to its end."""

    start: int
    end: int
    code: str
    parses: bool
    closed: bool


def _turn(text: str) -> tuple[Turn, int]:
    """The turn in a reply without reasoning, and where it ends."""
    thoughts = list(islice(_THOUGHT.finditer(text), OPENERS))
    after = thoughts[0].end() if thoughts else len(text) - len(text.lstrip()) + 1
    observed = _OBSERVED.search(text, after)
    block = _code(text, thoughts, observed.start() if thoughts and observed else len(text))
    if block:
        return Turn(_thought(text[: block.start]), _clean(block.code).rstrip("\n"), False), block.end
    end = observed.start() if observed else len(text)
    if plan := _PLAN.search(text, 0, end):
        return Turn(_clean(plan[1]).strip(), None, True), plan.end()
    return Turn(_thought(text[:end]), None, False), end


def _thought(before: str) -> str:
    """The thought in what stands before the code: in its tags, or all of it."""
    tagged = _TAGGED.search(before) or _PLAN.search(before)
    return _clean(tagged[1] if tagged else _STRAY.sub("", before)).strip()


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n")


def _code(text: str, thoughts: list[re.Match[str]], limit: int) -> _Block | None:
    """The first code of a reply that starts before ``limit``. What only names a tag or a fence is none."""
    unsure: list[_Block] = []
    bare: list[_Block] = []
    within: list[_Block] = []
    for opener in islice(_openers(text, limit), OPENERS):
        if unsure and _OBSERVED.search(text, unsure[0].end, opener.start()):
            break
        block = _block(text, opener)
        line = text[text.rfind("\n", 0, opener.start()) + 1 : opener.start()].rstrip()
        alone = not line or line.endswith(">")
        if thought := next((one for one in thoughts if one.start() < opener.start() < one.end()), None):
            if not block.parses or (block.end < thought.end() and text[block.end : thought.start("end")].strip()):
                continue
            if block.end < thought.end():
                within += [block] if thought["name"].lower() == "thought" else []
                continue
        if opener["fence"] and not _PYTHON.match(opener["info"]):
            bare.append(block)
        elif not alone and not _NO_PROSE.match(text, block.end) and "\n" not in text[opener.end() : block.end]:
            continue
        elif (block.parses and block.code.strip()) or _stands(text, opener, block, alone):
            return block
        else:
            unsure.append(block)
    return next(iter([*within, *(one for one in bare if one.parses and one.code.strip()), *unsure, *bare]), None)


def _stands(text: str, opener: re.Match[str], block: _Block, alone: bool) -> bool:
    """Whether a block that is no Python, or empty, is still the step, and not a tag or fence that was only named."""
    if not block.closed or any(one.end() < block.end for one in _python(text, opener.end(), block.end)):
        return False
    if opener["fence"]:
        return bool(block.code.strip()) and not text[block.end : block.end + 1].isalnum()
    return alone


def _openers(text: str, limit: int) -> Iterator[re.Match[str]]:
    """What may open code; blocks of other languages are passed over whole, and bare ones that hold no tag."""
    at = 0
    while (opener := _OPENER.search(text, at)) and opener.start() < limit:
        at = opener.end()
        about = opener["info"] if opener["fence"] else _language(opener["about"])
        if _PYTHON.match(about) or (not about.strip() and not opener["fence"]):
            yield opener
            continue
        alone = not text[text.rfind("\n", 0, opener.start()) + 1 : opener.start()].strip()
        if _MARKUP.match(about.strip()) or not alone:
            continue
        end = _CLOSING_TAG.search(text, at) if not opener["fence"] else _closing_fence(opener).search(text, at)
        if not about.strip():
            yield opener
        if not end or (_STRAY.search(text, at, end.start()) if about.strip() else _python(text, at, end.start())):
            continue
        at = end.end()


def _language(about: str | None) -> str:
    found = _ABOUT.search(about or "")
    return found[1] if found else ""


def _closing_fence(opener: re.Match[str]) -> re.Pattern[str]:
    fence = opener["fence"].strip()
    return re.compile(rf"^[ \t]*{fence[0]}{{{len(fence)},}}[ \t\r]*$", re.MULTILINE)


def _code_around(text: str, since: int, place: int) -> _Block | None:
    """The code that begins after ``since`` and in which ``place`` stands, so in a string or comment of it."""
    blocks = (_block(text, one) for one in _python(text, since, place))
    return next((one for one in blocks if one.closed and one.parses and one.end > place), None)


def _python(text: str, start: int, end: int) -> list[re.Match[str]]:
    """What opens a block of Python between two places."""
    found = islice(_OPENER.finditer(text, start, end), OPENERS)
    return [one for one in found if not one["fence"] or _PYTHON.match(one["info"])]


def _block(text: str, opener: re.Match[str]) -> _Block:
    start = opener.end()
    if opener["fence"]:
        fence = opener["fence"].strip()
        before, after = (r"^[ \t]*", r"(?![\w(~-])") if fence[0] == "~" else (r"(?<!`)", "")
        closing = re.compile(rf"{before}{fence[0]}{{{len(fence)},}}{after}", re.MULTILINE)
        start = min(start + 1, len(text))
        indent = opener.start() + len(opener["fence"]) - len(opener["fence"].lstrip())
        indent -= text.rfind("\n", 0, indent) + 1
    else:
        closing, indent = _CLOSING_TAG, 0
    ends = list(islice(closing.finditer(text, start), ENDS))
    quoted = _quoted(text, start, ends, opener)
    free = [one for one in ends if one.start() not in quoted]
    for end in [*free[:2], *(one for one in ends if one.start() in quoted)][:4]:
        code = _unwrapped(text[start : end.start()], indent)
        if _parses(code):
            return _Block(opener.start(), end.end(), code, True, True)
    if ends:
        end = free[0] if free else ends[0]
        return _Block(opener.start(), end.end(), _unwrapped(text[start : end.start()], indent), False, True)
    spans = [one.span() for one in _QUOTED.finditer(text, start)]
    cuts = (one.start() for one in islice(_NO_CODE.finditer(text, start), ENDS))
    cut = next((at for at in cuts if not any(begin < at < end for begin, end in spans)), None)
    code = _unwrapped(text[start:cut], indent)
    return _Block(opener.start(), len(text) if cut is None else cut, code, _parses(code), cut is not None)


def _quoted(text: str, start: int, ends: list[re.Match[str]], opener: re.Match[str]) -> set[int]:
    """Which ends stand in a string, or in a comment that is followed by another end of the same block."""
    found: set[int] = set()
    if not ends:
        return found
    places = [one.start() for one in ends]
    for span in _QUOTED.finditer(text, start):
        if span.start() > places[-1]:
            break
        for number, place in enumerate(places):
            if span.start() < place < span.end():
                more = number + 1 < len(places)
                if not span["comment"] or (more and not _opens(text, place + 1, places[number + 1], opener)):
                    found.add(place)
    return found


def _opens(text: str, start: int, end: int, opener: re.Match[str]) -> bool:
    """Whether another block of the same form opens between two places."""
    found = _OPENER.finditer(text, start, end)
    return any(bool(one["fence"]) is bool(opener["fence"]) for one in found)


def _unwrapped(code: str, indent: int = 0) -> str:
    """The code without the fence that stands around it inside of tags, and without the indentation of its own fence."""
    inner = re.match(r"\s*(`{3,}|~{3,})[^\n`]*\n", code)
    if inner:
        rest = code[inner.end() :]
        end = re.search(rf"{inner[1]}\s*\Z", rest) or re.search(rf"^[ \t]*{inner[1]}", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest
    if indent:
        return re.sub(rf"^[ \t]{{1,{indent}}}", "", code, flags=re.MULTILINE)
    return re.sub(r"\A(?:\s*python3?[ \t]*\r?\n|\r?\n)", "", code)


def _parses(code: str) -> bool:
    """Whether it is Python; what is too long to ask is taken for it."""
    if len(code) > PARSED_CHARS:
        return True
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
