"""What both versions of MQTT share when packets are turned into bytes and back, without I/O.

`engine.mqtt_codec_5` and `engine.mqtt_codec_311` are the codecs. Reason codes are MQTT 5's in both.
Source: OASIS MQTT Version 5.0 (2019) and 3.1.1 (2014).
"""

import struct
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

PUBACK, PUBREC, PUBREL, PUBCOMP = 4, 5, 6, 7
PINGREQ = b"\xc0\x00"
UNSUPPORTED_VERSION = 132
FAILURE = 128
"""Reason codes from here on say that something failed."""

_ACK_HEADER = {PUBACK: 0x4002, PUBREC: 0x5002, PUBREL: 0x6202, PUBCOMP: 0x7002}
_ack = struct.Struct(">HH").pack


class MalformedPacket(ValueError):
    """The peer sent bytes that are not the MQTT packet they claim to be; its text says what was wrong."""


class Message(msgspec.Struct, gc=False):
    """A PUBLISH as it arrived; `packet_id` is 0 at QoS 0. `batch` is what it was received in."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    batch: object = None


class ConnAck(msgspec.Struct, frozen=True):
    """The broker's answer to CONNECT, with the limits that it sets (`keepalive` in seconds, None: ours holds)."""

    session_present: bool
    code: int
    text: str
    receive_maximum: int = 65535
    keepalive: int | None = None
    maximum_qos: int = 2
    retain: bool = True
    maximum_packet: int | None = None


class SubAck(msgspec.Struct, frozen=True):
    """The broker's answer to SUBSCRIBE: one reason code a topic filter."""

    packet_id: int
    codes: list[int]


class Ack(msgspec.Struct, frozen=True):
    """PUBACK, PUBREC, PUBREL or PUBCOMP, by `kind`."""

    kind: int
    packet_id: int
    code: int = 0
    text: str = ""


class PingResp(msgspec.Struct, frozen=True):
    """The broker's answer to PINGREQ."""


class Disconnect(msgspec.Struct, frozen=True):
    """The broker's farewell (MQTT 5 only)."""

    code: int
    text: str


Packet = Message | ConnAck | SubAck | Ack | PingResp | Disconnect


class Connect(msgspec.Struct, frozen=True):
    """What CONNECT says; the broker keeps the session for `expiry` seconds (3.1.1 knows only 0 and for ever)."""

    client_id: str
    username: str | None
    password: str | None
    keepalive: int
    expiry: int
    receive_maximum: int


class Codec(Protocol):
    """One version of MQTT, as a client speaks it."""

    version: Literal[4, 5]

    def connect(self, connect: Connect) -> bytes:
        """Write CONNECT."""

    def subscribe(self, packet_id: int, topics: Sequence[tuple[str, int]], *, known: bool) -> bytes:
        """Write SUBSCRIBE; `known` asks for no retained messages of subscriptions that the broker already holds."""

    def publish(self, message: Message) -> bytes:
        """Write PUBLISH."""

    def disconnect(self) -> bytes:
        """Write a normal DISCONNECT."""

    def decode(self, data: bytes, packets: list[Packet], offset: int = 0, most: int | None = None) -> int:
        """Append the complete packets from `offset` on, at most so many, and return where the next one begins.

        Raises MalformedPacket.
        """


def ack(kind: int, packet_id: int) -> bytes:
    """Write a successful PUBACK, PUBREC, PUBREL or PUBCOMP (the same bytes in both versions)."""
    return _ack(_ACK_HEADER[kind], packet_id)


def acks(kind: int, packet_ids: Sequence[int]) -> bytes:
    """Write many of them."""
    head = _ACK_HEADER[kind] << 16
    return struct.pack(f">{len(packet_ids)}I", *[head | packet_id for packet_id in packet_ids])


def frame(data: bytes, offset: int) -> tuple[int, int] | None:
    """Find the packet at `offset`: where its body starts and ends, or None while its length is not yet there.

    The end may lie beyond the data. Raises MalformedPacket when the length takes more than four bytes (MQTT 5, 1.5.5).
    """
    length = 0
    for place in range(4):
        if offset + 1 + place >= len(data):
            return None
        digit = data[offset + 1 + place]
        length |= (digit & 0x7F) << (7 * place)
        if digit < 0x80:
            start = offset + 2 + place
            return start, start + length
    raise MalformedPacket("the remaining length takes more than four bytes")
