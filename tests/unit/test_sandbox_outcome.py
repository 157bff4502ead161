"""What the model reads: never empty, never longer than the limit, and it says which limit was hit."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from score_distill.sandbox import outcome
from score_distill.sandbox.outcome import Failure, observation, shorten


@pytest.mark.parametrize(
    ("printed", "failure", "text"),
    [
        (b"", None, "None"),
        (b"\n", None, "None"),
        (b"4\n", None, "4"),
        (b" a\n\n", None, " a"),
        (b"a\n", Failure("NameError", "NameError: name 'x' is not defined"), "a\nNameError: name 'x' is not defined"),
        (b"", Failure("ValueError", "ValueError"), "ValueError"),
        (b"\xff\n", None, "�"),
    ],
)
def test_an_observation_is_what_was_printed_and_then_the_error(printed, failure, text):
    assert observation(printed, failure, 100) == text


@given(st.text(), st.text(min_size=1) | st.none(), st.integers(128, 500))
def test_an_observation_is_never_empty_and_never_too_long(printed, line, limit):
    text = observation(printed.encode("utf-8", "replace"), Failure("E", line) if line else None, limit)
    assert 0 < len(text) <= limit


def test_a_long_text_keeps_its_ends_and_says_how_much_is_gone():
    text = shorten("x" * 500 + "y" * 500, 200)
    assert text.startswith("xxxx") and text.endswith("yyyy") and 190 < len(text) <= 200
    assert f"[{1000 - text.count('x') - text.count('y')} characters cut]" in text


def test_the_error_is_kept_when_the_output_is_cut():
    text = observation(b"x" * 10_000, Failure("KeyError", "KeyError: 'k'"), 300)
    assert text.endswith("\nKeyError: 'k'")


@pytest.mark.parametrize(
    ("status", "name", "words"),
    [
        (-signal.SIGKILL, "MemoryError", "out of memory"),
        (-signal.SIGSEGV, "ProcessDiedError", "SIGSEGV"),
        (3, "ProcessDiedError", "exit status 3"),
        (None, "ProcessDiedError", "rules"),
    ],
)
def test_the_end_of_a_process_is_told_in_words(status, name, words):
    failure = outcome.died(status)
    assert failure.name == name
    assert words in failure.line and failure.line.startswith(f"{name}: ")


def test_lone_surrogates_do_not_pass():
    assert outcome.clean("a\ud800b") == "a?b"


@given(st.text(st.sampled_from("aé€😀\n"), max_size=400), st.integers(100, 110))
def test_of_a_long_text_what_is_shown_and_the_count_of_what_is_cut_are_right(text, limit):
    text = "😀" + text * 12 + "€"
    assert observation(text.encode(), None, limit) == shorten(text, limit)


@given(st.binary(max_size=300), st.integers(100, 110))
def test_bytes_that_are_no_text_are_shown_as_such(printed, limit):
    assert len(observation(printed * 20, None, limit)) <= limit
