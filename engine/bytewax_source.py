"""The one Bytewax source of a worker: the feed, with its position as the partition's state."""

import gc
from collections.abc import Callable, Iterable
from time import thread_time_ns
from typing import Any

import msgspec
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from engine.feed import Feed, Position
from engine.meter import Step

_POSITION = msgspec.msgpack.Decoder(Position)
COLLECT_EVERY = 20


class FeedPartition(StatefulSourcePartition[Any, bytes]):
    """Reads the feed. The first call after a snapshot is the commit hook: all before it is durable everywhere."""

    def __init__(self, feed: Feed, stopped: Callable[[], bool], step: Step) -> None:
        self._feed, self._stopped, self._step = feed, stopped, step
        self._pending: int | None = None
        self._snapshots = 0

    def next_batch(self) -> Iterable[Any]:
        if self._pending is not None:
            self._feed.used(self._pending)
            self._pending = None
        if self._stopped():
            raise StopIteration
        start = thread_time_ns()
        found = self._feed.next()
        self._step.cpu += thread_time_ns() - start
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
    """Builds the feed where the last snapshot left it; what reading and decoding cost goes to `step`."""

    def __init__(
        self, build: Callable[[Position], Feed], stopped: Callable[[], bool], step: Step | None = None
    ) -> None:
        self._build, self._stopped, self._step = build, stopped, step or Step()

    def list_parts(self) -> list[str]:
        return ["feed"]

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> FeedPartition:
        position = _POSITION.decode(resume_state) if resume_state else Position()
        return FeedPartition(self._build(position), self._stopped, self._step)
