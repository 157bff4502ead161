"""The ledger's tokenizer: exact round trips, whole words, tags that survive decoding."""

import random
from itertools import islice

import pytest
from examples.ledger.family import solution, tasks
from examples.ledger.tokenizer import PAD, TAGS, save
from transformers import AutoTokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_trajectories_survive_encode_and_decode_as_whole_words(tokenizer):
    for task in islice(tasks(random.Random(0), "eval"), 50):
        text = tokenizer.apply_chat_template(solution(task), tokenize=False)
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids) == text
        assert len(ids) <= 290
        single = {tokenizer.decode([i]) for i in ids if len(tokenizer.convert_ids_to_tokens(i)) == 1}
        assert single <= {".", "?", "x"}


@pytest.mark.parametrize(
    "text",
    [
        "Observation: NameError: name 'x' is not defined",
        "Observation: -17",
        "Observation: 12345",
        "  two  spaces\n\n\ttab, é, 漢字 🙂",
        "<first_thought>plan</first_thought>",
    ],
)
def test_any_text_survives(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_tags_are_one_token_each_and_not_special(tokenizer):
    for tag in TAGS:
        ids = tokenizer.encode(tag, add_special_tokens=False)
        assert len(ids) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == tag


def test_chat_template(tokenizer):
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt == "<|system|>s<|end|><|user|>u<|end|><|assistant|>"
    whole = tokenizer.apply_chat_template([*chat, {"role": "assistant", "content": "a"}], tokenize=False)
    assert whole == prompt + "a<|end|>"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|end|>", PAD)
