"""The codecs, packet by packet, with literal bytes."""

import mqtt5
import pytest

from engine.mqtt_codec import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    Codec,
    ConnAck,
    Connect,
    Disconnect,
    MalformedPacket,
    Message,
    Packet,
    PingResp,
    SubAck,
    ack,
)
from engine.mqtt_codec_5 import Mqtt5
from engine.mqtt_codec_311 import Mqtt311
from engine.mqtt_messages import Messages
from engine.mqtt_reader import PacketReader
from tests.engine.mqtt_peer import one_by_one

BOTH = [pytest.param(Mqtt311(), id="3.1.1"), pytest.param(Mqtt5(), id="5")]


def decode(codec: Codec, data: bytes) -> list[Packet]:
    packets: list[Packet] = []
    assert codec.decode(data, packets) == len(data)
    return packets


@pytest.mark.parametrize("codec", BOTH)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 70_000])
def test_publish_comes_back_as_it_was_written(codec: Codec, qos: int, size: int) -> None:
    message = Message("línea/1", b"\xff" * size, qos, True, qos > 0, 77 if qos else 0)
    assert decode(codec, codec.publish(message) * 2) == [message, message]


@pytest.mark.parametrize(
    ("data", "packet"),
    [
        (b"\x20\x02\x01\x00", ConnAck(True, 0, "")),
        (b"\x20\x02\x00\x01", ConnAck(False, 132, "unsupported protocol version")),
        (b"\x20\x02\x00\x04", ConnAck(False, 134, "bad user name or password")),
        (b"\x20\x02\x00\x63", ConnAck(False, 128, "return code 99")),
        (b"\x40\x02\x12\x34", Ack(PUBACK, 0x1234)),
        (b"\x50\x02\x00\x01", Ack(PUBREC, 1)),
        (b"\x62\x02\x00\x01", Ack(PUBREL, 1)),
        (b"\x70\x02\x00\x01", Ack(PUBCOMP, 1)),
        (b"\x90\x05\x00\x07\x00\x02\x80", SubAck(7, [0, 2, 128])),
        (b"\xd0\x00", PingResp()),
        (b"\x3b\x07\x00\x03a/b\x00\x09", Message("a/b", b"", 1, True, True, 9)),
    ],
)
def test_311_reads_what_a_broker_sends(data: bytes, packet: Packet) -> None:
    assert decode(Mqtt311(), data) == [packet]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x30\xff\xff\xff\xff\x7f", "the remaining length takes more than four bytes"),
        (b"\x36\x05\x00\x01a\x00\x01", "QoS 3"),
        (b"\x30\x01\x00", "ends inside the length of its topic"),
        (b"\x30\x03\x00\x02a", "ends inside its topic"),
        (b"\x32\x04\x00\x01a\x00", "ends inside its topic or packet id"),
        (b"\x32\x05\x00\x01a\x00\x00", "packet id 0"),
        (b"\x30\x03\x00\x01\xff", "not UTF-8"),
        (b"\x30\x02\x00\x00", "without a topic"),
        (b"\x60\x02\x00\x01", "type 6 with the flags 0"),
        (b"\x40\x03\x00\x01\x00", "type 4 with a body of 3 bytes"),
        (b"\x40\x02\x00\x00", "packet id of 0"),
        (b"\x20\x02\x02\x00", "CONNACK with the flags 2"),
        (b"\x20\x02\x01\x05", "CONNACK with the flags 1 and the return code 5"),
        (b"\x90\x03\x00\x01\x03", "SUBACK with the return codes"),
        (b"\x90\x02\x00\x01", "type 9 with a body of 2 bytes"),
        (b"\xd0\x01\x00", "type 13 with a body of 1 bytes"),
        (b"\x10\x00", "type 1, which a broker does not send"),
        (b"\x00\x00", "type 0, which a broker does not send"),
        (b"\xf0\x00", "type 15, which a broker does not send"),
    ],
)
def test_311_refuses_what_is_no_packet_of_a_broker(data: bytes, problem: str) -> None:
    with pytest.raises(MalformedPacket, match=problem):
        Mqtt311().decode(data, [])


def test_311_writes_what_the_specification_shows() -> None:
    codec = Mqtt311()
    assert codec.connect(Connect("me", None, None, 30, 0, 10)) == b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x1e\x00\x02me"
    lasting = codec.connect(Connect("me", "u", "p", 1, 60, 10))
    assert lasting == b"\x10\x14\x00\x04MQTT\x04\xc0\x00\x01\x00\x02me\x00\x01u\x00\x01p"
    assert codec.connect(Connect("", None, "p", 1, 60, 10))[-7:] == b"\x00\x00\x00\x00\x00\x01p"
    assert codec.subscribe(5, [("a/#", 1), ("b", 0)], known=True) == b"\x82\x0c\x00\x05\x00\x03a/#\x01\x00\x01b\x00"
    assert codec.disconnect() == b"\xe0\x00"
    assert ack(PUBACK, 258) + ack(PUBREL, 1) == b"\x40\x02\x01\x02\x62\x02\x00\x01"


def test_5_reads_the_brokers_limits_and_reasons() -> None:
    connack = mqtt5.ConnAckPacket(
        session_present=True, receive_max=20, server_keep_alive=7, max_qos=mqtt5.QoS(1), max_packet_size=99
    )
    assert decode(Mqtt5(), connack.write()) == [ConnAck(True, 0, "", 20, 7, 1, True, 99)]
    refusal = mqtt5.PubAckPacket(7, reason_code=mqtt5.PubAckReasonCode.QUOTA_EXCEEDED, reason_str="full")
    assert decode(Mqtt5(), refusal.write()) == [Ack(PUBACK, 7, 151, "quota exceeded (full)")]
    farewell = mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER)
    assert decode(Mqtt5(), farewell.write()) == [Disconnect(142, "session taken over")]
    assert decode(Mqtt5(), b"\x40\x02\x00\x07") == [Ack(PUBACK, 7)]
    assert decode(Mqtt5(), b"\x20\x02\x00\x01") == [ConnAck(False, 132, "unsupported protocol version")]


# `mqtt5` 0.8 panics at text that is not UTF-8 and reports that as unraisable, besides the exception that we catch.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x30\x05\x00\x02\xff\xff\x00", "not UTF-8"),
        (b"\x30\x02\x00\x05", "Invalid remaining length"),
        (b"\x30\xff\xff\xff\xff\x7f", "variable byte integer"),
        (b"\x32\x06\x00\x01a\x00\x00\x00", "packet id 0"),
        (b"\x10\x00", "Invalid"),
        (b"\xc0\x00", "PingReqPacket, which a broker does not send"),
    ],
)
def test_5_refuses_what_is_no_packet_of_a_broker(data: bytes, problem: str) -> None:
    with pytest.raises(MalformedPacket, match=problem):
        Mqtt5().decode(data, [])


@pytest.mark.parametrize("codec", BOTH)
def test_a_packet_may_come_in_any_pieces(codec: Codec) -> None:
    message = Message("a/b", b"x" * 300, 1, False, False, 7)
    data = codec.publish(message) + b"\xd0\x00"
    for cut in range(len(data)):
        assert feed(codec, [data[:cut], data[cut:]]) == [message, PingResp()]
    assert feed(codec, [bytes([byte]) for byte in data[:-2]]) == [message]


@pytest.mark.parametrize("codec", BOTH)
def test_what_comes_before_a_fault_is_kept(codec: Codec) -> None:
    packets: list[Packet | Messages] = []
    message = Message("t", b"a", 1, True, False, 7)
    with pytest.raises(MalformedPacket):
        PacketReader(codec).feed(codec.publish(message) + b"\xd0\x00\x00\x00", packets)
    assert one_by_one(packets) == [message, PingResp()]


@pytest.mark.parametrize("codec", BOTH)
def test_simple_messages_come_in_runs_and_in_order(codec: Codec) -> None:
    simple = [Message("a/ä", b"%d" % at, at % 2, at % 3 == 0, False, at + 1 if at % 2 else 0) for at in range(9)]
    others = [Message("a/ä", b"x", 2, False, False, 70), Message("b", b"x" * 200, 1, True, True, 71)]
    sent = [*simple[:4], others[0], *simple[4:7], others[1], *simple[7:]]
    packets: list[Packet | Messages] = []
    PacketReader(codec).feed(b"".join(map(codec.publish, sent)), packets)
    assert one_by_one(packets) == sent
    assert [len(packet) for packet in packets if isinstance(packet, Messages)] == [4, 3, 2]


def test_5_a_message_with_properties_is_no_simple_one() -> None:
    packet = mqtt5.PublishPacket("t", b"x", qos=mqtt5.QoS(1), packet_id=5, user_properties=[("k", "v")]).write()
    assert feed(Mqtt5(), [packet * 2]) == [Message("t", b"x", 1, False, False, 5)] * 2


def test_messages_are_columns() -> None:
    sent = [Message("t", b"%d" % at, at % 3, at == 1, at == 2, at if at % 3 else 0) for at in range(6)]
    batch, more = Messages(), Messages()
    for message in sent[:4]:
        batch.append(message)
    for message in sent[4:]:
        more.append(message)
    batch.extend(more)
    assert one_by_one([batch]) == sent
    assert one_by_one([batch.only([5, 1, 2])]) == [sent[5], sent[1], sent[2]]
    assert [message.payload for message in batch[-2:]] == [b"4", b"5"]
    assert (batch[-1].payload, batch[-1].qos, len(batch)) == (b"5", 2, 6)
    with pytest.raises(IndexError):
        batch[6]


def feed(codec: Codec, pieces: list[bytes]) -> list[Packet]:
    reader, packets = PacketReader(codec), list[Packet | Messages]()
    for piece in pieces:
        reader.feed(piece, packets)
    return one_by_one(packets)
