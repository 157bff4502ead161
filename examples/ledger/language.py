"""The language of the ledger: every word, sentence and operation, and what one sentence means.

A sentence is one fact about people and their things. For the person and the item that are
asked for it either changes the count `x` or does not, and that depends on the sentence alone:
`meaning` is the whole knowledge that a model has to learn. The generator (`family.py`)
writes sentences with the same table; nothing here is random.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

_PEOPLE = """
Ada Ben Cleo Dan Eva Finn Gus Hana Ida Jon Kim Leo Mia Ned Ola Pia Quin Rosa Sam Tess
Uma Vic Wes Xena Yuri Zoe Abel Bea Carl Dora
"""
_THINGS = """
cups coins books pens hats balls cards stones shells plates spoons keys rings beads caps
socks lamps bells ropes masks flags boats kites drums vases combs chairs boots jars maps
"""
NAMES, ITEMS = tuple(_PEOPLE.split()), tuple(_THINGS.split())
QUESTION = "How many {I} does {A} have at the end?"


@dataclass(frozen=True)
class Operation:
    """What the thought calls it, and the line of code that applies it to `x`."""

    word: str
    code: str


START = Operation("start", "x = {n}")
GAIN = Operation("gain", "x += {n}")
LOSS = Operation("loss", "x -= {n}")
GAIN_OTHER = Operation("gain", "x += {m}")
GAIN_PACKS = Operation("packs in", "x += {m} * {n}")
LOSS_PACKS = Operation("packs out", "x -= {m} * {n}")
DOUBLE = Operation("double", "x *= 2")
TRIPLE = Operation("triple", "x *= 3")
HALF = Operation("half", "x //= 2")
SKIP = Operation("skip", "")


@dataclass(frozen=True)
class Template:
    """One sentence form. `effects` maps the role pair of the asked person and item to an operation.

    Roles: {A} and {B} are people, {I} and {J} items, {n} and {m} numbers. "AI" is the pair
    "A is asked for, and so is item I"; a pair that is not listed leaves the count alone.
    """

    kind: str
    text: str
    effects: Mapping[str, Operation]


def _forms(kind: str, effects: Mapping[str, Operation], *texts: str) -> tuple[Template, ...]:
    return tuple(Template(kind, text, effects) for text in texts)


STARTS = _forms("start", {"AI": START}, "{A} has {n} {I}.", "{A} owns {n} {I}.", "{A} starts with {n} {I}.")

TRANSFER, TAKING = {"AI": LOSS, "BI": GAIN}, {"AI": GAIN, "BI": LOSS}
OPERATIONS = (
    *_forms("gain", {"AI": GAIN}, "{A} buys {n} {I}.", "{A} finds {n} {I}.", "{A} wins {n} {I}."),
    *_forms("gain", {"AI": GAIN}, "{A} makes {n} {I}."),
    *_forms("loss", {"AI": LOSS}, "{A} sells {n} {I}.", "{A} loses {n} {I}.", "{A} drops {n} {I}."),
    *_forms("loss", {"AI": LOSS}, "{A} burns {n} {I}."),
    *_forms("give", TRANSFER, "{A} gives {B} {n} {I}.", "{A} hands {n} {I} to {B}."),
    *_forms("give", TRANSFER, "{A} sends {n} {I} to {B}.", "{A} pays {B} {n} {I}."),
    *_forms("take", TAKING, "{A} takes {n} {I} from {B}.", "{A} gets {n} {I} from {B}."),
    *_forms("take", TAKING, "{A} steals {n} {I} from {B}."),
    *_forms("lend", TRANSFER, "{A} lends {B} {n} {I}.", "{A} returns {n} {I} to {B}."),
    *_forms("lend", TAKING, "{A} borrows {n} {I} from {B}.", "{A} collects {n} {I} from {B}."),
    *_forms("multiply", {"AI": DOUBLE}, "{A} doubles the {I}.", "The {I} of {A} double."),
    *_forms("multiply", {"AI": TRIPLE}, "{A} triples the {I}.", "The {I} of {A} triple."),
    *_forms(
        "halve", {"AI": HALF}, "{A} halves the {I}.", "Half of the {I} of {A} break.", "{A} donates half of the {I}."
    ),
    *_forms("packs", {"AI": GAIN_PACKS}, "{A} orders {m} boxes of {n} {I}.", "{A} opens {m} bags of {n} {I}."),
    *_forms("packs", {"AI": LOSS_PACKS}, "{A} ships {m} boxes of {n} {I}.", "{A} mails {m} bags of {n} {I}."),
    *_forms(
        "trade",
        {"AI": LOSS, "AJ": GAIN_OTHER},
        "{A} trades {n} {I} for {m} {J}.",
        "{A} swaps {n} {I} for {m} {J}.",
        "{A} exchanges {n} {I} for {m} {J}.",
    ),
)
OPERATION_KINDS = tuple(dict.fromkeys(template.kind for template in OPERATIONS))

IDLE = (
    *_forms("wish", {}, "{A} wants {n} {I}.", "{A} dreams of {n} {I}."),
    *_forms("shop", {}, "{A} sees {n} {I} in a shop.", "{A} admires {n} {I} in a window."),
    *_forms("price", {}, "{n} {I} cost {m} euros.", "A box of {n} {I} weighs {m} kilos."),
    *_forms("denial", {}, "{A} does not buy {n} {I}.", "{A} almost loses {n} {I}."),
    *_forms("care", {}, "{A} washes {n} {I}.", "{A} paints {n} {I}.", "{A} counts the {I}."),
    *_forms("scene", {}, "It rains all day.", "The shop is closed today.", "A dog barks in the street."),
)
TEMPLATES = (*STARTS, *OPERATIONS, *IDLE)


@dataclass(frozen=True)
class Meaning:
    """A sentence as seen by someone who counts the items of one person.

    `mentions` are the people and items in the order of the text, each with whether it is the
    one asked for; `code` is the line that changes `x`, empty when the count stays.
    """

    mentions: tuple[tuple[str, bool], ...]
    word: str
    code: str


_PATTERNS = {"A": "|".join(NAMES), "B": "|".join(NAMES), "I": "|".join(ITEMS), "J": "|".join(ITEMS)}


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """The template's text as a regular expression whose groups are its roles."""
    roles = {role: f"(?P<{role}>{_PATTERNS.get(role, r'[0-9]+')})" for role in "ABIJnm"}
    return re.compile(re.sub(r"\\{(\w)\\}", lambda slot: roles[slot[1]], re.escape(text)))


def asked(question: str) -> tuple[str, str]:
    """The person and the item that a question is about; ValueError if it is no ledger question."""
    found = _pattern(QUESTION).fullmatch(question)
    if found is None:
        raise ValueError(f"not a ledger question: {question!r}; expected {QUESTION!r}")
    return found["A"], found["I"]


def operation(template: Template, roles: Mapping[str, str], person: str, item: str) -> Operation:
    """What a sentence with these roles does to the count of `item` that `person` has."""
    for pair, effect in template.effects.items():
        if (roles[pair[0]], roles[pair[1]]) == (person, item):
            return effect
    return SKIP


def meaning(sentence: str, person: str, item: str) -> Meaning | None:
    """How a sentence reads to whoever counts the `item` of `person`; None if it is no sentence."""
    for template in TEMPLATES:
        if found := _pattern(template.text).fullmatch(sentence):
            roles = found.groupdict()
            effect = operation(template, roles, person, item)
            words = [word for word in re.findall(r"\w+", sentence) if word in NAMES or word in ITEMS]
            mentions = tuple((word, word in (person, item)) for word in words)
            return Meaning(mentions, effect.word, effect.code.format(**roles))
    return None
