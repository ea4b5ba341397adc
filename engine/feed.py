"""What a worker reads: its inbox by offset, its replayable sources by position, and time where nothing arrives."""

import threading
import time
from typing import Any, Protocol

import msgspec

from engine.arrival import Arrival, DurableReader, Reader
from engine.block import Block
from engine.component import PulledSource
from engine.decode import Run, received
from engine.event import MICROSECONDS, stream_prefix
from engine.gap import PAUSE
from engine.inbox import InboxReader
from engine.keyed import Clock, Mark
from engine.ledger import AT
from engine.outputs import COUNTS
from engine.outstanding import Outstanding, Ready
from engine.plan import SOURCES, Plan

LIMIT = 2_000
LONGEST_WAIT, IDLE_WAIT = 0.1, 0.5


class Position(msgspec.Struct):
    """Where a worker stands: the inbox offset, and for each replayable source its position and count of events."""

    offset: int = 0
    pulled: dict[str, tuple[Any, int]] = {}


class Upstream(Protocol):
    """The part of the link that the feed talks to; both may be called from any thread."""

    def used(self, offset: int) -> None:
        """Tell that everything up to the offset is durable everywhere."""

    def ask_mark(self) -> None:
        """Ask up to when everything has been committed."""


class Feed:
    """Gives runs of decoded events and marks; `next` never blocks, `wait` does until something may be there.

    Where a node waits for answers from outside it also says that they have come, and reads nothing while there is no
    room for more that wait.
    """

    def __init__(
        self, plan: Plan, inbox: InboxReader, clock: Clock, upstream: Upstream, position: Position,
        outstanding: Outstanding | None = None,
    ) -> None:  # fmt: skip
        self.position = position
        self.head = 0
        self._plan = plan
        self._inbox, self._clock, self._upstream, self._outstanding = inbox, clock, upstream, outstanding
        self._woken = threading.Event()
        self._mark: tuple[int, int] | None = None
        self._asked, self._settled, self._told = False, True, -1
        self._last = self._oldest = self._seen = 0
        self._base = (0, 0)
        sources = [(n.name, n.component) for n in plan.flow.section("sources")]
        self._readers: dict[str, Reader] = {name: c.open() for name, c in sources if isinstance(c, PulledSource)}
        self._wake_at = dict.fromkeys(self._readers, 0)

    def wake(self, head: int, at: int = 0) -> None:
        """Tell that the inbox has grown; from any thread."""
        if head > self.head == self.position.offset:
            self._oldest = at
        self._base = (at, _monotonic())
        self.head = max(self.head, head)
        self._woken.set()

    def mark(self, head: int, time: int) -> None:
        """Tell that all that arrived up to `time` is in the inbox up to `head`; from any thread."""
        self._mark = (head, time)
        self._base = (time, _monotonic())
        self._woken.set()

    def lag(self) -> float:
        """Return the age in seconds of the oldest record that was not read; 0 where all are."""
        behind = self.head > self.position.offset and self._oldest > 0
        return max(0.0, time.time() - self._oldest / MICROSECONDS) if behind else 0.0

    def wake_up(self) -> None:
        """End a wait; from any thread."""
        self._woken.set()

    def wait(self) -> None:
        """Wait until something may be there: a wake-up, a timer, a source's own time, or a tenth of a second.

        Where all that was given is durable it may be half a second.
        """
        self._woken.wait(self._patience())
        self._woken.clear()

    def _patience(self) -> float:
        soonest, due, now = min(self._wake_at.values(), default=None), self._clock.next(), self._now()
        waits = [IDLE_WAIT if self._settled and (due is None or due > now) else LONGEST_WAIT]
        if due is not None and due > now:
            waits.append((due - now) / MICROSECONDS)
        if soonest is not None:
            waits.append((soonest - _wall()) / MICROSECONDS)
        return max(0.001, min(waits))

    def next(self) -> list[list[Run] | Mark | Ready]:
        """Return what is there now, in order."""
        if self._outstanding is None:
            return [*self._read()]
        ready = self._outstanding.ready()
        self._settled = self._settled and not ready
        return [*ready, *self._read(full=self._outstanding.full)]

    def _read(self, *, full: bool = False) -> list[list[Run] | Mark]:
        blocks = [] if full else self._inbox.read(self.position.offset, LIMIT)
        found: list[list[Run] | Mark] = []
        if blocks:
            offsets = (self.position.offset, blocks[-1].last)
            counts = (COUNTS, [(AT, offsets), *received(blocks)])
            found.append([*self._plan.records(blocks, self._inbox.prefix), counts])
            self.position.offset = offsets[1]
            self._last = self._oldest = blocks[-1].time
            self._heed(self._last)
        for name in () if full else self._readers:
            found += self._pull(name)
        if found and self._plan.ordered:
            found.append(Mark(SOURCES, self._last - self._inbox.inside))  # what is left of a commit has its time too
        elif found:
            self._pass_time(found, self._last)
        else:
            self._idle(found)
        if found:
            self._settled = False
        return found

    def _pull(self, name: str) -> list[list[Run] | Mark]:
        now = _wall()
        if now < self._wake_at[name]:
            return []
        position, count = self.position.pulled.get(name, (None, 0))
        pull = self._readers[name].read(position, now, LIMIT)
        count += pull.skipped
        self._wake_at[name] = pull.wake_at if pull.wake_at is not None else 0 if pull.arrivals else now + 100_000
        if pull.done and not pull.arrivals:
            self._wake_at[name] = 1 << 62
        self.position.pulled[name] = (pull.position, count + len(pull.arrivals))
        if not pull.arrivals:
            return []
        self._last = max(self._last, pull.arrivals[-1][0])
        blocks = _blocks(name, pull.arrivals, count)
        runs = self._plan.records(blocks, stream_prefix(f"{self._inbox.stream}/{name}"))
        return [[*runs, (COUNTS, received(blocks))]]

    def _pass_time(self, found: list[list[Run] | Mark], now: int) -> None:
        due = self._clock.next()
        if due is not None and due <= now:
            found.append(Mark(SOURCES, now))

    def _idle(self, found: list[list[Run] | Mark]) -> None:
        due = self._clock.next()
        if self._mark is not None and self._mark[0] <= self.position.offset:
            self._heed(self._mark[1])
            self._pass_time(found, self._mark[1])
            self._mark, self._asked = None, False
        if due is not None and due <= self._now() and not self._asked and not found:
            self._asked = True
            self._upstream.ask_mark()

    def _heed(self, time: int) -> None:
        """Read the gaps anew where there may be one: where the time jumps by as much as the shortest."""
        if time - self._seen > PAUSE:
            self._clock.learn(self._inbox.gaps(self._clock.last_gap))
        self._seen = max(self._seen, time)

    def _now(self) -> int:
        """Return the latest that it can be by the inbox's clock, which a fall of the system's clock does not stop."""
        time, at = self._base
        return max(_wall(), time + _monotonic() - at if time else 0)

    def used(self, offset: int) -> None:
        """Take note that all that was given before the last snapshot is durable everywhere, and tell upstream."""
        self._settled = True
        for reader in self._readers.values():
            if isinstance(reader, DurableReader):
                reader.durable()
        if offset != self._told:
            self._told = offset
            self._upstream.used(offset)

    def close(self) -> None:
        """Close the readers."""
        for reader in self._readers.values():
            reader.close()


def _wall() -> int:
    return time.time_ns() // 1000


def _monotonic() -> int:
    return time.monotonic_ns() // 1000


def _blocks(name: str, arrivals: list[tuple[int, Arrival]], count: int) -> list[Block]:
    """Return pulled arrivals as blocks: one for each time."""
    found: list[Block] = []
    for number, (at, arrival) in enumerate(arrivals, count + 1):
        if not found or found[-1].time != at:
            found.append(Block(number, at, [name], b"", [], [], [], {}, []))
        block = found[-1]
        if arrival.topic not in block.topics:
            block.topics.append(arrival.topic)
        if arrival.meta:
            block.metas[len(block.payloads)] = arrival.meta
        block.source_index += b"\0"
        block.topic_index.append(block.topics.index(arrival.topic))
        block.payloads.append(arrival.payload)
    return found
