"""`mqtt`: publish to a broker."""

import asyncio
from typing import Literal

import msgspec

from engine.api import Event, Example, Expression, MqttSession, Node, Outside, Sink, Writer, component


@component("mqtt")
class Mqtt(Sink):
    """Publish each event as JSON to the broker that `MILLSTREAM_MQTT` names (the embedded one by default).

    Delivery: at QoS 1 at least once (a restart may publish the last second again); the broker has it before the
    flow's snapshot moves on.
    """

    topic: Expression | None = None
    """The topic: an expression, so a fixed one is quoted text; default: the event's own topic."""
    qos: Literal[0, 1] = 1
    """The quality of service."""
    retain: bool = False
    """Whether the broker keeps the last one for those who subscribe later."""
    fields: list[str] = []
    """Which fields are sent (default: all)."""

    guarantee = "at least once at QoS 1, at most once at QoS 0"
    examples = (
        Example(
            about="A command back to a device.",
            config="mqtt: {topic: \"'device/' + id + '/command'\"}",
            given=[{"id": "a"}],
            expect=[{"id": "a"}],
        ),
    )

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Connect."""
        session = MqttSession(
            outside.mqtt.address,
            f"{outside.mqtt.client_id}-{outside.flow}-{node.name}",
            version=outside.mqtt.version,
            persistent=False,
        )
        return Publisher(self, session)


class Publisher:
    """Publishes batches on one connection."""

    def __init__(self, options: Mqtt, session: MqttSession) -> None:
        self.options, self.session = options, session
        self._running = asyncio.create_task(session.run())

    async def write(self, events: list[Event]) -> None:
        """Return when the broker has them all."""
        await self.session.publish(
            [(self._topic(e), self._payload(e), self.options.qos, self.options.retain) for e in events]
        )

    def _topic(self, event: Event) -> str:
        return event.topic if self.options.topic is None else str(self.options.topic(event))

    def _payload(self, event: Event) -> bytes:
        fields = self.options.fields
        return msgspec.json.encode({name: event.data.get(name) for name in fields} if fields else event.data)

    async def close(self) -> None:
        """Disconnect."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
