"""What amqtt lacks for at-least-once delivery.

amqtt 0.12 gives up a message that is not acknowledged within 5 s, and all that is in flight when a client goes; it
keeps nothing for anonymous clients, and never answers a client that speaks MQTT 5. These classes mend that. Sessions
and retained messages are in memory: they outlive a client, not the process.
"""

import asyncio
import logging
from typing import Any

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker, RetainedApplicationMessage
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import IncomingApplicationMessage, OutgoingApplicationMessage, Session

log = logging.getLogger(__name__)

WINDOW = 1000
"""Messages of QoS 1 and 2 in flight to one client; the rest waits in its session."""

_NAME, _LEVEL = b"\x00\x04MQTT", 4
_UNACCEPTABLE_VERSION = b"\x20\x02\x00\x01"


class Anyone(BaseAuthPlugin):  # type: ignore[misc]  # amqtt carries no types
    """Let everyone in, with a session that lasts (amqtt's own plugin for this drops it at once)."""

    async def authenticate(self, *, session: Session) -> bool:
        return True


class _Handler(BrokerProtocolHandler):  # type: ignore[misc]  # amqtt carries no types
    """One client's connection: what is in flight stays in the session until it is acknowledged."""

    async def start(self) -> None:
        if not self.session.transitions.is_connected():
            self.session.transitions.connect()
        await super().start()

    async def stop(self) -> None:
        """End the connection; the end of input stops a reader that misses its cancellation (a race in `wait_for`)."""
        if self.reader is not None:
            self.reader.feed_eof()
        await super().stop()

    async def mqtt_publish(
        self, topic: str, data: bytes, qos: int | None, retain: bool, ack_timeout: int | None = None
    ) -> OutgoingApplicationMessage | None:
        """Send a message, or let it wait in the session while the window is full; never wait for its PUBACK."""
        session = self.session
        if not qos:
            return await super().mqtt_publish(topic, data, qos, retain)
        if len(session.inflight_out) >= WINDOW or not session.retained_messages.empty():
            waiting = RetainedApplicationMessage(None, topic, data, qos)
            waiting.retain = retain
            session.retained_messages.put_nowait(waiting)
            return None
        return await self._send(session, topic, data, qos, retain)

    async def _send(
        self, session: Session, topic: str, data: bytes, qos: int, retain: bool
    ) -> OutgoingApplicationMessage:
        message = OutgoingApplicationMessage(session.next_packet_id, topic, qos, data, retain)
        session.inflight_out[message.packet_id] = message
        await self._send_packet(message.build_publish_packet())
        return message

    async def send_waiting(self) -> None:
        """Send what waits in the session, as far as the window lets us."""
        session = self.session
        waiting = session.retained_messages
        while not waiting.empty() and len(session.inflight_out) < WINDOW:
            message = waiting.get_nowait()
            await self._send(session, message.topic, message.data, message.qos, message.retain)

    async def _retry_deliveries(self) -> None:
        for message in list(self.session.inflight_out.values()):
            if message.pubrec_packet is not None:
                await self._send_packet(PubrelPacket.build(message.packet_id))
            else:
                await self._send_packet(message.build_publish_packet(dup=True))

    async def handle_puback(self, puback: PubackPacket) -> None:
        self.session.inflight_out.pop(puback.packet_id, None)
        await self.send_waiting()

    async def handle_pubrec(self, pubrec: PubrecPacket) -> None:
        message = self.session.inflight_out.get(pubrec.packet_id)
        if message is not None:
            message.pubrec_packet = pubrec
        await self._send_packet(PubrelPacket.build(pubrec.packet_id))

    async def handle_pubcomp(self, pubcomp: PubcompPacket) -> None:
        self.session.inflight_out.pop(pubcomp.packet_id, None)
        await self.send_waiting()

    async def handle_publish(self, publish_packet: PublishPacket) -> None:
        """Keep an incoming QoS 2 message until its PUBREL; a repeated one is only answered again."""
        if publish_packet.qos != 2:
            await super().handle_publish(publish_packet)
            return
        packet_id = publish_packet.packet_id
        if packet_id not in self.session.inflight_in:
            message = IncomingApplicationMessage(
                packet_id, publish_packet.topic_name, 2, publish_packet.data, publish_packet.retain_flag
            )
            message.publish_packet = publish_packet
            self.session.inflight_in[packet_id] = message
        await self._send_packet(PubrecPacket.build(packet_id))

    async def handle_pubrel(self, pubrel: PubrelPacket) -> None:
        message = self.session.inflight_in.pop(pubrel.packet_id, None)
        if message is not None:
            await self.session.delivered_message_queue.put(message)
        await self._send_packet(PubcompPacket.build(pubrel.packet_id))


class EmbeddedBroker(Broker):  # type: ignore[misc]  # amqtt carries no types
    """amqtt's broker with our connections."""

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one connection; tell a client that speaks another version so (amqtt would leave it waiting)."""
        try:
            first = await _first_bytes(reader)
            if first[-7:-1] == _NAME and first[-1] != _LEVEL:
                writer.write(_UNACCEPTABLE_VERSION)
            else:
                await self._client_connected(listener_name, _Replay(first, reader), StreamWriterAdapter(writer))
        except (OSError, EOFError) as error:
            log.debug("a client went away: %r", error)
        finally:
            writer.close()

    async def _initialize_client_session(self, *args: Any) -> tuple[_Handler, Session]:
        _, session = await super()._initialize_client_session(*args)
        return _Handler(self.plugins_manager, loop=self._loop), session

    async def _publish_session_retained_messages(self, session: Session) -> None:
        await self._sessions[session.client_id][1].send_waiting()

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Send the retained messages of a filter; amqtt asks this for other clients' filters too."""
        topic_filter, qos = subscription
        if all(subscriber is not session for subscriber, _ in self._subscriptions.get(topic_filter, ())):
            return
        handler = self._sessions[session.client_id][1]
        for topic, retained in list(self._retained_messages.items()):
            if self._matches(topic, topic_filter):
                await handler.mqtt_publish(topic, retained.data, min(qos, retained.qos or 0), retain=True)

    async def _handle_disconnect(
        self, client_session: Session, handler: BrokerProtocolHandler, disconnect_waiter: asyncio.Future[Any]
    ) -> None:
        """End a connection; where a newer one has taken over, the session stays connected."""
        await super()._handle_disconnect(client_session, handler, disconnect_waiter)
        _, current = self._sessions.get(client_session.client_id, (None, handler))
        if current is not handler and not client_session.transitions.is_connected():
            client_session.transitions.connect()


class _Replay(StreamReaderAdapter):  # type: ignore[misc]  # amqtt carries no types
    """A reader that gives bytes already read first."""

    def __init__(self, first: bytes, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._first = first

    async def read(self, n: int = -1) -> bytes:
        if not self._first:
            return bytes(await super().read(n))
        taken, self._first = self._first[:n], self._first[n:]
        return taken if len(taken) == n else taken + bytes(await super().read(n - len(taken)))


async def _first_bytes(reader: asyncio.StreamReader) -> bytes:
    """Read a CONNECT as far as its protocol level (3.1.1, section 3.1.2)."""
    first = await reader.readexactly(2)
    while first[-1] & 0x80 and len(first) < 5:
        first += await reader.readexactly(1)
    return first + await reader.readexactly(len(_NAME) + 1)
