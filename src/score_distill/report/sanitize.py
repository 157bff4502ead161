"""Text that models wrote, made fit to be shown: cut to a length, and with nothing in it that acts or hides.

Escaping for HTML is the template's work. This keeps out what escaping does not: control characters (a terminal obeys
them), characters that turn the direction of a line, lone surrogates (no file can hold them), and a text of megabytes.
"""

import unicodedata

KEPT = frozenset("\n\t\u200c\u200d")
UNSHOWABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def legible(text: str, limit: int) -> str:
    """At most about ``limit`` characters of ``text``, cut in the middle, the unshowable ones as their code points."""
    if len(text) <= limit:
        return shown(text)
    half = limit // 2
    gap = f"\n[... {len(text) - 2 * half:,} characters left out ...]\n"
    return shown(text[:half]) + gap + shown(text[-half:])


def one_line(text: str, limit: int) -> str:
    """The same on one line, for a label; cut at the end."""
    flat = " ".join(text[: 4 * limit].split())
    return shown(flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…")


def shown(text: str) -> str:
    """``text`` with every character that would act, or not be seen, as ``⟨U+001B⟩``."""
    return "".join(
        char if char in KEPT or unicodedata.category(char) not in UNSHOWABLE else f"⟨U+{ord(char):04X}⟩"
        for char in text
    )
