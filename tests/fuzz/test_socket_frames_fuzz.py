"""Any text is a frame of the `websocket` source or a Refusal; what is told of it is JSON that names it."""

import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.refusal import Refusal
from engine.socket_frames import Pushed, ack_frame, error_frame, number_of, read_frame

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
numbers = st.one_of(st.integers(0, (1 << 63) - 1), st.text(st.characters(codec="utf-8"), min_size=1, max_size=64))
leaves = st.one_of(st.none(), st.booleans(), st.integers(-(1 << 53), 1 << 53), st.text(st.characters(codec="utf-8")))
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8)
objects = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), values, max_size=4)
hostile = st.sampled_from(
    [
        "",
        "{",
        "[]",
        "null",
        "1e999",
        '"\\ud800"',
        "\x00",
        "{}" * 3,
        "[" * 9_999,
        '{"a":' * 200,
        "1" * 5_000,
        '{"data":',
    ],
)


@st.composite
def frames(draw: st.DrawFn) -> str:
    """Draw a frame that is mostly valid, into which a few hostile characters may have fallen."""
    data = draw(st.one_of(objects, st.lists(objects), values))
    frame = {"id": draw(st.one_of(numbers, values)), "data": data} | draw(st.sampled_from([{}, {}, {}, {"more": 1}]))
    text = msgspec.json.encode(frame).decode()
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.one_of(hostile, st.text(max_size=3))) + text[at + draw(st.integers(0, 3)) :]
    return text


@pytest.mark.parametrize("many", [True, False])
@settings(max_examples=EXAMPLES, deadline=None)
@given(text=st.one_of(frames(), st.text(max_size=40), st.binary(max_size=20), hostile))
def test_a_frame_is_taken_or_refused(many: bool, text: str | bytes) -> None:
    try:
        found = read_frame(text, many=many)
    except Refusal as reason:
        check_told(error_frame(reason))
    else:
        assert isinstance(text, str)
        check(found, text)


def check_told(frame: str) -> None:
    """What is told is short, and of the shape that is documented."""
    told = msgspec.json.decode(frame)
    assert set(told) <= {"id", "error"}
    assert set(told["error"]) == {"code", "message"}
    assert len(frame) < 1_000


def check(found: Pushed, text: str) -> None:
    """What was taken says what the text says."""
    whole = msgspec.json.decode(text)
    assert set(whole) <= {"id", "data"}
    data = whole["data"] if isinstance(whole["data"], list) else [whole["data"]]
    assert [msgspec.json.decode(item) for item in found.objects] == data
    assert all(type(item) is dict for item in data)
    assert (found.number, msgspec.json.decode(found.body)) == (whole.get("id"), whole["data"])
    if found.number is not None:
        assert msgspec.json.decode(ack_frame(found.number)) == {"ack": found.number}
        assert number_of(text) == found.number


@settings(max_examples=EXAMPLES, deadline=None)
@given(number=numbers, item=objects)
def test_a_valid_frame_is_taken(number: int | str, item: dict[str, object]) -> None:
    found = read_frame(msgspec.json.encode({"id": number, "data": item}).decode(), many=False)
    assert (found.number, msgspec.json.decode(found.objects[0])) == (number, item)
