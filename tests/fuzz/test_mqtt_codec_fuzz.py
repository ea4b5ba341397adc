"""Any bytes, in any pieces, are either packets or a MalformedPacket; pieces never change the outcome."""

import os

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.mqtt_codec import Codec, MalformedPacket, Message, Packet, ack
from engine.mqtt_codec_5 import Mqtt5
from engine.mqtt_codec_311 import Mqtt311
from engine.mqtt_messages import Messages
from engine.mqtt_reader import PacketReader
from tests.engine.mqtt_peer import one_by_one

# `mqtt5` 0.8 panics at text that is not UTF-8 and reports that as unraisable, besides the exception that we catch.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
CODECS: dict[str, Codec] = {"3.1.1": Mqtt311(), "5": Mqtt5()}
each_codec = pytest.mark.parametrize("version", list(CODECS))

topics = st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), min_size=1, max_size=12)
payloads = st.binary(max_size=300)
packet_ids = st.integers(1, 65535)
messages = st.one_of(
    st.builds(Message, topics, payloads, st.just(0), st.booleans(), st.just(False), st.just(0)),
    st.builds(Message, topics, payloads, st.integers(1, 2), st.booleans(), st.booleans(), packet_ids),
)
own = {
    "3.1.1": st.sampled_from([b"\x20\x02\x01\x00", b"\x90\x03\x00\x01\x01", b"\xd0\x00"]),
    "5": st.sampled_from(
        [
            mqtt5.ConnAckPacket(reason_str="é", server_keep_alive=3, user_properties=[("k", "v")]).write(),
            mqtt5.PubAckPacket(5, reason_code=mqtt5.PubAckReasonCode.QUOTA_EXCEEDED, reason_str="no").write(),
            mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED], reason_str="no").write(),
            mqtt5.DisconnectPacket(reason_str="bye").write(),
        ]
    ),
}


@st.composite
def streams(draw: st.DrawFn, version: str) -> bytes:
    """Draw a stream of mostly valid packets, into which a few hostile bytes may have fallen."""
    packet = st.one_of(
        messages.map(CODECS[version].publish), st.builds(ack, st.integers(4, 7), packet_ids), own[version]
    )
    stream = bytearray(b"".join(draw(st.lists(packet, min_size=1, max_size=6))))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(stream)))
        stream[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(stream)


def outcome(version: str, pieces: list[bytes]) -> tuple[list[Packet], bool]:
    reader, packets = PacketReader(CODECS[version]), list[Packet | Messages]()
    try:
        for piece in pieces:
            reader.feed(piece, packets)
    except MalformedPacket:
        return one_by_one(packets), True
    return one_by_one(packets), False


@each_codec
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_pieces_do_not_change_what_a_stream_says(version: str, data: st.DataObject) -> None:
    stream = data.draw(streams(version))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert outcome(version, pieces) == outcome(version, [stream])


@each_codec
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_valid_messages_come_back_whole_in_any_pieces(version: str, data: st.DataObject) -> None:
    sent = data.draw(st.lists(messages, max_size=5))
    stream = b"".join(map(CODECS[version].publish, sent))
    size = data.draw(st.integers(1, 40))
    pieces = [stream[place : place + size] for place in range(0, len(stream), size)]
    assert outcome(version, pieces) == (sent, False)


@each_codec
@settings(max_examples=EXAMPLES, deadline=None)
@given(stream=st.binary(max_size=64))
def test_noise_is_refused_or_waited_on(version: str, stream: bytes) -> None:
    outcome(version, [stream])
