"""`mqtt`: messages of a broker."""

import asyncio
import re
from collections.abc import Iterable
from functools import partial
from typing import Literal

from pydantic import Field

from engine.api import (
    Arrival,
    Example,
    Flow,
    Intake,
    MqttMessage,
    MqttSession,
    Node,
    Problem,
    Size,
    Source,
    Unavailable,
    component,
)

_FILTER = re.compile(r"(?:[^#+/]*|\+)(?:/(?:[^#+/]*|\+))*(?:/#)?|#")


@component("mqtt")
class Mqtt(Source):
    """Subscribe to topics of the broker that `MILLSTREAM_MQTT` names (the embedded one by default).

    Delivery: at QoS 1 every message is in the durable inbox before it is acknowledged; when the gateway is away the
    broker keeps messages in a persistent session; what it sends again is recognised by its packet id. When the inbox
    is full, acknowledgements stop, and the broker stops sending.
    """

    topics: list[str] = Field(min_length=1)
    """Topic filters; `+` stands for one level, `#` for the rest."""
    qos: Literal[0, 1, 2] = 1
    """The quality of service that is asked for."""
    payload: Literal["json", "any"] = "json"
    """`json`: a JSON object, all else goes to the dead letters; `any`: what is no object becomes `{"value": …}`."""
    largest: Size = 16 << 20
    """The greatest payload; of a greater one the dead letters get the beginning."""
    time: str | None = None
    """The field that carries the event's own time; default: the arrival counts."""

    guarantee = "at least once into the inbox, exactly once as seen from outside"
    examples = (
        Example(
            about="One station's verdicts.",
            config="mqtt: {topics: [sensor/result], qos: 1}",
            given=[{"device": "LED"}],
            expect=[{"device": "LED"}],
        ),
    )

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find filters that no broker takes."""
        for index, topic in enumerate(self.topics):
            if not topic or not _FILTER.fullmatch(topic):
                yield Problem(
                    "topic",
                    f"topics.{index}",
                    f"a topic filter (+ and # stand alone between slashes, # last); got '{topic}'",
                )

    def _arrival(self, message: MqttMessage) -> Arrival:
        size, meta = len(message.payload), {"retain": True} if message.retain else None
        if size <= self.largest:
            return Arrival(message.payload, message.topic, meta, message.packet_id, message.dup)
        cut = {"oversize": size, "largest": self.largest}
        return Arrival(message.payload[:1024], message.topic, cut, message.packet_id, message.dup)

    async def run(self, intake: Intake) -> None:
        """Receive until cancelled; acknowledge a batch when it is committed."""

        def receive(messages: list[MqttMessage]) -> None:
            store(messages, [self._arrival(message) for message in messages])

        def store(messages: list[MqttMessage], arrivals: list[Arrival]) -> None:
            try:
                intake.submit(arrivals, partial(committed, messages, arrivals))
            except Unavailable as fault:
                committed(messages, arrivals, fault)

        def committed(messages: list[MqttMessage], arrivals: list[Arrival], fault: BaseException | None) -> None:
            if fault is None:
                session.acknowledge(messages)
                intake.acknowledged([m.packet_id for m in messages if m.packet_id])
            else:
                session.pause()
                intake.state("waiting", str(fault))
                asyncio.get_running_loop().call_later(0.5, again, messages, arrivals)

        def again(messages: list[MqttMessage], arrivals: list[Arrival]) -> None:
            session.resume()
            store(messages, arrivals)

        session = MqttSession(
            intake.mqtt.address,
            f"{intake.mqtt.client_id}-{intake.flow}-{intake.source}",
            on_messages=receive,
            topics=[(topic, self.qos) for topic in self.topics],
            version=intake.mqtt.version,
            on_state=intake.state,
        )
        await session.run()
