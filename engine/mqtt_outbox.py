"""What we publish over MQTT, from the call to the broker's acknowledgement, without I/O."""

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from engine.errors import MillstreamError
from engine.mqtt_codec import FAILURE, PUBACK, PUBCOMP, PUBREC, PUBREL, Ack, Codec, ConnAck, Message, ack

_CHUNK = 256 * 1024
"""About how many bytes are handed to the socket at once, so that its own back-pressure is felt in between."""


class PublishRefused(MillstreamError):
    """The broker took none of these messages: `refusals` holds (topic, reason) pairs."""

    def __init__(self, refusals: list[tuple[str, str]]) -> None:
        self.refusals = refusals
        super().__init__("; ".join(f"publish to {topic!r}: {reason}" for topic, reason in refusals))


class Receipt:
    """One call of `publish`: its future resolves when every message of it is settled."""

    def __init__(self, remaining: int) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._remaining = remaining
        self._refusals: list[tuple[str, str]] = []
        if not remaining:
            self.future.set_result(None)

    def settle(self, topic: str, refusal: str = "") -> None:
        """Count one message of the call as done, or as refused."""
        if refusal:
            self._refusals.append((topic, refusal))
        self._remaining -= 1
        if self._remaining or self.future.done():
            return
        if self._refusals:
            self.future.set_exception(PublishRefused(self._refusals))
        else:
            self.future.set_result(None)


class _Outgoing(msgspec.Struct):
    message: Message
    receipt: Receipt
    released: bool = False


class Outbox:
    """Messages waiting to be sent, in order, and those in flight by packet id."""

    def __init__(self) -> None:
        self._waiting: deque[_Outgoing] = deque()
        self._in_flight: dict[int, _Outgoing] = {}
        self._used: set[int] = set()
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    def add(self, messages: Sequence[tuple[str, bytes, int, bool]]) -> Receipt:
        """Queue (topic, payload, qos, retain) tuples, or none of them: ValueError for what MQTT cannot carry."""
        for topic, payload, qos, _ in messages:
            _check(topic, payload, qos)
        receipt = Receipt(len(messages))
        for topic, payload, qos, retain in messages:
            self._waiting.append(_Outgoing(Message(topic, payload, qos, retain, False, 0), receipt))
        return receipt

    def packet_id(self) -> int:
        """Return a packet id (1 to 65535) that is not in flight."""
        while True:
            self._last_id = self._last_id % 65535 + 1
            if self._last_id not in self._used:
                return self._last_id

    def take(self, codec: Codec, limits: ConnAck) -> bytes:
        """Return the next packets to write, within the broker's receive maximum; empty when there are none."""
        chunks: list[bytes] = []
        size = 0
        while self._waiting and size < _CHUNK:
            outgoing = self._waiting[0]
            if outgoing.message.qos and len(self._in_flight) >= min(limits.receive_maximum, 65000):
                break
            self._waiting.popleft()
            packet = self._packet(outgoing, codec, limits)
            size += len(packet)
            chunks.append(packet)
        return b"".join(chunks)

    def _packet(self, outgoing: _Outgoing, codec: Codec, limits: ConnAck) -> bytes:
        message, receipt = outgoing.message, outgoing.receipt
        if outgoing.released:
            self._in_flight[message.packet_id] = outgoing
            return ack(PUBREL, message.packet_id)
        if receipt.future.cancelled() and not message.packet_id:
            return b""
        if message.qos and not message.packet_id:
            message.packet_id = self.packet_id()
        packet, refusal = _write(codec, message, limits)
        if refusal:
            self._used.discard(message.packet_id)
            receipt.settle(message.topic, refusal)
            return b""
        if message.qos:
            self._used.add(message.packet_id)
            self._in_flight[message.packet_id] = outgoing
        else:
            receipt.settle(message.topic)
        return packet

    def settle(self, answer: Ack) -> bytes:
        """Take in PUBACK, PUBREC or PUBCOMP and return the answer to write (PUBREL, or nothing)."""
        outgoing = self._in_flight.get(answer.packet_id)
        if answer.kind == PUBREC and answer.code < FAILURE:
            if outgoing is not None:
                outgoing.released = True
            return ack(PUBREL, answer.packet_id)
        if outgoing is None or answer.kind not in (PUBACK, PUBREC, PUBCOMP):
            return b""
        del self._in_flight[answer.packet_id]
        self._used.discard(answer.packet_id)
        refused = answer.code >= FAILURE and answer.kind != PUBCOMP
        outgoing.receipt.settle(outgoing.message.topic, answer.text or f"code {answer.code}" if refused else "")
        return b""

    def resume(self, *, session_present: bool) -> None:
        """Put what was in flight before what waits, in its order: to be sent again over a new connection.

        A broker that has lost the session knows no PUBREC of ours either, so a QoS 2 message starts anew there.
        """
        again = list(self._in_flight.values())
        self._in_flight.clear()
        for outgoing in again:
            outgoing.released = outgoing.released and session_present
            outgoing.message.dup = True
        self._waiting.extendleft(reversed(again))

    def abandon(self, error: Exception) -> None:
        """Fail every call that still waits."""
        for outgoing in [*self._in_flight.values(), *self._waiting]:
            if not outgoing.receipt.future.done():
                outgoing.receipt.future.set_exception(error)
        self._in_flight.clear()
        self._waiting.clear()


def _check(topic: str, payload: bytes, qos: int) -> None:
    if not topic or any(letter in topic for letter in "+#\0") or len(topic.encode()) > 65535:
        raise ValueError(f"topic {topic[:80]!r}: expected 1 to 65535 bytes without '+', '#' and NUL")
    if qos not in (0, 1, 2):
        raise ValueError(f"topic {topic[:80]!r}: qos: expected 0, 1 or 2; got {qos!r}")
    if len(payload) > 268_435_455 - 65_600:
        raise ValueError(f"topic {topic[:80]!r}: a payload of {len(payload)} bytes is more than MQTT can carry")


def _write(codec: Codec, message: Message, limits: ConnAck) -> tuple[bytes, str]:
    """Return the packet, and why it must not be sent if so."""
    if message.qos > limits.maximum_qos:
        return b"", f"the broker allows at most QoS {limits.maximum_qos}"
    if message.retain and not limits.retain:
        return b"", "the broker keeps no retained messages"
    try:
        packet = codec.publish(message)
    except ValueError as error:
        return b"", str(error)
    if limits.maximum_packet is not None and len(packet) > limits.maximum_packet:
        return b"", f"the packet of {len(packet)} bytes is larger than the {limits.maximum_packet} the broker allows"
    return packet, ""
