"""Two models mean the same by an id, or on-policy distillation is refused before anything is paid."""

import json
from pathlib import Path
from typing import Any

import pytest

from score_distill.artifacts.models import ModelNotUsable
from score_distill.artifacts.uris import UriResolver
from score_distill.artifacts.vocabulary import check_vocabularies, disagreement
from score_distill.errors import BadInput

WORDS = {"<s>": 0, "a": 1, "b": 2}
END = {"id": 3, "content": "<|end|>"}


def write(folder: Path, vocab: Any = WORDS, *added: dict[str, Any], **model: Any) -> Path:
    folder.mkdir()
    found = {"model": {"vocab": vocab, **model}, "added_tokens": list(added)}
    (folder / "tokenizer.json").write_text(json.dumps(found))
    return folder


def test_how_text_is_cut_is_of_no_matter_and_the_teacher_may_know_more(tmp_path: Path) -> None:
    student = write(tmp_path / "student", WORDS, END, merges=[["a", "b"]])
    teacher = write(tmp_path / "teacher", {**WORDS, "ab": 4}, END)
    assert disagreement(student, teacher) == ""
    told = disagreement(teacher, student)
    assert told == "1 of 5 ids differ, such as 4: 'ab', missing in student"


def test_an_added_token_takes_the_place_of_a_word(tmp_path: Path) -> None:
    student = write(tmp_path / "student", WORDS, {"id": 2, "content": "<|user|>"})
    told = disagreement(student, write(tmp_path / "teacher"))
    assert told == "1 of 3 ids differ, such as 2: '<|user|>', 'b' in teacher"


def test_a_vocabulary_with_scores_is_read_by_place(tmp_path: Path) -> None:
    student = write(tmp_path / "student", [["<s>", 0.0], ["a", -1.0], ["b", -2.5]])
    assert disagreement(student, write(tmp_path / "teacher")) == ""


def test_models_without_weights_are_compared_and_the_field_is_named(tmp_path: Path) -> None:
    places = UriResolver(base=tmp_path, cache=tmp_path / "cache", claims=tmp_path, environ={})
    write(tmp_path / "student")
    write(tmp_path / "teacher")
    write(tmp_path / "other", {"<s>": 0, "b": 1, "a": 2})
    check_vocabularies("student", "teacher", places)
    with pytest.raises(BadInput, match=r"^spec\.method\.rl\.controls: OnPolicyDistillation; .* 2 of 3 ids differ"):
        check_vocabularies("student", "other", places)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": {"vocab": 7}}'])
def test_a_tokenizer_that_cannot_be_read_is_no_vocabulary(tmp_path: Path, text: str) -> None:
    (broken := tmp_path / "broken").mkdir()
    (broken / "tokenizer.json").write_text(text)
    with pytest.raises(ModelNotUsable, match="no vocabulary that can be read"):
        disagreement(write(tmp_path / "student"), broken)
