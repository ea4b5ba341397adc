"""`mqtt`: messages of a broker."""

import asyncio
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from engine.api import (
    Arrivals,
    Example,
    Filters,
    Flow,
    Intake,
    MqttAddress,
    MqttBatch,
    MqttBroker,
    MqttMessages,
    MqttPart,
    MqttPlace,
    MqttSession,
    Node,
    Problem,
    Reach,
    Size,
    Source,
    Type,
    Unavailable,
    check_pattern,
    component,
    filter_of,
    level_names,
    subscriptions,
)

AGAIN = 0.5
CACHED_TOPICS = 100_000


@component("mqtt")
class Mqtt(Source):
    """Subscribe to topics of a broker: by default the one that `MILLSTREAM_MQTT` names, or else the embedded one.

    All `mqtt` sources of a flow with the same broker share one connection, so their messages keep the order in which
    the broker sends them. MQTT 5 is spoken where the broker does, else 3.1.1. Of filters that overlap in one flow those
    that another one covers are not subscribed to, as a broker may send a message for each.

    Delivery: at QoS 1 and 2 every message is in the durable inbox before it is acknowledged; when the gateway is away
    the broker keeps messages in a persistent session; what it sends again is recognised by its packet id. When the
    inbox is full, acknowledgements stop, and the broker stops sending. At QoS 0 what comes while the gateway is away,
    or what the broker drops, is lost.
    """

    topics: list[str] = Field(min_length=1)
    """Topic filters; `+` stands for one level, `#` for the rest. A level in braces is `+` with a name: that of
    `line/{line}/+/temperature` is in the field `line`, as text, in place of one that the payload has."""
    qos: Literal[0, 1, 2] = 1
    """The quality of service that is asked for."""
    broker: MqttBroker | None = None
    """Another broker: its address (`mqtts://…`), or `{url: …, ca: …, certificate: …, key: …}`."""
    share: str | None = Field(None, min_length=1, max_length=100)
    """A group of subscribers, such as several gateways: the broker gives each message to one of them. The embedded
    broker knows no groups. Such a source has a connection of its own, and gets a part of the messages only."""
    retained: Literal["take", "skip"] = "take"
    """Whether what the broker had kept is taken (`meta.retain` is true then) when the source subscribes."""
    payload: Literal["json", "any", "text", "bytes", "msgpack"] = "json"
    """`json`: a JSON object, all else goes to the dead letters; `any`: what is no object becomes `{"value": …}`;
    `text`: UTF-8 text as `value`; `bytes`: any bytes as `value`, in base64; `msgpack`: a MessagePack map."""
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
        Example(
            about="Every line's temperatures at a plant's own broker, shared by two gateways.",
            config='mqtt: {topics: ["line/{line}/+/temperature"], share: gateways, retained: skip, '
            "broker: {url: 'mqtts://plant.example', ca: plant-ca.pem}}",
            given=[{"celsius": 21.5}],
            expect=[{"celsius": 21.5}],
        ),
    )

    @field_validator("broker", mode="before")
    @classmethod
    def _broker(cls, value: Any) -> Any:
        return MqttBroker.options(value)

    def gives(self) -> dict[str, Type] | None:
        """Return the fields of a payload that is not read further, with those of the topics."""
        if self.payload not in ("text", "bytes"):
            return None
        every = [set(level_names(topic)) for topic in self.topics]
        named = {name: Type("text", null=any(name not in names for names in every)) for name in set().union(*every)}
        return {"value": Type("text"), **named}

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find filters that no broker takes, and an address that cannot be read."""
        for index, topic in enumerate(self.topics):
            for message in check_pattern(topic):
                yield Problem("topic", f"topics.{index}", message)
            if self.share and topic.startswith("$share/"):
                yield Problem("topic", f"topics.{index}", f"a filter without a group beside `share`; got '{topic}'")
        if self.share and not set("+#/\0").isdisjoint(self.share):
            yield Problem("topic", "share", f"a group's name without + # and /; got '{self.share}'")
        if self.broker:
            try:
                self.broker.address()
            except ValueError as fault:
                yield Problem("broker", "broker", str(fault).removeprefix("MQTT address: expected "))

    def filters(self) -> list[str]:
        """Return what is subscribed to."""
        group = f"$share/{self.share}/" if self.share else ""
        return [group + filter_of(topic) for topic in self.topics]

    def place(self, default: MqttPlace) -> MqttPlace:
        """Return the broker."""
        return self.broker.place(default) if self.broker else default

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try to log in at the broker and to subscribe."""
        wanted = dict.fromkeys(map(filter_of, self.topics), self.qos)
        if self.broker:
            return await reach.broker_at(self.broker.address(), wanted, "broker")
        return await reach.broker(wanted, "topics")

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
        """Receive for all these sources until cancelled, on one connection for each broker and each group there."""
        lines: dict[tuple[MqttAddress, str], list[tuple[Self, Intake]]] = {}
        for source, intake in members:
            lines.setdefault((source.place(intake.mqtt).address, source.share or ""), []).append((source, intake))
        if len(lines) == 1:
            return await Receiver(members).run()
        async with asyncio.TaskGroup() as group:
            for together in lines.values():
                group.create_task(Receiver(together).run())


class Receiver:
    """One connection for the sources of a flow: a batch is acknowledged when every part of it is committed."""

    def __init__(self, members: Sequence[tuple[Mqtt, Intake]]) -> None:
        self._members = members
        self._filters = [Filters(source.filters()) for source, _ in members]
        self._skipping = {at for at, (source, _) in enumerate(members) if source.retained == "skip"}
        self._takers: dict[str, tuple[int, ...]] = {}
        self._batches, self._batch_of = 0, dict[int, int]()
        self._held: list[MqttPart] = []
        source, intake = members[0]
        place = source.place(intake.mqtt)
        line = "\0".join([str(place.address), source.share or ""]).encode()
        other = place is not intake.mqtt or source.share
        suffix = f"-{blake2b(line, digest_size=4).hexdigest()}" if other else ""
        self._session = MqttSession(
            place.address,
            f"{place.client_id}-{intake.flow}{suffix}",
            on_messages=self._receive,
            topics=list(subscriptions((topic, source.qos) for source, _ in members for topic in source.filters())),
            version=place.version,
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
        batch = MqttBatch(self._batches, messages, runs)
        if not runs:
            self._session.acknowledge(messages)
        for place in range(len(runs)):
            part = MqttPart(batch.number, place, batch)
            if self._held:
                insort(self._held, part)
            else:
                self._store(part, self._done)

    def _runs(self, messages: MqttMessages) -> list[tuple[int, MqttMessages]]:
        """Return the runs of messages that go to one source; most often a batch is one."""
        runs = self._taken(messages)
        if not (messages.retained and self._skipping):
            return runs
        kept = [(at, run.only(run.fresh()) if at in self._skipping else run) for at, run in runs]
        return [(at, run) for at, run in kept if len(run)]

    def _taken(self, messages: MqttMessages) -> list[tuple[int, MqttMessages]]:
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

    def _store(self, part: MqttPart, done: Callable[[MqttPart, BaseException | None], None]) -> None:
        index, messages = part.batch.parts[part.place]
        source, intake = self._members[index]
        try:
            intake.submit(source.arrivals(messages), partial(done, part))
        except Unavailable as fault:
            done(part, fault)

    def _done(self, part: MqttPart, fault: BaseException | None) -> None:
        """Acknowledge a batch with its last part; what could not be committed is held, and what comes after it."""
        if fault is None:
            self._stored(part.batch)
            return
        if not self._held:
            self._session.pause()
            self._wait(part, fault)
        insort(self._held, part)

    def _stored(self, batch: MqttBatch) -> None:
        batch.open -= 1
        if batch.open == 0:
            self._session.acknowledge(batch.messages, partial(self._confirmed, batch))

    def _wait(self, part: MqttPart, fault: BaseException) -> None:
        self._members[part.batch.parts[part.place][0]][1].state("waiting", str(fault))
        asyncio.get_running_loop().call_later(AGAIN, self._again)

    def _again(self) -> None:
        """Try the first of what is held: one after the other, so that the order stays."""
        self._store(self._held[0], self._tried)

    def _tried(self, part: MqttPart, fault: BaseException | None) -> None:
        if fault is not None:
            self._wait(part, fault)
            return
        self._held.remove(part)
        self._stored(part.batch)
        if self._held:
            self._again()
        else:
            self._session.resume()

    def _confirmed(self, batch: MqttBatch) -> None:
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
