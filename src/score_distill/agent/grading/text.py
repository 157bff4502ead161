"""One form for what is only typography, and the answer without what stands around it."""

import re
import unicodedata

from score_distill.agent.grading.brackets import closing

_MARKS = str.maketrans(
    dict.fromkeys("‐‑‒–—―−﹣", "-")
    | dict.fromkeys("‘’‚‛′`´", "'")
    | dict.fromkeys("“”„‟″«»「」『』", '"')
    | dict.fromkeys("∗×·⋅∙", "*")
    | {
        "÷": "/",
        "⁄": "/",
        "∕": "/",
        "≤": "<=",
        "≥": ">=",
        "≦": "<=",
        "≧": ">=",
        "≠": "!=",
        "≃": "≈",
        "≅": "≈",
        "∼": "≈",
    }
    | {letter: f"\\mathbb{{{letter_of}}}" for letter, letter_of in zip("ℂℕℚℝℤ", "CNQRZ", strict=True)}
    | {"、": ",", "。": ".", "｡": ".", "\N{ZERO WIDTH SPACE}": "", "\N{WORD JOINER}": "", "\ufeff": ""}
)
_RAISED = {**dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True)), "⁻": "-", "⁺": "", "ⁿ": "n", "ⁱ": "i"}
_LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))

_SETS = {"C": "ℂ", "N": "ℕ", "Q": "ℚ", "R": "ℝ", "Z": "ℤ"}

# Commands that say nothing, or that have one letter of their own; what stays with a backslash is for LaTeX's parser.
_SILENT = re.compile(
    r"\\(?:left|right|big|Big|bigg|Bigg|bigl|bigr|displaystyle|textstyle|limits|nolimits)(?![A-Za-z])\.?|\\[!]|\\phantom\{[^{}]*\}"
)
_SPACES = re.compile(r"(?<!\\)\\[,;:> ]|\\q?quad(?![A-Za-z])|(?<=[^\s\\])~|\\(?:\n|$)")
_WORDS = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|mathrm|mathbf|mathit|mathsf|mbox|hbox|operatorname|boldsymbol|bm)\*?"
    r"\s*\{([^{}]*)\}"
)
_LETTERS = [
    (re.compile(rf"\\(?:{names})(?![A-Za-z])"), letter)
    for names, letter in (
        ("cup|bigcup", "∪"),
        ("cap|bigcap", "∩"),
        ("leq?|leqslant|leqq", "<="),
        ("geq?|geqslant|geqq", ">="),
        ("lt", "<"),
        ("gt", ">"),
        ("neq?", "!="),
        ("in", "∈"),
        ("approx|simeq|cong|sim|thickapprox", "≈"),
        ("pm", "±"),
        ("mp", "±"),
        ("ldots|dots|cdots|dotsc|dotsb", "…"),
        ("emptyset|varnothing", "∅"),
        ("degree", "°"),
        ("lor|vee", "∨"),
        ("land|wedge", "∧"),
        ("colon", ":"),
        ("to|rightarrow|longrightarrow|implies|Rightarrow|mapsto", "→"),
        ("langle", "⟨"),
        ("rangle", "⟩"),
        ("lbrace", "⦃"),
        ("rbrace", "⦄"),
    )
]
_SCIENTIFIC = re.compile(
    r"(?<![\w.])(\d+(?:\.\d+)?)\s*(?:\\times|\\cdot|\*|x(?=\s*10))\s*10\s*(?:\^|\*\*)\s*[{(]?\s*([+-]?\d{1,4})\s*[})]?(?![\w.!^*])"
)
_ELLIPSIS = re.compile(r"\.{3,}|…|⋯")

_FORMATTED = re.compile(
    r"(\*\*|__|\*|```|''|\"\"\"|\"|')(?!\s)(?P<inside>.+?)(?<!\s)\1|\\\((?P<inline>.*)\\\)|\\\[(?P<display>.*)\\\]",
    re.DOTALL,
)
_EMPHASISED = re.compile(r"^(\*\*|__)(\(?[A-J]\)?[.:)]?)\1")
_TAGGED = re.compile(r"<answer>(.*)</answer>", re.DOTALL)
_INLINE = re.compile(r"(?<!\\)\$\$?([^\s$](?:[^$]*[^\s$])?)(?<!\\)\$\$?(?!\d)")
_LEAD = re.compile(
    r"""(?:(?:so|thus|therefore|hence|then|finally)\b[\s,:]*)*
    (?:(?:the|my|our)\s+)?(?:(?:final|correct|right|overall|best)\s+)?
    (?:answer|result|solution|option|choice|答案|结果)
    (?:\s*(?:\b(?:is|are|was|equals|must\sbe|should\sbe|will\sbe)\b|[:=是为])\s*)+:?\s*
    |(?:option|choice|answer)\s+(?=\(?[A-J]\)?[.:)]?$)
    |(?P<b>\*\*|__)(?:(?:the|my)\s+)?(?:final\s+)?(?:answer|result|solution)\s*(?::\s*(?P=b)|(?P=b)\s*:)\s*
    |\#+\s+|=\s*(?==?[^=])|=\s*(?=[^=\s])""",
    re.VERBOSE | re.IGNORECASE,
)
_MOST_LAYERS = 12


def plain(text: str) -> str:
    """Width, dashes, quotes, raised digits, fractions of one letter and digits of other scripts in one form."""
    text = re.sub(f"[{''.join(_RAISED)}]+", lambda found: _power(found[0]), text)
    text = re.sub(f"[{''.join(_LOWERED)}]+", lambda found: "_" + "".join(_LOWERED[one] for one in found[0]), text)
    text = "".join(map(_digit_or_fraction, text))
    text = re.sub(r"(?<=\d)\ue000", " ", text).replace("\ue000", "")
    return unicodedata.normalize("NFKC", text.translate(_MARKS)).translate(_MARKS)


def answer_of(text: str) -> str:
    """The answer without quotes, marks of emphasis and of mathematics, ``\\boxed{}``, "the answer is" and a full stop.

    LaTeX's commands for words and spaces are gone; several answers, each marked by itself, are told apart by commas.
    """
    text = re.sub(r"^\s*[~∼]\s*(?=\d)", "≈", plain(text))
    for _ in range(_MOST_LAYERS):
        before, text = text, _peeled(text.strip())
        if text == before:
            break
    text = _simple(text)
    if found := _LEAD.match(text):
        text = text[found.end() :]
    text = _SCIENTIFIC.sub(r"\1e\2", text)
    return " ".join(text.split(" ")).strip()


def _peeled(text: str) -> str:
    text = _EMPHASISED.sub(r"\2", _without_stop(text))
    if (found := _TAGGED.fullmatch(text)) and "<answer" not in found[1]:
        return str(found[1])
    if (found := _FORMATTED.fullmatch(text)) and not (found[1] and found[1] in found["inside"]):
        return str(found["inside"] or found["inline"] or found["display"] or "")
    text = _each(text, _boxes(text))
    text = _each(text, [(found.start(), found.end(), found[1]) for found in _INLINE.finditer(text)])
    if found := _LEAD.match(text):
        return text[found.end() :]
    return text


def _each(text: str, spans: list[tuple[int, int, str]]) -> str:
    """The text with the inside of each span in its place, and a comma between two that nothing else tells apart."""
    parts: list[str] = []
    at = 0
    for start, end, inside in spans:
        between = text[at:start]
        parts += [", " if parts and not between.strip() else between, inside]
        at = end
    return "".join([*parts, " " if spans and text[at : at + 1].isdigit() else "", text[at:]])


def _boxes(text: str) -> list[tuple[int, int, str]]:
    found = []
    at = 0
    while (box := re.compile(r"\\f?boxed?\s*\{").search(text, at)) and (
        end := closing(text, box.end() - 1)
    ) is not None:
        found.append((box.start(), end + 1, text[box.end() : end]))
        at = end + 1
    return found


def _simple(text: str) -> str:
    text = text.replace("\\{", "⦃").replace("\\}", "⦄").replace("\\%", "%").replace("\\$", "$").replace("\\&", "&")
    text = re.sub(r",\s*\\!\s*|\{,\}", ",", text)
    text = re.sub(r"\\[dtc]frac(?![A-Za-z])", r"\\frac", _SILENT.sub("", text))
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "°", text)
    text = re.sub(r"\\mathbb\s*\{?\s*([CNQRZ])\s*\}?", lambda found: _SETS[found[1]], text)
    text = _ELLIPSIS.sub("…", text)
    for _ in range(3):
        text = _WORDS.sub(r" \1 ", text)
    for pattern, letter in _LETTERS:
        text = pattern.sub(f" {letter} ", text)
    if re.search("[<>=∈]", text):
        text = text.replace("∨", " or ").replace("∧", " and ")
    text = re.sub(r"\s+(\^|\*\*)", r"\1", _SPACES.sub(" ", text))
    return re.sub(r"[^\S\n]+", " ", text).strip()


def _without_stop(text: str) -> str:
    if text.endswith(".") and not text.endswith("..") and not re.search(r"(?:^|\W)\w(?:\.\w)+\.$", text):
        text = text[:-1].rstrip()
    return text.strip(" \t\n,;")


def _power(raised: str) -> str:
    power = "".join(_RAISED[one] for one in raised)
    return f"^{power}" if power.isalnum() else f"^({power})"


def _digit_or_fraction(letter: str) -> str:
    if letter.isascii():
        return letter
    if unicodedata.decomposition(letter).startswith("<fraction>"):
        return "\ue000" + unicodedata.normalize("NFKC", letter).replace("⁄", "/")
    digit = unicodedata.decimal(letter, None)
    return letter if digit is None else str(digit)
