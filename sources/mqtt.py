"""`mqtt`: messages of a broker."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, Self

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

AGAIN = 0.5
CACHED_TOPICS = 100_000
_FILTER = re.compile(r"(?:[^#+/]*|\+)(?:/(?:[^#+/]*|\+))*(?:/#)?|#")


@component("mqtt")
class Mqtt(Source):
    """Subscribe to topics of the broker that `MILLSTREAM_MQTT` names (the embedded one by default).

    All `mqtt` sources of a flow share one connection, so their messages keep the order in which the broker sends them.
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

    def arrival(self, message: MqttMessage) -> Arrival:
        """Return a message as the inbox takes it; one that is too large is cut, and says so."""
        size, meta = len(message.payload), {"retain": True} if message.retain else None
        if size <= self.largest:
            return Arrival(message.payload, message.topic, meta, message.packet_id, message.dup)
        cut = {"oversize": size, "largest": self.largest}
        return Arrival(message.payload[:1024], message.topic, cut, message.packet_id, message.dup)

    @classmethod
    async def run_all(cls, members: Sequence[tuple[Self, Intake]]) -> None:
        """Receive for all these sources on one connection until cancelled."""
        await Receiver(members).run()


class Receiver:
    """One connection for the sources of a flow: a batch is acknowledged when every part of it is committed."""

    def __init__(self, members: Sequence[tuple[Mqtt, Intake]]) -> None:
        self._members = members
        self._takers: dict[str, tuple[int, ...]] = {}
        self._batches, self._batch_of = 0, dict[int, int]()
        intake = members[0][1]
        self._session = MqttSession(
            intake.mqtt.address,
            f"{intake.mqtt.client_id}-{intake.flow}",
            on_messages=self._receive,
            topics=list(_topics(members).items()),
            version=intake.mqtt.version,
            on_state=self._state,
        )

    async def run(self) -> None:
        """Receive until cancelled; until the first connection stands or fails, the flow is not ready."""
        self._state("connecting", "")
        await self._session.run()

    def _state(self, state: str, detail: str) -> None:
        for _, intake in self._members:
            intake.state(state, detail)

    def _taking(self, topic: str) -> tuple[int, ...]:
        """Return which sources take a topic; none does where an earlier version of the flow had subscribed to it."""
        found = self._takers.get(topic)
        if found is None:
            members = enumerate(self._members)
            found = tuple(i for i, (source, _) in members if any(matches(f, topic) for f in source.topics))
            if len(self._takers) >= CACHED_TOPICS:
                self._takers.clear()
            self._takers[topic] = found
        return found

    def _receive(self, messages: list[MqttMessage]) -> None:
        """Submit the runs of a batch in order; what no source takes is acknowledged with the rest."""
        runs: list[tuple[int, list[MqttMessage]]] = []
        for message in messages:
            for index in self._taking(message.topic):
                if not runs or runs[-1][0] != index:
                    runs.append((index, []))
                runs[-1][1].append(message)
        self._batches += 1
        self._batch_of.update(dict.fromkeys([m.packet_id for m in messages if m.packet_id], self._batches))
        batch = Batch(self._batches, messages, len(runs))
        if not runs:
            self._session.acknowledge(messages)
        for index, part in runs:
            self._store(batch, index, part)

    def _store(self, batch: "Batch", index: int, part: list[MqttMessage]) -> None:
        source, intake = self._members[index]
        try:
            intake.submit([source.arrival(message) for message in part], partial(self._done, batch, index, part))
        except Unavailable as fault:
            self._done(batch, index, part, fault)

    def _done(self, batch: "Batch", index: int, part: list[MqttMessage], fault: BaseException | None) -> None:
        """Acknowledge a batch with its last part; a part that could not be committed is tried again."""
        if fault is not None:
            self._session.pause()
            self._members[index][1].state("waiting", str(fault))
            asyncio.get_running_loop().call_later(AGAIN, self._again, batch, index, part)
            return
        batch.open -= 1
        if batch.open == 0:
            self._session.acknowledge(batch.messages, partial(self._confirmed, batch))

    def _confirmed(self, batch: "Batch") -> None:
        """Let the inboxes forget the packets of a batch, but for the ids that the broker has used again since."""
        over = [message for message in batch.messages if self._batch_of.get(message.packet_id) == batch.number]
        for source in {index for message in over for index in self._taking(message.topic)}:
            packets = [message.packet_id for message in over if source in self._taking(message.topic)]
            self._members[source][1].acknowledged(packets)
        for message in over:
            self._batch_of.pop(message.packet_id, None)

    def _again(self, batch: "Batch", index: int, part: list[MqttMessage]) -> None:
        self._session.resume()
        self._store(batch, index, part)


class Batch:
    """Messages of one read, and how many of its parts are not committed yet."""

    def __init__(self, number: int, messages: list[MqttMessage], parts: int) -> None:
        self.number, self.messages, self.open = number, messages, parts


def _topics(members: Sequence[tuple[Mqtt, Intake]]) -> dict[str, int]:
    """Return each filter with the highest quality of service that a source asks for it."""
    topics: dict[str, int] = {}
    for source, _ in members:
        for topic in source.topics:
            topics[topic] = max(source.qos, topics.get(topic, 0))
    return topics


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a topic falls under a filter (MQTT 5, 4.7): `$` topics not under a wildcard at the first level."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[0] == "$share":
        wanted = wanted[2:]
    if topic.startswith("$") and wanted[0] in ("#", "+"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)
