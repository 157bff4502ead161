"""A session's words are taken only in the three forms an honest session uses."""

import pytest

from score_distill.sandbox import requests
from score_distill.sandbox.outcome import Failure
from score_distill.sandbox.reports import Call, Done, parse
from score_distill.sandbox.wire import WireError

STATE = "0123456789abcdef"


@pytest.mark.parametrize(
    ("message", "report"),
    [
        ({"state": STATE}, Done(None, None, STATE)),
        ({"answer": "4\ud800", "state": STATE}, Done("4?", None, STATE)),
        ({"error": "E", "line": "E: x", "state": STATE}, Done(None, Failure("E", "E: x"), STATE)),
        ({"error": "E", "line": "E: \ud800", "state": STATE}, Done(None, Failure("E", "E: ?"), STATE)),
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
        {"state": "short"},
        {"state": STATE.upper()},
        {"state": STATE, "output": "forged"},
        {"answer": 4, "state": STATE},
        {"answer": "4"},
        {"error": "E" * 101, "line": "", "state": STATE},
        {"error": "a b", "line": "", "state": STATE},
        {"error": "E", "line": None, "state": STATE},
        {"call": "other", "args": [], "kwargs": {}},
        {"call": "read", "args": {}, "kwargs": {}},
        {"call": "read", "args": []},
        {"call": ["read"], "args": [], "kwargs": {}},
    ],
)
def test_anything_else_is_refused(message):
    with pytest.raises(WireError):
        parse(message, ["read"])


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"op": "open"},
        {"op": "open", "id": 1, "seed": "x"},
        {"op": "run", "id": 1, "branch": 1, "code": 1, "tools": []},
        {"op": "run", "id": 1, "branch": 1, "code": "", "tools": ["not a name"]},
        {"op": "run", "id": 1, "branch": None, "code": "", "tools": []},
        {"op": "reply", "call": 1},
        {"op": "reply", "call": 1, "error": 2},
        {"op": "exec", "id": 1},
        {"op": ["open"], "id": 1, "seed": 1},
    ],
)
def test_a_request_of_no_known_form_is_refused(message):
    with pytest.raises(WireError):
        requests.parse(message)
