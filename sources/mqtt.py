"""`mqtt`: messages of a broker."""

import asyncio
import re
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal, NamedTuple, Self

from pydantic import Field

from engine.api import (
    Arrivals,
    Example,
    Flow,
    Intake,
    MqttMessages,
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

    def arrivals(self, messages: MqttMessages) -> Arrivals:
        """Return messages as the inbox takes them; what is too large is cut, and says so."""
        found = Arrivals(messages.payloads, messages.topics, packets=messages.packets, dups=messages.dups)
        if messages.retained:
            found.metas = {at: {"retain": True} for at in messages.retained}
        if max(map(len, messages.payloads)) > self.largest:
            found.payloads, cut = list(messages.payloads), dict(found.metas)
            for at, payload in enumerate(messages.payloads):
                if len(payload) > self.largest:
                    found.payloads[at] = payload[:1024]
                    cut[at] = {"oversize": len(payload), "largest": self.largest}
            found.metas = cut
        return found

    @classmethod
    async def run_all(cls, members: Sequence[tuple[Self, Intake]]) -> None:
        """Receive for all these sources on one connection until cancelled."""
        await Receiver(members).run()


class Receiver:
    """One connection for the sources of a flow: a batch is acknowledged when every part of it is committed."""

    def __init__(self, members: Sequence[tuple[Mqtt, Intake]]) -> None:
        self._members = members
        self._filters = [Filters(source.topics) for source, _ in members]
        self._takers: dict[str, tuple[int, ...]] = {}
        self._batches, self._batch_of = 0, dict[int, int]()
        self._held: list[Part] = []
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
            found = tuple(i for i, filters in enumerate(self._filters) if filters.take(topic))
            if len(self._takers) >= CACHED_TOPICS:
                self._takers.clear()
            self._takers[topic] = found
        return found

    def _receive(self, messages: MqttMessages) -> None:
        """Submit the runs of a batch in order; what no source takes is acknowledged with the rest."""
        runs = self._runs(messages)
        self._batches += 1
        self._batch_of.update(dict.fromkeys(messages.packets, self._batches))
        batch = Batch(self._batches, messages, runs)
        if not runs:
            self._session.acknowledge(messages)
        for place in range(len(runs)):
            part = Part(batch.number, place, batch)
            if self._held:
                insort(self._held, part)
            else:
                self._store(part, self._done)

    def _runs(self, messages: MqttMessages) -> list[tuple[int, MqttMessages]]:
        """Return the runs of messages that go to one source; most often a batch is one."""
        takers = {topic: self._taking(topic) for topic in set(messages.topics)}
        if len(kinds := set(takers.values())) == 1 and len(only := kinds.pop()) <= 1:
            return [(index, messages) for index in only]
        runs: list[tuple[int, list[int]]] = []
        for at, topic in enumerate(messages.topics):
            for index in takers[topic]:
                if not runs or runs[-1][0] != index:
                    runs.append((index, []))
                runs[-1][1].append(at)
        return [(index, messages.only(places)) for index, places in runs]

    def _store(self, part: "Part", done: Callable[["Part", BaseException | None], None]) -> None:
        index, messages = part.batch.parts[part.place]
        source, intake = self._members[index]
        try:
            intake.submit(source.arrivals(messages), partial(done, part))
        except Unavailable as fault:
            done(part, fault)

    def _done(self, part: "Part", fault: BaseException | None) -> None:
        """Acknowledge a batch with its last part; what could not be committed is held, and what comes after it."""
        if fault is None:
            self._stored(part.batch)
            return
        if not self._held:
            self._session.pause()
            self._wait(part, fault)
        insort(self._held, part)

    def _stored(self, batch: "Batch") -> None:
        batch.open -= 1
        if batch.open == 0:
            self._session.acknowledge(batch.messages, partial(self._confirmed, batch))

    def _wait(self, part: "Part", fault: BaseException) -> None:
        self._members[part.batch.parts[part.place][0]][1].state("waiting", str(fault))
        asyncio.get_running_loop().call_later(AGAIN, self._again)

    def _again(self) -> None:
        """Try the first of what is held: one after the other, so that the order stays."""
        self._store(self._held[0], self._tried)

    def _tried(self, part: "Part", fault: BaseException | None) -> None:
        if fault is not None:
            self._wait(part, fault)
            return
        self._held.remove(part)
        self._stored(part.batch)
        if self._held:
            self._again()
        else:
            self._session.resume()

    def _confirmed(self, batch: "Batch") -> None:
        """Let the inboxes forget the packets of a batch, but for the ids that the broker has used again since."""
        of, number = self._batch_of, batch.number
        over = [packet for packet in batch.messages.packets if of.get(packet) == number]
        for packet in over:
            del of[packet]
        if len(over) == len(batch.messages):
            for index, part in batch.parts:
                self._members[index][1].acknowledged(part.packets)
            return
        known = set(over)
        for index, part in batch.parts:
            self._members[index][1].acknowledged(known.intersection(part.packets))


class Batch:
    """Messages of one read, its parts with the index of the source of each, and how many are not committed yet."""

    def __init__(self, number: int, messages: MqttMessages, parts: Sequence[tuple[int, MqttMessages]]) -> None:
        self.number, self.messages, self.parts, self.open = number, messages, parts, len(parts)


class Part(NamedTuple):
    """What of a batch goes to one source; parts are in the order in which the broker sent them."""

    number: int
    place: int
    batch: Batch


def _topics(members: Sequence[tuple[Mqtt, Intake]]) -> dict[str, int]:
    """Return each filter with the highest quality of service that a source asks for it."""
    topics: dict[str, int] = {}
    for source, _ in members:
        for topic in source.topics:
            topics[topic] = max(source.qos, topics.get(topic, 0))
    return topics


class Filters:
    """The topic filters of a source: one without wildcards is looked up, so that ten thousand of them cost no more."""

    def __init__(self, filters: Iterable[str]) -> None:
        self._wild = [f for f in filters if "+" in f or "#" in f or f.startswith("$share/")]
        self._exact = frozenset(filters) - frozenset(self._wild)

    def take(self, topic: str) -> bool:
        """Tell whether a topic falls under one of them."""
        return topic in self._exact or any(matches(f, topic) for f in self._wild)


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
