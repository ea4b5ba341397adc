"""What sinks reach in a worker: the database, channels, replies, dead letters, MQTT."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from engine.dead import DeadLetter
from engine.event import Event
from engine.frames import Answer, Push
from engine.letter import Letter
from engine.retry import exact_of
from engine.tallies import Tallies

if TYPE_CHECKING:
    from sqlalchemy import MetaData
    from sqlalchemy.ext.asyncio import AsyncEngine

    from engine.dead_letters import DeadLetterStore
    from engine.link import LinkClient
    from engine.outlet import Outlet
    from engine.settings import MqttPlace

log = structlog.get_logger()


class DeadLetters:
    """The dead letters of a running flow: stored once, counted by node, and answered where a request waits."""

    def __init__(self, store: "DeadLetterStore", replying: frozenset[str], version: str) -> None:
        self.counts: Counter[str] = Counter()
        self._store, self._replying, self._version = store, replying, version
        self._outside: Outside

    async def open(self, outside: "Outside") -> "DeadLetters":
        """Return the writer of the dead-letter lane."""
        self._outside = outside
        return self

    def drop(self, letter: DeadLetter) -> None:
        """Take a dead letter from a sink; it is stored with the next batch."""
        self._outside.outlet.put_letters([letter])

    async def write(self, letters: list[DeadLetter]) -> None:
        """Store a batch, and answer the requests that wait for one of its events."""
        kept = [letter for letter in letters if letter.kept]
        self._store.add([stored(letter, self._version) for letter in kept])
        self.counts.update(letter.node for letter in kept)
        for letter in letters:
            self._outside.tallies.failed(letter.event, letter.reason)
            log.debug("dead letter", node=letter.node, reason=letter.reason, id=letter.event.id.hex())
            if letter.event.source in self._replying:
                await self._outside.answer(letter.event.id, 422, problem_body(letter))

    async def close(self) -> None:
        """Close the store."""
        self._store.close()


class Outside:
    """Given to every sink when it opens; lives on the worker's I/O thread."""

    def __init__(
        self,
        *,
        flow: str,
        database: "AsyncEngine",
        metadata: "MetaData",
        link: "LinkClient",
        mqtt: "MqttPlace",
        answer_rows: frozenset[str],
        letters: DeadLetters,
        outlet: "Outlet",
    ) -> None:
        self.flow, self.database, self.metadata, self.mqtt = flow, database, metadata, mqtt
        self.answer_rows, self.outlet = answer_rows, outlet
        self.tallies = Tallies()
        self._link, self._letters = link, letters

    async def push(self, pushes: list[Push]) -> None:
        """Send events to the gateway's channels; returns when it has them."""
        await self._link.push(pushes)
        for push in pushes:
            if push.keep:
                self.outlet.keep(push)

    async def answer(self, event_id: bytes, status: int, body: bytes) -> None:
        """Answer the request that an event came from."""
        await self._link.push([Answer(event_id, status, body)])

    async def flushed(self, lane: str) -> None:
        """Wait until what was put to the other lanes so far is durable."""
        await self.outlet.others_flushed(lane)

    def conflated(self, node: str, number: int) -> None:
        """Count events that a sink gave up for a later one."""
        self.outlet.book.conflated(node, number)

    def dropped(self, node: str, number: int) -> None:
        """Count events that a sink gave up by its bound."""
        self.outlet.book.conflated(node, number)

    def count(self, node: str, counts: Mapping[str, int]) -> None:
        """Add to what a sink tells of its work beside the events written, such as rows that were left unchanged."""
        known = self.outlet.lanes[node].state.counts
        for name, number in counts.items():
            known[name] = known.get(name, 0) + number

    def spilled(self, node: str) -> int:
        """Return how many events of a sink are on the disk, because its target is away."""
        return self.outlet.lanes[node].state.spilled

    def show(self, node: str, fault: str) -> None:
        """Show what is wrong with a sink's target, which the sink itself does not wait for; an empty text: nothing."""
        self.outlet.lanes[node].show(fault)

    async def letters_stored(self) -> None:
        """Wait until the dead letters so far are stored."""
        await self.outlet.letters_stored()

    def dead(self, node: str, event: Event, reason: str, values: dict[str, Any] | None = None) -> None:
        """Send an event to the dead letters from a sink."""
        self._letters.drop(DeadLetter(node, event, reason, values or {}))


def problem_body(letter: DeadLetter) -> bytes:
    """Return the JSON error that a refused request is answered with."""
    fields = letter.values.get("fields") or []
    error = {"code": "invalid_event", "message": letter.reason, "fields": fields, "id": letter.event.id.hex()}
    return msgspec.json.encode({"error": error})


def stored(letter: DeadLetter, version: str) -> Letter:
    """Return a dead letter as it is stored."""
    event = letter.event
    payload = letter.payload if letter.payload is not None else msgspec.json.encode(event.data, enc_hook=str)
    exact = exact_of(event.data, payload) if letter.payload is None else b""
    return Letter(
        id=event.id,
        node=letter.node,
        time=event.arrival,
        source=event.source,
        topic=event.topic,
        reason=letter.reason,
        details=letter.values,
        payload=payload,
        version=version,
        event_time=event.time,
        key=event.key,
        meta=event.meta,
        exact=exact,
    )
