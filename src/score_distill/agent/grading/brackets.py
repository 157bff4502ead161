"""Texts with brackets: where one closes, and the parts outside of them."""

import re


def closing(text: str, opening: int) -> int | None:
    """Where the bracket that opens at ``opening`` closes."""
    kind, depth = text[opening], 0
    close = {"(": ")", "[": "]", "{": "}", "⦃": "⦄"}[kind]
    for at in range(opening, len(text)):
        if text[at - 1 : at] == "\\" and kind == "{":
            continue
        depth += (text[at] == kind) - (text[at] == close)
        if not depth:
            return at
    return None


def split(text: str, between: re.Pattern[str]) -> list[str]:
    """The parts of a text between separators outside of brackets; nothing when there is none, or one is empty."""
    parts, start, at, depth = [], 0, 0, 0
    while at < len(text):
        depth = max(0, depth + (text[at] in "([{⦃") - (text[at] in ")]}⦄"))
        found = between.match(text, at) if not depth else None
        if found and found[0] and not _is_thousands(text, at, found[0]):
            parts.append(text[start:at])
            start = at = found.end()
            continue
        at += 1
    if not parts:
        return []
    parts = [part.strip() for part in (*parts, text[start:])]
    if not parts[-1]:
        parts.pop()
    return parts if all(parts) and len(parts) > 1 else []


def _is_thousands(text: str, at: int, separator: str) -> bool:
    return separator == "," and text[at - 1 : at].isdigit() and re.match(r"\d{3}(?!\d)", text[at + 1 :]) is not None
