"""Conversations as token ids, appended to and never re-tokenised.

A model folder's tokenizer and chat template say how turns look. From them come the ids before the first assistant
turn, the ids of an assistant turn with its end, and the ids between that end and the next turn. A conversation is the
sum of these pieces, in collection, training and serving alike. What models, tools or tasks wrote is encoded with
control tokens as plain text, so nobody can forge a turn.
"""

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from score_distill.agent.trajectory import Step
from score_distill.agent.turns import is_reasoning_mark
from score_distill.errors import BadInput

Message = dict[str, str]
TAGS = {f"<{end}{name}>" for name in ("code", "thought", "first_thought") for end in ("", "/")}
_USER, _TURN, _NEXT = "\ue000user\ue001", "\ue000turn\ue001", "\ue000next\ue001"


class ChatFormatError(BadInput):
    """The model folder's tokenizer or chat template cannot be used; the message says why."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of a conversation and, for each, 1 where it is an assistant's turn (its end included), else 0."""

    ids: tuple[int, ...]
    mask: tuple[int, ...]


class ChatFormat:
    """How one model writes conversations.

    Raises ChatFormatError when the folder has no usable tokenizer.json, no chat template, a template whose assistant
    turns do not end in a special token, or the tags of the turn format as special tokens.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "tokenizer.json").is_file():
            raise ChatFormatError(f"{folder}: no tokenizer.json; save the model with a fast tokenizer")
        text = (folder / "tokenizer.json").read_text("utf-8")
        try:
            self._tokenizer, self._content = Tokenizer.from_str(text), Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises nothing narrower
            raise ChatFormatError(f"{folder}: tokenizer.json cannot be read: {error}") from error
        self._content.encode_special_tokens = True
        config = _read_json(folder / "tokenizer_config.json")
        self._tokens = {
            name: value["content"] if isinstance(value, dict) else value
            for name in ("bos_token", "eos_token", "pad_token", "unk_token")
            if (value := config.get(name)) is not None
        }
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
        )
        environment.globals["raise_exception"] = _refuse
        environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
        try:
            self._template = environment.from_string(_template(folder, config))
        except TemplateError as error:
            raise ChatFormatError(f"{folder}: the chat template is not Jinja: {error}") from error
        conversation = [_message("user", _USER), _message("assistant", _TURN), _message("user", _NEXT)]
        rendered = self._render(conversation)
        try:
            between = rendered[rendered.index(_TURN) + len(_TURN) : rendered.index(_NEXT)]
        except ValueError:
            raise ChatFormatError(
                f"{folder}: the chat template leaves out a message; it must show every turn"
            ) from None
        added = self._tokenizer.get_added_tokens_decoder()
        special = {i for i, token in added.items() if token.special}
        self._control = {i for i in special if not is_reasoning_mark(added[i].content)}
        if unreadable := sorted(TAGS & {added[i].content for i in special}):
            raise ChatFormatError(
                f"{folder}: {', '.join(unreadable)} are special tokens, which replies are read without; "
                "add them as ordinary tokens"
            )
        after_turn = self._scaffold(between)
        end = next((n for n, token in enumerate(after_turn) if token in special), None)
        if end is None:
            raise ChatFormatError(f"{folder}: the chat template ends assistant turns without a special token")
        self.end_of_turn = after_turn[: end + 1]
        self._before_next = after_turn[end + 1 :]
        self._after_next = self._scaffold(rendered[rendered.index(_NEXT) + len(_NEXT) :])
        self.piece = lru_cache(maxsize=4096)(self._piece)

    @property
    def stop_token(self) -> int:
        """The token that ends an assistant turn."""
        return self.end_of_turn[-1]

    def opening(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids before the first assistant turn, for messages such as [system, user]."""
        marks = [f"\ue000{n}\ue001" for n in range(len(messages))]
        rendered = self._render([_message(m["role"], mark) for m, mark in zip(messages, marks, strict=True)])
        ids: list[int] = []
        for message, mark in zip(messages, marks, strict=True):
            before, found, rendered = rendered.partition(mark)
            if not found:
                raise ChatFormatError(f"{self.folder}: the chat template leaves out the {message['role']} message")
            ids += [*self._scaffold(before), *self.piece(message["content"])]
        return (*ids, *self._scaffold(rendered))

    def turn(self, text: str) -> tuple[int, ...]:
        """The ids of an assistant turn that somebody else wrote, with its end."""
        return (*self.piece(text), *self.end_of_turn)

    def observation(self, text: str) -> tuple[int, ...]:
        """The ids from after an assistant turn up to the next one, with ``text`` as the user's words."""
        return (*self._before_next, *self.piece(text), *self._after_next)

    def text(self, tokens: Sequence[int]) -> str:
        """What a sampled turn says, without control tokens; those that mark reasoning are text."""
        return str(
            self._tokenizer.decode([one for one in tokens if one not in self._control], skip_special_tokens=False)
        )

    def cut(self, tokens: Sequence[int], head: str) -> tuple[int, int]:
        """How many of a turn's first tokens it takes to say ``head``, and how many of these say nothing else."""
        reached = range(len(tokens) + 1)
        kept = bisect_left(reached, True, key=lambda count: self.text(tokens[:count]).startswith(head))
        return kept, kept if self.text(tokens[:kept]) == head else kept - 1

    def _piece(self, text: str) -> tuple[int, ...]:
        return tuple(self._content.encode(text, add_special_tokens=False).ids)

    def _scaffold(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _render(self, messages: list[Message]) -> str:
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._tokens)
        except TemplateError as error:
            raise ChatFormatError(f"{self.folder}: the chat template fails: {error}") from error


def encode(chat: ChatFormat, opening: Sequence[int], steps: Sequence[Step]) -> Encoded:
    """The conversation so far, ready for the next turn; sampled turns keep the very ids that were sampled."""
    ids, mask = list(opening), [0] * len(opening)
    for step in steps:
        turn = step.tokens if step.tokens is not None else chat.turn(step.text)
        cut_off = () if turn[-1:] == (chat.stop_token,) else chat.end_of_turn
        between = (*cut_off, *chat.observation(observed(step)))
        ids += [*turn, *between]
        mask += [1] * (len(turn) - step.spoilt) + [0] * (step.spoilt + len(between))
    return Encoded(tuple(ids), tuple(mask))


def trained(chat: ChatFormat, opening: Sequence[int], steps: Sequence[Step]) -> Encoded:
    """The conversation up to and with its last turn: what follows that is nobody's to learn."""
    encoded = encode(chat, opening, steps)
    end = len(encoded.mask) - len(chat.observation(observed(steps[-1])))
    return Encoded(encoded.ids[:end], encoded.mask[:end])


def observed(step: Step) -> str:
    """The user's turn after a step, the same text wherever a model reads it."""
    return f"Observation: {step.observation}"


class _Generation(Extension):
    """The tags ``{% generation %}`` of templates that mark what assistants write; they print nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
    except ValueError as error:
        raise ChatFormatError(f"{path}: not JSON: {error}") from error


def _template(folder: Path, config: dict[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text("utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        template = {one["name"]: one["template"] for one in template}.get("default")
    if not template:
        raise ChatFormatError(
            f"{folder}: no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); "
            "use an instruct model, or add the template it was trained with"
        )
    return str(template)
