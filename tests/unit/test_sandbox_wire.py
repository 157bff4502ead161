"""Messages survive any cut of the stream; what is no message is refused and never more than that."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from score_distill.sandbox.wire import Unpacker, WireError, pack

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4)
MESSAGES = st.lists(st.dictionaries(st.text(), VALUES, max_size=2), max_size=3)


@given(MESSAGES, st.integers(1, 50))
def test_messages_come_out_whole_however_the_stream_is_cut(messages, chunk):
    stream = b"".join(map(pack, messages))
    unpacker = Unpacker(1 << 20)
    found = []
    for start in range(0, len(stream), chunk):
        found += unpacker.feed(stream[start : start + chunk])
    assert found == messages


def test_a_message_longer_than_the_limit_is_refused_before_it_has_come():
    with pytest.raises(WireError, match="at most 100"):
        Unpacker(100).feed(struct.pack(">I", 101))


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"1", b'"a"', b"\xff", b"[" * 100_000, b"{}{}", b"1" * 10_000])
def test_what_is_no_object_is_refused(body):
    with pytest.raises(WireError):
        Unpacker(1 << 20).feed(struct.pack(">I", len(body)) + body)


@given(st.binary(max_size=200))
def test_any_bytes_give_messages_or_a_wire_error(data):
    with contextlib.suppress(WireError):
        assert all(isinstance(message, dict) for message in Unpacker(64).feed(data))
