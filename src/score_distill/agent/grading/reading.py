"""Reads a whole text as a value. Pure, without mathematics: formulas stay texts here."""

import re
from collections.abc import Callable
from typing import Any

from score_distill.agent.grading.brackets import closing, split
from score_distill.agent.grading.formulas import is_formula
from score_distill.agent.grading.identifiers import code, moment
from score_distill.agent.grading.measures import measured_formula, quantity
from score_distill.agent.grading.text import answer_of
from score_distill.agent.grading.values import (
    Choice,
    Formula,
    Items,
    Labelled,
    Nonsense,
    Number,
    Relation,
    Union,
    Value,
    Words,
)
from score_distill.agent.grading.vocabulary import NAMED_SETS, PROSE

_DEEPEST = 8
_MOST_ITEMS = 200

_CHOICE = re.compile(
    r"\(\s*(?P<a>[A-Ja-j])\s*\)\.?(?P<rest1>\s*[^\s,;&|∪^*/+=<>!-].*|)|(?P<b>[A-J]|[a-j](?=\)))(?:[).:]+(?P<rest2>\s+\S.*|)|\s+-\s+(?P<rest3>[^\W\d_]{3}.*)|)",
    re.DOTALL,
)
_MORE_CHOICES = re.compile(r"(?<![\w.])[A-J]\)|\n\s*[A-J][.:]\s|^(?:or|and|but|is|isn't)\b|^[A-J]\.?$|\bwait\b")
_CALL = re.compile(r"(?P<head>[A-Za-z_][\w.]*)\s*\(")
_SCALARS = frozenset(
    ("int", "float", "str", "Integer", "Float", "Decimal", "sympify", "S", "N", "bool", "bool_", "str_", "simplify")
)
_LISTS = {"array": "[]", "list": "[]", "tuple": "()", "set": "{}", "frozenset": "{}", "FiniteSet": "{}", "Tuple": "()"}
_LISTS |= {"dict_values": "[]", "dict_keys": "[]", "deque": "[]", "Point": "()", "Point2D": "()", "Point3D": "()"}
_INTERVALS = {"Interval": "[]", "Interval.open": "()", "Interval.Lopen": "(]", "Interval.Ropen": "[)"}
_EQUALITIES = {"Eq": "=", "Equality": "=", "Ne": "!=", "Gt": ">", "Ge": ">=", "Lt": "<", "Le": "<="}
_PRINTED = re.compile(r"[+-]?[\d.]+(?:[eE][+-]?\d+)?")
_SIGN = re.compile(r"<=|>=|!=|==|:=|≈|∈|→|=|<|>")
_MATRIX = re.compile(r"\\begin\s*\{([pbvBV]?(?:small)?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\s*\{\1\}", re.DOTALL)
_LABEL = re.compile(
    r"\\?[A-Za-zα-ω](?:_?\{?\w{0,8}\}?)?'?(?:\s*\(\s*[\w\s,.-]{0,40}\))?|[A-Za-z][A-Za-z _-]{1,40}"
    r"|\\frac\{d\^?\d?[a-z]?\}\{d[a-z]\^?\d?\}|d[a-z]/d[a-z]"
)
_PYTHON = re.compile(r"(?:math|np|numpy|sp|sympy|cmath|fractions|decimal|S|datetime)\.(?=[A-Za-z])")


def read(text: str) -> Value:
    """What an answer says."""
    return _read(answer_of(text), 0)


def _read(text: str, depth: int) -> Value:
    text = _PYTHON.sub("", text.strip())
    if depth > _DEEPEST or not text or len(text) > 5_000:
        return Words(text)
    for reader in _READERS:
        if (value := reader(text, depth + 1)) is not None:
            return value
    return Words(text)


def _choice(text: str, depth: int) -> Value | None:
    found = _CHOICE.fullmatch(text)
    if not found:
        return None
    rest = (found["rest1"] or found["rest2"] or found["rest3"] or "").strip()
    more = not re.match("both|only|neither|either", rest, re.IGNORECASE) and _MORE_CHOICES.search(rest)
    if (
        more
        or (found["rest3"] and PROSE & set(rest.casefold().split()))
        or re.match(rf"(?:.*\s)?{chr(ord(text.lstrip('( ')[0]) + 1)}[.:]\s", rest)
    ):
        return Words(text)
    return Choice((found["a"] or found["b"]).upper(), _read(rest, depth) if rest else None)


def _listed(text: str, depth: int) -> Value | None:
    if parts := split(text, _BETWEEN):
        if len(parts) > _MOST_ITEMS:
            return None
        values = tuple(_read(part, depth) for part in parts)
        first = values[0]
        if all(isinstance(one, Relation) and "=" not in one.signs for one in values):
            return Union(values, every=re.search(r"\bor\b", text) is None)
        if isinstance(first, Labelled) and not any(isinstance(one, Labelled | Relation) for one in values[1:]):
            values = (first.value, *values[1:])
        return Items(values)
    if len(text.split()) > 1 and all(map(_PRINTED.fullmatch, text.split())):
        return Items(tuple(_read(part, depth) for part in text.split()))
    return None


_BETWEEN = re.compile(r",?\s+(?:and|or)\s+|[,;\n、，]")


def _union(text: str, depth: int) -> Value | None:
    for between, every in ((re.compile("∪|(?<=[)\\]⦄}])\\s*U\\s*(?=[(\\[⦃{])"), False), (re.compile("∩"), True)):
        if parts := split(text, between):
            return Union(tuple(_read(part, depth) for part in parts), every)
    for between, every in ((re.compile(r"\|"), False), (re.compile("&"), True)):
        if text.startswith("(") and (parts := split(text, between)) and all(_SIGN.search(part) for part in parts):
            return Union(tuple(_read(part, depth) for part in parts), every)
    return None


def _call(text: str, depth: int) -> Value | None:
    """What Python or SymPy prints as a call: Interval(0, oo), Eq(y, 3*x), np.float64(3.0), Matrix([[1], [2]])."""
    found = _CALL.match(text)
    if not found or closing(text, found.end() - 1) != len(text) - 1:
        return None
    head, inside = found["head"], text[found.end() : -1]
    last = head.rpartition(".")[2]
    if last in _SCALARS or re.fullmatch(r"(?:float|int|uint)\d+", last):
        return _read(answer_of(inside), depth)
    if last in _LISTS and not inside.strip():
        return Words("∅" if _LISTS[last] == "{}" else "[]")
    arguments = [_read(answer_of(part), depth) for part in split(inside, re.compile(",")) or [inside]]
    if last in _LISTS:
        return _as_list(arguments, _LISTS[last])
    if last in ("Matrix", "ImmutableMatrix", "MutableDenseMatrix", "ImmutableDenseMatrix"):
        return _matrix(arguments[0])
    if head in _INTERVALS and len(arguments) >= 2:
        form = _INTERVALS[head]
        if len(arguments) == 4:
            left, right = (getattr(one, "text", "") == "True" for one in arguments[2:])
            form = ("(" if left else "[") + (")" if right else "]")
        return _interval(arguments[0], arguments[1], form)
    if last in ("Union", "Or", "Intersection", "And"):
        return Union(tuple(arguments), last in ("Intersection", "And"))
    if last in _EQUALITIES and len(arguments) == 2:
        return _related([*arguments], [_EQUALITIES[last]])
    if last == "EmptySet":
        return Words("∅")
    return None


def _as_list(arguments: list[Value], form: Any) -> Value:
    if len(arguments) == 1 and isinstance(arguments[0], Items) and arguments[0].form in ("[]", "()", "{}"):
        return Items(arguments[0].values, form if arguments[0].form != "{}" else "{}")
    return Items(tuple(arguments), form)


def _matrix(rows: Value) -> Value:
    if isinstance(rows, Items):
        return Items(tuple(_as_list([row], "()") if isinstance(row, Items) else row for row in rows.values), "matrix")
    return rows


def _interval(low: Value, high: Value, form: Any) -> Value:
    return Union((Items((low, high), form),))


def _bracketed(text: str, depth: int) -> Value | None:
    if (found := _MATRIX.fullmatch(text)) is not None:
        rows = [row for row in re.split(r"\\\\", found[2]) if row.strip()]
        return Items(tuple(Items(tuple(_read(one, depth) for one in row.split("&")), "()") for row in rows), "matrix")
    if text[0] == "⟨" and text[-1] == "⟩" and (parts := split(text[1:-1], re.compile(","))):
        return Items(tuple(_read(part, depth) for part in parts), "matrix")
    if text[0] not in "([{⦃" or len(text) < 2:
        return NAMED_SETS.get(text.casefold())
    if text[0] in "([" and text[-1] in ")]" and (ends := _ends(text)):
        return _interval(_read(ends[0], depth), _read(ends[1], depth), text[0] + text[-1])
    if text.startswith("[[") and "," not in text:
        text = re.sub(r"(?<=[\d.\]])\s+(?=[-\d.\[])", ", ", text)
    if closing(text, 0) != len(text) - 1:
        return None
    inside = text[1:-1].strip()
    if not inside:
        return Words("∅") if text[0] in "{⦃" else Words("[]")
    form = {"(": "()", "[": "[]", "{": "{}", "⦃": "{}"}[text[0]]
    parts = split(inside, re.compile(r"[,;\n]")) or ([inside[:-1]] if inside.endswith(",") else [])
    if not parts and text[0] == "[" and " " in inside and all(map(_PRINTED.fullmatch, inside.split())):
        parts = inside.split()
    if not parts:
        if text[0] == "(":
            inner = _read(inside, depth)
            return inner if isinstance(inner, Formula | Words) is False else None
        parts = [inside]
    if text[0] in "{⦃" and all(split(part, re.compile(":")) for part in parts):
        pairs = [split(part, re.compile(":")) for part in parts]
        return Items(
            tuple(Labelled(answer_of(pair[0]), _read(answer_of(":".join(pair[1:])), depth)) for pair in pairs), "{}"
        )
    return Items(tuple(_read(answer_of(part), depth) for part in parts), form)  # type: ignore[arg-type]


def _ends(text: str) -> list[str] | None:
    """The two ends of what can only be an interval: one bracket of each kind, or an end that is infinite."""
    mixed = (text[0] == "(") != (text[-1] == ")")
    inside = text[1:-1]
    depth = 0
    for letter in inside:
        depth += (letter in "([{") - (letter in ")]}")
        if depth < 0:
            return None
    parts = split(inside, re.compile("[,;]"))
    if len(parts) != 2 or depth:
        return None
    infinite = any(re.fullmatch(r"[+-]?\s*(?:oo|inf|infinity|∞|\\infty)", part) for part in parts)
    return parts if mixed or infinite else None


def _relation(text: str, depth: int) -> Value | None:
    if not _SIGN.search(text):
        return None
    sides, signs, start, at = [], [], 0, 0
    while at < len(text):
        if text[at] in "([{" and (end := closing(text, at)) is not None:
            at = end
        elif found := _SIGN.match(text, at):
            sides.append(text[start:at].strip())
            signs.append({"==": "=", ":=": "="}.get(found[0], found[0]))
            start = at = found.end()
            continue
        at += 1
    sides.append(text[start:].strip())
    if len(sides) < 2 or not all(sides) or len(sides) > 6 or "→" in signs:
        return Nonsense() if "→" in signs else None
    return _related([_read(side, depth) for side in sides], signs, sides)


def _related(sides: list[Value], signs: list[str], sources: list[str] | None = None) -> Value:
    if "∈" in signs:
        return _membership(sides[-1]) if signs == ["∈"] else Nonsense()
    if set(signs) <= {"=", "≈"}:
        names = sources or [getattr(one, "source", getattr(one, "text", "")) for one in sides]
        if (
            signs == ["="]
            and _LABEL.fullmatch(names[0])
            and not isinstance(sides[0], Number)
            and not _mentions(names[0], names[1])
        ):
            return Labelled(names[0], sides[1])
        if len(sides) > 2 and _LABEL.fullmatch(names[0]) and not isinstance(sides[0], Number):
            return Labelled(names[0], _related(sides[1:], signs[1:], names[1:]))
    return Relation(tuple(sides), tuple(signs))


def _membership(found: Value) -> Value:
    """What stands behind a sign of membership is a set, so a pair in brackets is an interval."""
    if isinstance(found, Items) and len(found.values) == 2 and found.form in ("()", "[]"):
        return _interval(found.values[0], found.values[1], found.form)
    return found


def _mentions(label: str, text: str) -> bool:
    return re.search(rf"(?<![A-Za-z\\]){re.escape(label)}(?![A-Za-z])", text) is not None


def _formula(text: str, depth: int) -> Value | None:
    if text.startswith("±"):
        inner = _read(text[1:], depth)
        minus = _read(f"-({text[1:].strip()})", depth)
        if isinstance(inner, Number):
            minus = Number(-inner.value, inner.digits)
        return Items((inner, minus), "{}")
    if "±" in text and is_formula(text.replace("±", "+")):
        return Items((Formula(text.replace("±", "+")), Formula(text.replace("±", "-"))), "{}")
    if is_formula(text):
        return Formula(text)
    return measured_formula(text)


_READERS: tuple[Callable[[str, int], Value | None], ...] = (
    _choice,
    lambda text, _: moment(text) or code(text) or quantity(text),
    _union,
    _call,
    _bracketed,
    _listed,
    _relation,
    _formula,
)
