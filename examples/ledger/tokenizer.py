"""Builds the ledger's tokenizer: one token per word, byte by byte for anything else.

The words are collected from the generator, so that a trajectory of the family is short and a
number is one token; text outside the family (a traceback, a count above 99) falls back to single
bytes, so that every text survives encode and decode exactly and nothing is ever unknown.
The tags of the turn format are one token each but not special: they are part of the answer.
"""

import re
from pathlib import Path

from examples.ledger.family import END_OF_DOCUMENTS, FINISH, READ, next_step, render_step
from examples.ledger.language import ITEMS, NAMES, OPERATIONS, QUESTION, SKIP, START, TEMPLATES
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
TAGS = ("<first_thought>", "</first_thought>", "<thought>", "</thought>", "<code>", "</code>")
CONTEXT = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PHRASES = (FINISH, f"\n{READ}", READ, "Observation:")
PIECES = rf"{'|'.join(re.escape(phrase) for phrase in PHRASES)}|: ?[a-z]+| ?\w+| ?[-+*/=]+|\s|[^\w\s]"
ERRORS = (
    " None",
    " NameError: name 'x' is not defined",
    " SyntaxError: invalid syntax",
    " TypeError: unsupported operand type",
    " TimeoutError: the step ran longer than seconds",
)


def family_texts() -> list[str]:
    """Texts that together hold every word of the family, names and items in every position."""
    sentences = [f" {template.text}" for template in TEMPLATES]
    operations = {START, SKIP, *(op for template in OPERATIONS for op in template.effects.values())}
    thoughts = [f": {operation.word}" for operation in operations]
    code = [operation.code for operation in operations]
    people = [f" {name}" for name in NAMES] + [render_step(name, "x") for name in NAMES]
    things = [f" {item}" for item in ITEMS]
    numbers = [f" {number}" for number in range(100)]
    steps = [next_step(QUESTION.format(A=NAMES[0], I=ITEMS[0]), text) for text in ("", END_OF_DOCUMENTS)]
    frame = [QUESTION, f" {END_OF_DOCUMENTS}", " me no yes not", READ, f"\n{READ}", "Observation:"]
    return [*frame, *steps, *sentences, *thoughts, *code, *people, *things, *numbers, *ERRORS]


def build(context: int = CONTEXT) -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template, in memory, for models of `context` tokens."""
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = [piece for text in family_texts() for piece in re.split(r"</?\w+>|\{\w\}", text) if piece]
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(text)}
    vocabulary = [*(word for word in sorted(words) if len(word) > 1), *alphabet]
    tokenizer = Tokenizer(
        models.BPE(vocab={word: i for i, word in enumerate(vocabulary)}, merges=[], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=context,
    )


def save(folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and the chat template to a folder."""
    build().save_pretrained(str(folder))
