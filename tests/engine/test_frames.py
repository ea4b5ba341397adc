"""Frames: what is sent arrives, and anything else is refused with one exception."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import frames
from engine.frames import (
    Ack,
    Answer,
    AskMark,
    Batch,
    FrameInvalid,
    Hello,
    Mark,
    Push,
    Report,
    Used,
    Wake,
    decode_downward,
    decode_upward,
    encode,
)

TEXT, BYTES, WHOLE = st.text(max_size=5), st.binary(max_size=5), st.integers(0, 2**60)
PUSHES = st.builds(Push, TEXT, TEXT, BYTES, BYTES, TEXT, st.booleans(), WHOLE)
COUNTS = st.dictionaries(TEXT, WHOLE, max_size=2)
UPWARD = st.one_of(
    st.builds(Hello, TEXT, TEXT, WHOLE),
    st.builds(Batch, WHOLE, st.lists(st.one_of(PUSHES, st.builds(Answer, BYTES, WHOLE, BYTES)), max_size=3)),
    st.builds(Used, WHOLE),
    st.builds(Report, st.dictionaries(TEXT, COUNTS, max_size=2), st.floats(0, 9), WHOLE),
    st.builds(AskMark),
)
DOWNWARD = st.one_of(st.builds(Ack, WHOLE), st.builds(Wake, WHOLE, WHOLE), st.builds(Mark, WHOLE, WHOLE))


@given(UPWARD)
def test_upward_frames_arrive(frame: frames.Upward) -> None:
    assert decode_upward(encode(frame)) == frame


@given(DOWNWARD)
def test_downward_frames_arrive(frame: frames.Downward) -> None:
    assert decode_downward(encode(frame)) == frame


@given(UPWARD, st.data())
def test_a_damaged_frame_is_a_frame_or_refused(frame: frames.Upward, data: st.DataObject) -> None:
    message = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_upward(bytes(message[: data.draw(st.integers(0, len(message)))]))
    except FrameInvalid:
        return


DEEP = b"\x91" * 100_000
DEEP_REPORT = b"\x96\xa6report\x80\x00\x00\x00\x81\xa1a" + DEEP


@pytest.mark.parametrize("message", [b"", "text", DEEP, DEEP_REPORT, b"\xdf\xff\xff\xff\xff"])
def test_hostile_messages_are_refused(message: bytes | str) -> None:
    with pytest.raises(FrameInvalid):
        decode_upward(message)
