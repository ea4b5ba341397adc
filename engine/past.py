"""What a flow's inbox still holds, read beside the gateway and the worker: where it begins, and its events by time."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from engine import inbox_file
from engine.block import Block
from engine.component import PulledSource
from engine.errors import EnvironmentFault
from engine.flow import Flow
from engine.gap import Gap
from engine.harness import Harness
from engine.inbox import InboxReader
from engine.table_log import TableLogFile

AT_ONCE = 2_000


class Extent(msgspec.Struct, frozen=True):
    """Offsets of an inbox: its oldest event and its latest (0: none yet), and up to where the worker is done."""

    oldest: int
    head: int
    used: int

    @property
    def whole(self) -> bool:
        """Tell whether the flow's first event is still there."""
        return self.oldest <= 1


class Part(msgspec.Struct, frozen=True):
    """The events to look at: offsets from `first` to `last`. What comes before, from `start` on, makes the state."""

    start: int
    first: int
    last: int

    @property
    def count(self) -> int:
        """Return how many events are looked at."""
        return max(0, self.last - self.first + 1)

    @property
    def before(self) -> int:
        """Return how many events make the state."""
        return max(0, min(self.first - 1, self.last) - self.start + 1)


class Past:
    """An inbox, opened for reading only. Raises EnvironmentFault where there is none."""

    def __init__(self, path: Path) -> None:
        self._reader = InboxReader(path)
        self._connection = inbox_file.open_readable(path)
        self.path, self.stream = path, self._reader.stream

    def extent(self) -> Extent:
        """Return what is there now."""
        with inbox_file.read_faults(self.path):
            head, _ = inbox_file.head(self._connection)
            used = inbox_file.progress(self._connection).used
            return Extent(inbox_file.oldest(self._connection), head, used)

    def since(self, time: int) -> int:
        """Return the offset of the first event that arrived at a time (microseconds) or later, or that of the next."""
        with inbox_file.read_faults(self.path):
            found = inbox_file.first_since(self._connection, time)
            return inbox_file.head(self._connection)[0] + 1 if found is None else found

    def know(self, flow: Flow, first: int) -> None:
        """Let a flow see its live tables as they were before an event, and then as they changed."""
        if flow.live:
            log = TableLogFile(self.path.parent)
            flow.live.load(log, log.before(first))

    def gaps(self) -> list[Gap]:
        """Return the stretches of time in which nothing could arrive."""
        with inbox_file.read_faults(self.path):
            return inbox_file.gaps(self._connection, 0)

    def blocks(self, first: int, last: int) -> Iterator[Block]:
        """Yield the commits with the events from `first` to `last`; raises EnvironmentFault when they were trimmed."""
        offset = first - 1
        while offset < last:
            found = self._reader.read(offset, min(AT_ONCE, last - offset))
            if not found:
                raise EnvironmentFault(f"{self.path}: expected events up to offset {last}; it ends at {offset}")
            yield from found
            offset = found[-1].last

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._reader.close()


class Player:
    """A flow in a harness that gets the inbox's commits, with the time between them, except where it did not count."""

    def __init__(self, flow: Flow, stream: str, gaps: Sequence[Gap]) -> None:
        self.harness, self._gaps = Harness(flow, stream), gaps
        self.harness.run.clock.learn(gaps)

    def play(self, block: Block) -> None:
        """Run one commit, with the time that passes before it and with it."""
        self.harness.tick(self._before(block.time))
        self.harness.read([block])
        self.harness.tick(block.time)

    def _before(self, time: int) -> int:
        """Return the last moment before a time that was in no gap."""
        at = bisect_left(self._gaps, time, key=lambda gap: gap.end)
        inside = at < len(self._gaps) and self._gaps[at].start < time
        return self._gaps[at].start if inside else time - 1


def elsewhere(flow: Flow) -> list[str]:
    """Return the sources that the worker reads by itself: their events are not in the inbox."""
    return [node.name for node in flow.section("sources") if isinstance(node.component, PulledSource)]
