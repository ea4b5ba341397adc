"""A station of the line as the broker sees it: one MQTT 3.1.1 connection that publishes at QoS 1, in order."""

import itertools
import json
import socket
import struct
from collections.abc import Iterable
from typing import Self

from tests.process import LOCALHOST

CONNACK, PUBACK = 0x20, 0x40
AT_ONCE = 500
_name = itertools.count(1)


def text_of(payload: object) -> bytes:
    """Return a payload as it goes over the wire: bytes as they are, text in UTF-8, anything else as JSON."""
    if isinstance(payload, bytes):
        return payload
    return payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()


class Device:
    """Publishes to several topics in one order, which no command of mosquitto-clients does.

    Packets: MQTT 3.1.1 (OASIS), sections 3.1 to 3.4. Every wait ends after 30 s with TimeoutError.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((LOCALHOST, port), timeout=30)
        self._received = b""
        self._packet = 0
        client = f"station-{next(_name)}".encode()
        self._send(0x10, b"\x00\x04MQTT\x04\x02\x00\x3c" + _sized(client))
        assert self._answer()[0] == CONNACK

    def publish(self, messages: Iterable[tuple[str, object]]) -> None:
        """Send (topic, payload) in this order; return when the broker has acknowledged them all."""
        waiting = 0
        for topic, payload in messages:
            self._packet = self._packet % 0xFFFF + 1
            self._send(0x32, _sized(topic.encode()) + struct.pack(">H", self._packet) + text_of(payload))
            waiting += 1
            if waiting == AT_ONCE:
                self._acknowledged(waiting)
                waiting = 0
        self._acknowledged(waiting)

    def _acknowledged(self, count: int) -> None:
        for _ in range(count):
            assert self._answer()[0] == PUBACK

    def _send(self, kind: int, body: bytes) -> None:
        size, left = bytearray(), len(body)
        while left > 0x7F:
            size.append(left & 0x7F | 0x80)
            left >>= 7
        self._socket.sendall(bytes([kind, *size, left]) + body)

    def _answer(self) -> bytes:
        """Return the next packet: what a broker answers here has four bytes."""
        while len(self._received) < 4:
            part = self._socket.recv(65536)
            if not part:
                raise ConnectionError("the broker closed the connection")
            self._received += part
        packet, self._received = self._received[:4], self._received[4:]
        return packet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _sized(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text
