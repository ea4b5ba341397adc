"""Read and write MQTT 3.1.1 packets, as a client does: pure functions on bytes.

Source: OASIS MQTT Version 3.1.1 (2014); section numbers are its own. Return codes are given as MQTT 5's reason codes.
"""

import struct
from collections.abc import Sequence
from typing import Literal

from engine.mqtt_codec import (
    FAILURE,
    UNSUPPORTED_VERSION,
    Ack,
    ConnAck,
    Connect,
    MalformedPacket,
    Message,
    Packet,
    PingResp,
    SubAck,
    frame,
)

_u16 = struct.Struct(">H")
_RETURN_CODES = {
    0: (0, ""),
    1: (UNSUPPORTED_VERSION, "unsupported protocol version"),
    2: (133, "client id not valid"),
    3: (136, "server unavailable"),
    4: (134, "bad user name or password"),
    5: (135, "not authorized"),
}
_FLAGS = {2: 0, 4: 0, 5: 0, 6: 2, 7: 0, 9: 0, 13: 0}
"""The packets other than PUBLISH that a broker sends to us, with their fixed header's flags (2.2.2)."""


class Mqtt311:
    """MQTT 3.1.1 as a client speaks it."""

    version: Literal[4, 5] = 4

    def connect(self, connect: Connect) -> bytes:
        """Write CONNECT (3.1). The broker refuses a password without a user name, so an empty name goes before it."""
        username = "" if connect.username is None and connect.password is not None else connect.username
        flags = (connect.expiry == 0) << 1
        payload = _text(connect.client_id)
        if username is not None:
            flags |= 0x80
            payload += _text(username)
        if connect.password is not None:
            flags |= 0x40
            payload += _text(connect.password)
        return _packet(0x10, _text("MQTT") + struct.pack(">BBH", 4, flags, connect.keepalive) + payload)

    def subscribe(self, packet_id: int, topics: Sequence[tuple[str, int]], *, known: bool) -> bytes:
        """Write SUBSCRIBE (3.8); 3.1.1 has no way to leave out retained messages, `known` or not."""
        filters = [_text(topic) + bytes((qos,)) for topic, qos in topics]
        return _packet(0x82, _u16.pack(packet_id) + b"".join(filters))

    def publish(self, message: Message) -> bytes:
        """Write PUBLISH (3.3)."""
        head = 0x30 | message.dup << 3 | message.qos << 1 | message.retain
        number = _u16.pack(message.packet_id) if message.qos else b""
        return _packet(head, _text(message.topic) + number + message.payload)

    def disconnect(self) -> bytes:
        """Write DISCONNECT (3.14)."""
        return b"\xe0\x00"

    def decode(self, data: bytes, packets: list[Packet], offset: int = 0, most: int | None = None) -> int:
        """Append the complete packets from `offset` on, at most so many, and return where the next one begins."""
        total = len(data)
        while most != 0 and (found := frame(data, offset)):
            start, end = found
            if end > total:
                break
            head = data[offset]
            packets.append(_publish(data, head, start, end) if head >> 4 == 3 else _other(data, head, start, end))
            offset, most = end, None if most is None else most - 1
        return offset


def _publish(data: bytes, head: int, start: int, end: int) -> Message:
    qos = head >> 1 & 3
    if qos == 3:
        raise MalformedPacket("a PUBLISH with QoS 3")
    body = start + 2
    if body > end:
        raise MalformedPacket("a PUBLISH that ends inside the length of its topic")
    topic_end = body + (data[start] << 8 | data[start + 1])
    payload = topic_end + 2 if qos else topic_end
    if payload > end:
        raise MalformedPacket("a PUBLISH that ends inside its topic or packet id")
    packet_id = data[topic_end] << 8 | data[topic_end + 1] if qos else 0
    if qos and not packet_id:
        raise MalformedPacket("a PUBLISH with packet id 0")
    try:
        topic = data[body:topic_end].decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("a PUBLISH whose topic is not UTF-8") from error
    if not topic:
        raise MalformedPacket("a PUBLISH without a topic")
    return Message(topic, data[payload:end], qos, bool(head & 1), bool(head & 8), packet_id)


def _other(data: bytes, head: int, start: int, end: int) -> Packet:
    kind, length = head >> 4, end - start
    flags = _FLAGS.get(kind)
    if flags is None:
        raise MalformedPacket(f"a packet of type {kind}, which a broker does not send to us")
    if head & 15 != flags:
        raise MalformedPacket(f"a packet of type {kind} with the flags {head & 15}")
    if length < 3 if kind == 9 else length != (0 if kind == 13 else 2):
        raise MalformedPacket(f"a packet of type {kind} with a body of {length} bytes")
    if kind == 9:
        return _suback(data, start, end)
    if kind == 13:
        return PingResp()
    if kind == 2:
        return _connack(data[start], data[start + 1])
    return Ack(kind, _packet_id(data, start))


def _connack(flags: int, code: int) -> ConnAck:
    if flags > 1 or (flags and code):
        raise MalformedPacket(f"a CONNACK with the flags {flags} and the return code {code}")
    reason, text = _RETURN_CODES.get(code, (FAILURE, f"return code {code}"))
    return ConnAck(bool(flags), reason, text)


def _suback(data: bytes, start: int, end: int) -> SubAck:
    codes = list(data[start + 2 : end])
    if any(code > 2 and code != FAILURE for code in codes):
        raise MalformedPacket(f"a SUBACK with the return codes {codes}")
    return SubAck(_packet_id(data, start), codes)


def _packet_id(data: bytes, start: int) -> int:
    packet_id = data[start] << 8 | data[start + 1]
    if not packet_id:
        raise MalformedPacket("a packet id of 0")
    return packet_id


def _text(value: str) -> bytes:
    data = value.encode()
    return _u16.pack(len(data)) + data


def _packet(head: int, body: bytes) -> bytes:
    length, digits = len(body), bytearray((head,))
    while length > 0x7F:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    digits.append(length)
    return bytes(digits) + body
