"""The event: what flows from node to node."""

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec

MICROSECONDS = 1_000_000
_HASH = blake2b(digest_size=16)


class Event(msgspec.Struct, gc=False):
    """One reading, picture or result on its way through a flow.

    `id` is 16 bytes and deterministic: 8 bytes of stream and 8 of offset for what came from outside, a hash of
    (node, key, start) for what an operator made. `time` and `arrival` are microseconds since 1970, UTC: `time` is the
    event's own time where the source names a field for it, `arrival` is when the inbox took it and never falls.
    `data` is shared between branches: an operator that changes it makes a new dict.
    """

    id: bytes
    time: int
    key: str
    source: str
    topic: str
    data: dict[str, Any]
    meta: dict[str, Any] | None = None
    arrival: int = 0

    def derive(self, data: dict[str, Any]) -> "Event":
        """Return the same event with other data; it keeps its identity."""
        return Event(self.id, self.time, self.key, self.source, self.topic, data, self.meta, self.arrival)


def derived_id(node: str, key: str, start: int | str | bytes) -> bytes:
    """Return the 16 byte id of an event that `node` made for `key`, with `start` of its window, episode or part."""
    begin = start.hex() if isinstance(start, bytes) else str(start)
    hashed = _HASH.copy()  # cheaper than a new one
    hashed.update(f"{node}\0{key}\0{begin}".encode())
    return hashed.digest()


def stream_prefix(stream: str) -> bytes:
    """Return the 8 bytes that begin the ids of all events of one inbox stream."""
    return blake2b(stream.encode(), digest_size=8).digest()


def moment(time: int) -> datetime:
    """Return microseconds since 1970 as a UTC datetime."""
    return datetime.fromtimestamp(time / MICROSECONDS, UTC)


def microseconds(time: datetime) -> int:
    """Return a datetime (UTC where it has no zone) as microseconds since 1970."""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(aware.timestamp() * MICROSECONDS)
