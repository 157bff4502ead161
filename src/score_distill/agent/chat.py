"""Conversations as token ids, appended to and never re-tokenised.

A model folder's tokenizer and chat template say how turns look. From them come the ids before the first assistant
turn, the ids of an assistant turn with its end, and the ids between that end and the next turn. A conversation is the
sum of these pieces, in collection, training and serving alike. What models, tools or tasks wrote is encoded with
control tokens as plain text, so nobody can forge a turn.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from score_distill.agent.chat_template import ChatFormatError, ChatTemplate, Message
from score_distill.agent.trajectory import Step
from score_distill.agent.turns import end_of_reasoning, is_reasoning_mark

TAGS = {f"<{end}{name}>" for name in ("code", "thought", "first_thought") for end in ("", "/")}
_USER, _TURN, _NEXT = "\ue000user\ue001", "\ue000turn\ue001", "\ue000next\ue001"


@dataclass(frozen=True)
class Encoded:
    """Token ids of a conversation and, for each, 1 where it is an assistant's turn (its end included), else 0."""

    ids: tuple[int, ...]
    mask: tuple[int, ...]


class ChatFormat:
    """How one model writes conversations.

    ``day`` is what a template that asks for the date is told, today when None.

    Raises ChatFormatError when the folder has no usable tokenizer.json, no chat template, a template whose assistant
    turns do not end in a special token, or the tags of the turn format as special tokens.
    """

    def __init__(self, folder: Path, day: date | None = None) -> None:
        self.folder = folder
        if not (folder / "tokenizer.json").is_file():
            raise ChatFormatError(f"{folder}: no tokenizer.json; save the model with a fast tokenizer")
        text = (folder / "tokenizer.json").read_text("utf-8")
        try:
            self._tokenizer, self._content = Tokenizer.from_str(text), Tokenizer.from_str(text)
        except Exception as error:  # tokenizers raises nothing narrower
            raise ChatFormatError(f"{folder}: tokenizer.json cannot be read: {error}") from error
        self._content.encode_special_tokens = True
        self._template = ChatTemplate(folder, day)
        conversation = [_message("user", _USER), _message("assistant", _TURN), _message("user", _NEXT)]
        rendered = self._template.render(conversation)
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
        after_next = rendered[rendered.index(_NEXT) + len(_NEXT) :]
        self._after_next = self._scaffold(after_next)
        closing = end_of_reasoning(after_next)
        self._no_reasoning = self._scaffold(f"\n{closing}\n\n") if closing else ()
        self.piece = lru_cache(maxsize=4096)(self._piece)

    @property
    def stop_token(self) -> int:
        """The token that ends an assistant turn."""
        return self.end_of_turn[-1]

    def opening(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids before the first assistant turn, for messages such as [system, user].

        Where the template knows no system message, its text begins the user's.
        """
        if messages[0]["role"] == "system" and not self._template.takes_system:
            system, user, *others = messages
            messages = [_message("user", f"{system['content']}\n\n{user['content']}"), *others]
        marks = [f"\ue000{n}\ue001" for n in range(len(messages))]
        rendered = self._template.render([_message(m["role"], mark) for m, mark in zip(messages, marks, strict=True)])
        ids: list[int] = []
        for message, mark in zip(messages, marks, strict=True):
            before, found, rendered = rendered.partition(mark)
            if not found:
                raise ChatFormatError(f"{self.folder}: the chat template leaves out the {message['role']} message")
            ids += [*self._scaffold(before), *self.piece(message["content"])]
        return (*ids, *self._scaffold(rendered))

    def turn(self, text: str) -> tuple[int, ...]:
        """The ids of an assistant turn that somebody else wrote, with its end.

        Where the template has begun the model's reasoning, it ends at once.
        """
        return (*self._no_reasoning, *self.piece(text), *self.end_of_turn)

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


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
