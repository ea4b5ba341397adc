"""The one Bytewax source of a worker: the feed, with its position as the partition's state."""

import gc
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from engine.feed import Feed, Position

_POSITION = msgspec.msgpack.Decoder(Position)
COLLECT_EVERY = 20


class FeedPartition(StatefulSourcePartition[Any, bytes]):
    """Reads the feed. The first call after a snapshot is the commit hook: all before it is durable everywhere."""

    def __init__(self, feed: Feed, stopped: Callable[[], bool]) -> None:
        self._feed, self._stopped = feed, stopped
        self._pending: int | None = None
        self._snapshots = 0

    def next_batch(self) -> Iterable[Any]:
        if self._pending is not None:
            self._feed.used(self._pending)
            self._pending = None
        if self._stopped():
            raise StopIteration
        found = self._feed.next()
        if not found:
            self._feed.wait()
        return found

    def snapshot(self) -> bytes:
        self._pending = self._feed.position.offset
        self._snapshots += 1
        if self._snapshots % COLLECT_EVERY == 0:
            gc.collect()
        return msgspec.msgpack.encode(self._feed.position)

    def close(self) -> None:
        self._feed.close()


class FeedSource(FixedPartitionedSource[Any, bytes]):
    """Builds the feed where the last snapshot left it."""

    def __init__(self, build: Callable[[Position], Feed], stopped: Callable[[], bool]) -> None:
        self._build, self._stopped = build, stopped

    def list_parts(self) -> list[str]:
        return ["feed"]

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> FeedPartition:
        position = _POSITION.decode(resume_state) if resume_state else Position()
        return FeedPartition(self._build(position), self._stopped)
