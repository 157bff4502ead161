"""Words of texts in any script: where a script writes no spaces between words, each character is one."""

import re
import unicodedata

# Thai, Lao, Burmese, Khmer, kana, Chinese characters
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_CHARACTER = re.compile(rf"[{_SPACELESS}]")
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+")
_TOKEN = re.compile(
    rf"\d+\.\d+|\d+|\.\d+|[{_SPACELESS}]|[^\W\d{_SPACELESS}][^\W{_SPACELESS}]*|[^\w\s.,;:!?\"'()\[\]{{}}$]"
)


def words(text: str) -> list[str]:
    """The words of a text, whatever their case and width."""
    return _WORD.findall(_folded(text))


def spaceless(word: str) -> bool:
    """Whether a word is one character of a script that writes no spaces."""
    return len(word) == 1 and _CHARACTER.match(word) is not None


def tokens(text: str) -> list[str]:
    """Words, numbers and operators, without the punctuation around them."""
    return _TOKEN.findall(_folded(text))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
