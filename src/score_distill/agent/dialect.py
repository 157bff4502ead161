"""Which fields of a chat request an endpoint takes, learned from what it refuses. Pure.

All speak OpenAI's API, and differ: some want `max_completion_tokens`, allow one temperature, know no `seed`, no JSON
schema or no system message. A dialect says for each such field in which form it is sent.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from score_distill.agent.refusals import Refusal

Body = dict[str, Any]

JSON_OBJECT = {"type": "json_object"}
ALIASES = {"max_completion_tokens": "max_tokens", "json_schema": "response_format"}


@dataclass(frozen=True)
class Form:
    """Another way to send a field; ``told`` says it to the user."""

    told: str
    write: Callable[[Body], Body]


def _absent(name: str) -> Form:
    return Form(f"{name} is left out", lambda body: {key: value for key, value in body.items() if key != name})


def _max_completion_tokens(body: Body) -> Body:
    return {("max_completion_tokens" if key == "max_tokens" else key): value for key, value in body.items()}


def _without_system(body: Body) -> Body:
    match body["messages"]:
        case [{"role": "system", "content": rules}, {"role": "user", "content": asked}, *rest]:
            return body | {"messages": [{"role": "user", "content": f"{rules}\n\n{asked}"}, *rest]}
    return body


FORMS: Mapping[str, tuple[Form, ...]] = {
    "max_tokens": (Form("max_tokens is sent as max_completion_tokens", _max_completion_tokens),),
    "temperature": (_absent("temperature"),),
    "top_p": (_absent("top_p"),),
    "seed": (_absent("seed"),),
    "response_format": (
        Form("response_format asks for JSON without its schema", lambda b: b | {"response_format": JSON_OBJECT}),
        _absent("response_format"),
    ),
    "messages": (Form("the system message is sent as the first words of the user's", _without_system),),
}


@dataclass(frozen=True)
class Dialect:
    """``changes`` are the fields not sent as usual, each with the number of its form in `FORMS`, from 1."""

    changes: frozenset[tuple[str, int]] = frozenset()

    def spoken(self, body: Mapping[str, Any]) -> Body:
        said = dict(body)
        for name, form in sorted(self.changes):
            if name in said:
                said = FORMS[name][form - 1].write(said)
        return said

    def changed(self, name: str) -> "Dialect | None":
        """With that field in its next form; None when it has no more."""
        form = dict(self.changes).get(name, 0) + 1
        return self._with({name: form}) if form <= len(FORMS[name]) else None

    def plainest(self, names: Collection[str]) -> "Dialect":
        """With those fields in their last form."""
        return self._with({name: len(FORMS[name]) for name in names})

    def told(self) -> str:
        return "; ".join(FORMS[name][form - 1].told for name, form in sorted(self.changes))

    def _with(self, forms: Mapping[str, int]) -> "Dialect":
        return Dialect(frozenset({**dict(self.changes), **forms}.items()))


@dataclass
class Lesson:
    """The search for a dialect in which a refused request is taken; it ends, as every step is a new dialect.

    ``names`` are the fields that may change, ``unproven`` those of them that were never in a request that was taken.
    A refusal that names a field changes that field. One that names none may be about anything: then each unproven
    field is changed alone, and at last all of them together.
    """

    dialect: Dialect
    names: Collection[str]
    unproven: Collection[str]
    tried: set[Dialect] = field(default_factory=set)

    def next(self, tried: Dialect, refusal: Refusal) -> Dialect | None:
        """After ``tried`` was refused; ``dialect`` is then the one that this builds on."""
        self.tried.add(tried)
        if refusal.of_content:
            return None
        if refusal.param and _field_of(refusal.param) not in self.names:
            return None
        if name := _field_of(refusal.param) or self._said(refusal.text):
            found = tried.changed(name)
            if found is not None and found not in self.tried:
                self.dialect = found
                return found
            if refusal.param:
                return None
        return next((one for one in self._guesses() if one not in self.tried), None)

    def _said(self, text: str) -> str:
        """The unproven field whose own name stands in a sentence, where no field says which."""
        words = {ALIASES.get(word, word) for word in re.findall(r"[a-z_]+", text)}
        return next((name for name in FORMS if name in words and name in self.unproven and name != "messages"), "")

    def _guesses(self) -> Iterator[Dialect]:
        names = [name for name in FORMS if name in self.unproven]
        for name in names:
            if one := self.dialect.changed(name):
                yield one
        if names:
            yield self.dialect.plainest(set(names) - {"max_tokens"})
            yield self.dialect.plainest(names)


def _field_of(param: str) -> str:
    """The field of `FORMS` that a parameter such as ``response_format.json_schema`` or ``messages[0].role`` is of."""
    root = re.split(r"[.\[]", param, maxsplit=1)[0]
    if root == "messages":
        return root if param.endswith("role") else ""
    return next((name for name in (ALIASES.get(root, root),) if name in FORMS), "")
