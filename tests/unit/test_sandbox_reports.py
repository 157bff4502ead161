"""A session's words are taken only in the forms an honest session uses."""

import pytest

from score_distill.sandbox import requests
from score_distill.sandbox.outcome import Failure
from score_distill.sandbox.reports import Call, Done, parse, parse_state
from score_distill.sandbox.wire import WireError

STATE = "0123456789abcdef"


@pytest.mark.parametrize(
    ("message", "report"),
    [
        ({"done": True}, Done(None, None)),
        ({"answer": "4\ud800"}, Done("4?", None)),
        ({"error": "E", "line": "E: x"}, Done(None, Failure("E", "E: x"))),
        ({"error": "E", "line": "E: \ud800"}, Done(None, Failure("E", "E: ?"))),
        ({"call": "read", "args": [1], "kwargs": {"a": 2}}, Call("read", [1], {"a": 2})),
        (
            {"call": "read", "args": ["\udcff", ["a\ud800"]], "kwargs": {"\udfff": {"\ud800": "é😀"}}},
            Call("read", ["?", ["a?"]], {"?": {"?": "é😀"}}),
        ),
    ],
)
def test_honest_words_are_understood(message, report):
    assert parse(message, ["read"]) == report


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"hello": 1},
        {"state": STATE},
        {"done": 1},
        {"done": True, "output": "forged"},
        {"answer": 4},
        {"error": "E" * 101, "line": ""},
        {"error": "a b", "line": ""},
        {"error": "E", "line": None},
        {"call": "other", "args": [], "kwargs": {}},
        {"call": "read", "args": {}, "kwargs": {}},
        {"call": "read", "args": []},
        {"call": ["read"], "args": [], "kwargs": {}},
    ],
)
def test_anything_else_is_refused(message):
    with pytest.raises(WireError):
        parse(message, ["read"])


def test_a_state_is_told_or_unknown():
    assert parse_state({"state": STATE}) == STATE
    assert parse_state({"state": None}) is None
    for message in ({}, {"state": "short"}, {"state": STATE.upper()}, {"state": 1}, {"done": True}):
        with pytest.raises(WireError):
            parse_state(message)


RUN = {"op": "run", "id": 1, "branch": 1, "code": "", "tools": ["name"], "keep": True, "digest": False}


def test_a_request_for_a_step_says_what_becomes_of_the_state_before_it():
    assert requests.parse(RUN) == requests.Run(1, 1, "", ("name",), keep=True, digest=False)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"op": "open"},
        {"op": "open", "id": 1, "seed": "x"},
        {**RUN, "code": 1},
        {**RUN, "tools": ["not a name"]},
        {**RUN, "branch": None},
        {**RUN, "keep": 1},
        {**RUN, "digest": None},
        {name: value for name, value in RUN.items() if name != "keep"},
        {"op": "reply", "call": 1},
        {"op": "reply", "call": 1, "error": 2},
        {"op": "exec", "id": 1},
        {"op": ["open"], "id": 1, "seed": 1},
    ],
)
def test_a_request_of_no_known_form_is_refused(message):
    with pytest.raises(WireError):
        requests.parse(message)
