"""`mqtt`: publish to a broker."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import PrivateAttr, ValidationInfo, field_validator, model_validator

from engine.api import (
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    MqttBroker,
    MqttSession,
    Node,
    Outside,
    Problem,
    PublishRefused,
    Reach,
    Sink,
    Type,
    Writer,
    component,
    outgoing,
    unknown_fields,
)

LONGEST_TOPIC = 65_535  # bytes
Message = tuple[str, bytes, int, bool]


@component("mqtt")
class Mqtt(Sink):
    """Publish each event, by default as JSON to the broker that `MILLSTREAM_MQTT` names (or else the embedded one).

    Delivery: at QoS 1 and 2 at least once (a restart may publish the last second again); the broker has it before the
    flow's snapshot moves on. At QoS 2 a lost connection doubles nothing as long as the broker keeps the session. What
    the broker refuses, or MQTT cannot carry, is a dead letter.
    """

    topic: Expression | None = None
    """The topic: an expression, so a fixed one is quoted text; default: the event's own topic."""
    qos: Literal[0, 1, 2] = 1
    """The quality of service."""
    retain: bool | Expression = False
    """Whether the broker keeps the last one for those who subscribe later: true, or an expression."""
    fields: list[str] = []
    """Which fields are sent as JSON (default: all)."""
    payload: Expression | None = None
    """What is sent in place of the fields: text and bytes as they are, all else as JSON; none is an empty payload,
    which with `retain` lets the broker forget what it keeps."""
    text: str | None = None
    """What is sent in place of JSON: a Jinja template over the fields, `meta` and `settings`."""
    broker: MqttBroker | None = None
    """Another broker: its address (`mqtts://…`), or `{url: …, ca: …, certificate: …, key: …}`."""

    _around: outgoing.Surroundings = PrivateAttr(default_factory=outgoing.Surroundings)
    guarantee = "at least once at QoS 1 and 2, at most once at QoS 0"
    examples = (
        Example(
            about="A command back to a device.",
            config="mqtt: {topic: \"'device/' + id + '/command'\"}",
            given=[{"id": "a"}],
            expect=[{"id": "a"}],
        ),
        Example(
            about="A lamp that is told what to show as plain text, and the broker keeps it while there is an alarm.",
            config="mqtt: {topic: \"'lamp/' + line\", qos: 2, payload: \"'red' if hot else 'green'\", retain: hot}",
            given=[{"line": "3", "hot": True}, {"line": "4", "hot": False}],
            expect=[{"line": "3", "hot": True}, {"line": "4", "hot": False}],
        ),
    )

    @field_validator("broker", mode="before")
    @classmethod
    def _broker(cls, value: Any) -> Any:
        return MqttBroker.options(value)

    @model_validator(mode="after")
    def _placed(self, info: ValidationInfo) -> "Mqtt":
        object.__setattr__(self, "_around", outgoing.Surroundings(info))
        return self

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find options that do not go together, a template or an address that cannot be read."""
        bodies = [name for name in ("fields", "payload", "text") if getattr(self, name)]
        if len(bodies) > 1:
            yield Problem("option-value", bodies[1], f"one of fields, payload and text; got {' and '.join(bodies)}")
        if self.text is not None:
            yield from outgoing.check_template("text", self.text, self._around)
        if self.broker:
            try:
                self.broker.address()
            except ValueError as fault:
                yield Problem("broker", "broker", str(fault).removeprefix("MQTT address: expected "))

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find fields that do not come in."""
        named = [(f"fields.{at}", name) for at, name in enumerate(self.fields)]
        return unknown_fields(flow, [*named, *outgoing.template_fields("text", self.text, self._around)], given)

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try to log in at the broker; nothing is published."""
        if self.broker:
            return await reach.broker_at(self.broker.address(), {}, "broker")
        return await reach.broker({}, "topic")

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Connect."""
        place = self.broker.place(outside.mqtt) if self.broker else outside.mqtt
        name = f"{place.client_id}-{outside.flow}-{node.name}"
        session = MqttSession(place.address, name, version=place.version, persistent=False)
        return Publisher(self, session, partial(outside.dead, node.name))

    def maker(self) -> Callable[[Event], Message]:
        """Return what makes a message of an event; raises EventFault."""
        topic = outgoing.evaluated("topic", self.topic) if self.topic else lambda event: event.topic
        retain = outgoing.evaluated("retain", self.retain) if isinstance(self.retain, Expression) else None
        fixed, payload = self.retain is True, self._payload()
        return lambda event: (
            _checked(topic(event)), payload(event), self.qos, fixed if retain is None else bool(retain(event))
        )  # fmt: skip

    def _payload(self) -> Callable[[Event], bytes]:
        if self.text is not None:
            text = outgoing.Text("text", self.text, self._around)
            return lambda event: _raw(text(event))
        if self.payload is not None:
            payload = outgoing.evaluated("payload", self.payload)
            return lambda event: _raw(payload(event))
        body = outgoing.body_of("fields", self.fields or None)
        return lambda event: outgoing.as_json_bytes(body(event))


def _checked(topic: object) -> str:
    """Return a topic that MQTT can carry (MQTT 5, 4.7.3)."""
    if isinstance(topic, str) and topic and not any(letter in topic for letter in "+#\0"):
        try:
            if len(topic.encode()) <= LONGEST_TOPIC:
                return topic
        except UnicodeEncodeError:
            pass
    raise EventFault(f"topic: a text of 1 to {LONGEST_TOPIC} bytes without +, # and NUL; got {str(topic)[:80]!r}")


def _raw(value: object) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        return outgoing.as_json_bytes(value)
    try:
        return value.encode()
    except UnicodeEncodeError:
        reason = "payload: a text that can be written as UTF-8"
    raise EventFault(reason)


class Publisher:
    """Publishes batches on one connection."""

    def __init__(self, options: Mqtt, session: MqttSession, dead: Callable[..., None]) -> None:
        self._make, self._session, self._dead = options.maker(), session, dead
        self._running = asyncio.create_task(session.run())

    async def write(self, events: list[Event]) -> None:
        """Return when the broker has them all, but for those that are dead letters."""
        await self._publish(list(outgoing.sound(events, self._make, self._refuse)))

    async def _publish(self, made: Sequence[tuple[Event, Message]]) -> None:
        try:
            await self._session.publish([message for _, message in made])
        except PublishRefused as fault:
            await self._sort_out(made, fault)

    async def _sort_out(self, made: Sequence[tuple[Event, Message]], fault: PublishRefused) -> None:
        """Refuse events by their topics; where only some of a topic are refused, they are published one by one."""
        reasons = dict(fault.refusals)
        refused, sent = Counter(topic for topic, _ in fault.refusals), Counter(message[0] for _, message in made)
        for event, message in made:
            topic = message[0]
            if topic not in refused:
                continue
            if refused[topic] == sent[topic]:
                self._refuse(event, EventFault(f"a message that the broker takes; {reasons[topic]}", {"topic": topic}))
            else:
                await self._publish([(event, message)])

    def _refuse(self, event: Event, fault: EventFault) -> None:
        self._dead(event, fault.reason, fault.values)

    async def close(self) -> None:
        """Disconnect."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
