"""A model folder's chat template, rendered as transformers does (utils/chat_template_utils.py there)."""

import json
from collections.abc import Sequence
from datetime import date, datetime, time
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from score_distill.errors import BadInput

Message = dict[str, str]
_SYSTEM = "\ue000system\ue001"


class ChatFormatError(BadInput):
    """The model folder's tokenizer or chat template cannot be used; the message says why."""


class ChatTemplate:
    """Raises ChatFormatError when there is no template, or it is not Jinja.

    ``day`` is what a template that asks for the date is told, so that every step of a run sees the same; today if None.
    """

    def __init__(self, folder: Path, day: date | None = None) -> None:
        self.folder = folder
        config = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
        self._tokens = {
            name: value["content"] if isinstance(value, dict) else value
            for name in ("bos_token", "eos_token", "pad_token", "unk_token")
            if (value := config.get(name)) is not None
        }
        moment = datetime.combine(day or date.today(), time())
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )
        environment.globals |= {"raise_exception": _refuse, "strftime_now": moment.strftime}
        environment.filters["tojson"] = _as_json
        try:
            text, self.in_json = _template(folder, config)
            self._template = environment.from_string(text)
        except TemplateError as error:
            raise ChatFormatError(f"{folder}: the chat template is not Jinja: {error}") from error

    def render(self, messages: Sequence[Message]) -> str:
        """The text up to where the assistant goes on. Raises ChatFormatError when the template refuses or fails."""
        try:
            return self._template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=True, **self._tokens
            )
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise ChatFormatError(f"{self.folder}: the chat template fails: {error}") from error

    @cached_property
    def takes_system(self) -> bool:
        """Whether it shows a system message, rather than refusing it or leaving it out."""
        messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "user"}]
        try:
            return _SYSTEM in self.render(messages)
        except ChatFormatError:
            return False


class _Generation(Extension):
    """The tags ``{% generation %}`` of templates that mark what assistants write; they print nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _as_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
    except ValueError as error:
        raise ChatFormatError(f"{path}: not JSON: {error}") from error


def _template(folder: Path, config: dict[str, Any]) -> tuple[str, bool]:
    """The template, and whether it stands in chat_template.json alone, which is for models that take images too."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text("utf-8"), False
    template = config.get("chat_template")
    beside = None if template else _read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(template, list):
        template = {one["name"]: one["template"] for one in template}.get("default")
    if not (template or beside):
        raise ChatFormatError(
            f"{folder}: no chat template (chat_template.jinja, or chat_template in tokenizer_config.json or "
            "chat_template.json); use an instruct model, or add the template it was trained with"
        )
    return str(template or beside), not template
