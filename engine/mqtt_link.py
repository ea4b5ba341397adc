"""One connection to an MQTT broker: bytes in and out, what is unacknowledged, when to read."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import cast

from engine.mqtt_codec import (
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    Codec,
    ConnAck,
    Disconnect,
    MalformedPacket,
    Message,
    Packet,
    PingResp,
    SubAck,
    ack,
    acks,
)
from engine.mqtt_messages import Messages
from engine.mqtt_reader import PacketReader

log = logging.getLogger(__name__)

FARTHEST = 30_000
"""Unacknowledged messages of a connection: with those of a read more (256 KiB), fewer than there are packet ids."""

BUSY, GATHER = 5_000, 0.002
"""Messages a second above which a connection is read at most once in so many seconds, since large reads cost less."""

CONFIRM = 0.05
"""Seconds from an acknowledgement to the PINGREQ whose answer shows that the broker has read it."""


class Link(asyncio.Protocol):
    """An `asyncio.Protocol` over a codec; every read's PUBLISHes reach `on_messages` as one batch.

    `released` holds the packet ids of QoS 2 messages that the application has acknowledged and the broker has not yet
    released; it outlives the connection, so that a repeated one is not delivered again.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        on_messages: Callable[[Messages], None],
        on_ack: Callable[[Ack], None],
        on_writable: Callable[[], None],
        receive_maximum: int,
        released: set[int],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.codec = codec
        self.connack: asyncio.Future[ConnAck] = loop.create_future()
        self.suback: asyncio.Future[SubAck] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.writable = True
        self.reading = True
        self.reads = 0
        self._on_messages, self._on_ack, self._on_writable = on_messages, on_ack, on_writable
        self._released = released
        # 3.1.1 has no receive maximum, so we stop reading instead. MQTT 5 brokers keep to it, except for Mosquitto 2.0
        # when it empties a queue: it would use packet ids again that are not acknowledged.
        self._window = receive_maximum if codec.version == 4 else max(receive_maximum, FARTHEST)
        self._held = self._gathering = False
        self._pace = Pace(loop.time)
        self._pending: dict[int, Messages] = {}
        self._written: list[Callable[[], None]] = []
        self._pings: deque[list[Callable[[], None]]] = deque()
        self._reader = PacketReader(codec)
        self._reason = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._reason:
            return
        self.reads += 1
        packets: list[Packet | Messages] = []
        fault = ""
        try:
            self._reader.feed(data, packets)
        except MalformedPacket as error:
            log.warning("the MQTT broker sent a malformed packet: %s", error)
            fault = f"malformed packet: {error}"
        batch = Messages()
        for packet in packets:
            if type(packet) is Messages:
                batch = self._gathered(batch, packet)
            elif type(packet) is Message:
                self._take(batch, packet)
            else:
                self._control(cast(Packet, packet))
        if batch:
            self._deliver(batch)
        if fault:
            self.drop(fault)

    def _gathered(self, batch: Messages, run: Messages) -> Messages:
        """Return the batch with a run; usually a read is one run."""
        if not batch:
            batch = run
        else:
            batch.extend(run)
        self._pending.update(dict.fromkeys(run.packets, batch))
        self._pending.pop(0, None)
        return batch

    def _take(self, batch: Messages, message: Message) -> None:
        """Take one message that is not simple, unless it is here already."""
        if message.qos == 2 and message.packet_id in self._released:
            self.write(ack(PUBREC, message.packet_id))
            return
        if message.dup and message.packet_id in self._pending:
            return
        batch.append(message)
        if message.qos:
            self._pending[message.packet_id] = batch

    def _deliver(self, batch: Messages) -> None:
        if self._pace.busy(len(batch)):
            self._gather(True)
            asyncio.get_running_loop().call_later(GATHER, self._gather, False)
        elif len(self._pending) >= self._window:
            self._read_on()
        try:
            self._on_messages(batch)
        except Exception as error:
            log.exception("a batch of %d MQTT messages could not be taken; the broker will send it again", len(batch))
            self.drop(f"messages could not be taken: {error!r}")

    def _control(self, packet: Packet) -> None:
        match packet:
            case Ack(kind=kind, packet_id=packet_id) if kind == PUBREL:
                self._released.discard(packet_id)
                self.write(ack(PUBCOMP, packet_id))
            case Ack():
                self._on_ack(packet)
            case ConnAck() if not self.connack.done():
                if not packet.session_present:
                    self._released.clear()
                self.connack.set_result(packet)
            case PingResp():
                self._pong()
            case SubAck() if not self.suback.done():
                self.suback.set_result(packet)
            case Disconnect(text=text):
                self.drop(f"the broker closed the connection: {text or 'without a reason'}")

    def _pong(self) -> None:
        for confirmed in self._pings.popleft() if self._pings else ():
            confirmed()

    def acknowledge(self, messages: Iterable[Message], confirmed: Callable[[], None] | None = None) -> None:
        """Write the acknowledgements of messages that came over this connection, in one write; ignore others.

        `confirmed` is called when the broker has read them: packets are read in order, so the answer to a later PINGREQ
        shows it. It is never called when the connection is lost before, or none of them came over this one.
        """
        written = self._acks_of_all(messages) if type(messages) is Messages else self._acks_of_each(messages)
        self.write(written)
        if confirmed is not None and written:
            if not self._written:
                asyncio.get_running_loop().call_later(CONFIRM, self._confirm)
            self._written.append(confirmed)
        if len(self._pending) < self._window:
            self._read_on()

    def _acks_of_all(self, batch: Messages) -> bytes:
        if batch.qos_2:
            return self._acks_of_each(batch)
        pending = self._pending
        packets = [packet for packet in batch.packets if pending.get(packet) is batch]
        for packet in packets:
            del pending[packet]
        return acks(PUBACK, packets)

    def _acks_of_each(self, messages: Iterable[Message]) -> bytes:
        chunks: list[bytes] = []
        for message in messages:
            if message.qos == 0 or self._pending.get(message.packet_id, self) is not message.batch:
                continue
            del self._pending[message.packet_id]
            if message.qos == 2:
                self._released.add(message.packet_id)
            chunks.append(ack(PUBACK if message.qos == 1 else PUBREC, message.packet_id))
        return b"".join(chunks)

    def _confirm(self) -> None:
        if self._written:
            self._ping()

    def _ping(self) -> None:
        self._pings.append(self._written)
        self._written = []
        self.write(PINGREQ)

    def hold(self, held: bool) -> None:
        """Stop reading (True) until told otherwise (False)."""
        self._held = held
        self._read_on()

    def _gather(self, gathering: bool) -> None:
        self._gathering = gathering
        self._read_on()

    def _read_on(self) -> None:
        want = not self._held and not self._gathering and len(self._pending) < self._window
        if want == self.reading or self._transport.is_closing():
            return
        self.reading = want
        if want:
            self.reads += 1
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Write packets, if the connection still stands."""
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._on_writable()

    def drop(self, reason: str) -> None:
        """Cut the connection at once."""
        self._reason = self._reason or reason
        self._transport.abort()

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109 - cuts the connection then, rather than raise
        """Say DISCONNECT and let the broker close, which shows that it has read our last acknowledgements."""
        self.write(self.codec.disconnect())
        self._reason = self._reason or "stopped"
        if not self.reading and not self._transport.is_closing():
            self.reading = True
            self._transport.resume_reading()
        await asyncio.wait((self.closed,), timeout=timeout)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self._reason or (str(exc) if exc else "the broker closed the connection")
        self._pending.clear()
        self._written.clear()
        self._pings.clear()
        self.closed.set_result(reason)

    async def keep_alive(self, interval: float) -> str:
        """Send a PINGREQ every `interval` seconds until the connection is lost; return why it was.

        A broker from which nothing came for a whole interval after a PINGREQ is taken for lost, unless we do not read.
        """
        while not self.closed.done():
            seen = self.reads
            self._ping()
            await asyncio.wait((self.closed,), timeout=interval)
            if self.reads == seen and self.reading and not self.closed.done():
                self.drop(f"no answer to a PINGREQ within {interval:g} s")
                await asyncio.wait((self.closed,), timeout=1)
        return self.closed.result()


class Pace:
    """How fast messages come, looked at a hundred times a second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._since, self._count, self._busy = clock, clock(), 0, False

    def busy(self, count: int) -> bool:
        """Count messages; tell whether more than BUSY a second have come lately."""
        now = self._clock()
        if now - self._since >= 0.01:
            self._busy = self._count > BUSY * (now - self._since)
            self._since, self._count = now, 0
        self._count += count
        return self._busy
