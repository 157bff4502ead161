"""What a completion says, in the variations that servers give it. Pure."""

import json
from collections.abc import Mapping
from typing import Any


def content_of(content: Any) -> str:
    """What a message says: text, or a list of parts of which those that are text count, and reasoning does not."""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] in ("text", "output_text"))
    if not isinstance(content, str | None):
        raise TypeError(f"content is a {type(content).__name__}")
    return content or ""


def _finish(choice: Mapping[str, Any]) -> str:
    return str(choice.get("finish_reason") or "").lower()


def truncated(choice: Mapping[str, Any]) -> bool:
    """Whether the bound of tokens ended the reply; a reply that the server itself gave up is none."""
    reason = _finish(choice)
    if reason in ("abort", "error"):
        raise ValueError(f"finish_reason {reason}")
    return reason in ("length", "max_tokens", "max_output_tokens", "model_length")


def filtered(choice: Mapping[str, Any]) -> bool:
    return _finish(choice) in ("content_filter", "safety", "refusal", "sensitive", "prohibited_content", "recitation")


def unusable(content: bytes, error: Exception) -> str:
    """What came instead of a completion."""
    start = content.lstrip()[:6].lower()
    if not start:
        return "the reply is empty"
    if start.startswith(b"<"):
        return "an HTML page; is the URL that of the API, up to and with /v1?"
    if start.startswith((b"data:", b"event:", b":")):
        return "a stream of events, which nobody asked for"
    if isinstance(error, json.JSONDecodeError):
        cut = start.startswith((b"{", b"[")) and not content.rstrip().endswith((b"}", b"]"))
        return "JSON that ends early" if cut else f"no JSON: {error}"
    return f"{type(error).__name__}: {error}"
