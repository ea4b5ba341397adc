"""The durable inbox of a flow: one writer thread that commits what waits as one block, and readers by offset."""

import asyncio
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import structlog

from engine import inbox_file
from engine.block import SOURCES_IN_A_BLOCK, Block
from engine.component import Arrival
from engine.errors import EnvironmentFault, EventFault, Unavailable
from engine.event import stream_prefix
from engine.inbox_log import Done, InboxLog, Submission

CAPACITY = 64 << 20
OVERHEAD = 200  # bytes of memory that a waiting arrival takes beside its payload and topic, roughly
COMMIT_RECORDS, COMMIT_BYTES = 2_000, 8 << 20
log = structlog.get_logger()


class InboxWriter:
    """The one writer of a flow's inbox. It commits at once when work waits; while it commits, more gathers.

    `on_commit(head, time)` is called on the loop after each commit; `capacity` bounds the bytes that wait.
    """

    def __init__(
        self,
        path: Path,
        flow: str,
        *,
        capacity: int = CAPACITY,
        on_commit: Callable[[int, int], None] = lambda head, time: None,
        commit_records: int = COMMIT_RECORDS,
    ) -> None:
        self.path, self.flow, self.stream, self.prefix = path, flow, "", b""
        self._capacity, self._on_commit, self._commit_records = capacity, on_commit, commit_records
        self._changed = threading.Condition()
        self._waiting: deque[Submission] = deque()
        self._waiting_bytes = 0
        self._acknowledged: list[tuple[str, Iterable[int]]] = []
        self._busy, self._closing, self._failing = False, True, False
        self._mark, self._time, self._used = (0, 0), 0, 0
        self._trim: tuple[int, int] | None = None
        self._trimming: tuple[int, int] | None = None

    def open(self) -> None:
        """Open or create the file and start the thread; called on the loop, on which `done` will be called.

        Raises EnvironmentFault when another writer has it open or the file is something else.
        """
        self._loop = asyncio.get_running_loop()
        self._log = InboxLog(self.path, self.flow)
        self.stream, self.prefix = self._log.stream, stream_prefix(self._log.stream)
        self._mark, self._used = (self._log.head, self._log.time), self._log.used
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"inbox {self.flow}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Commit what waits, stop the thread and let go of the file."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify()
        self._thread.join()

    @property
    def head(self) -> int:
        """Return the offset of the last committed record, 0 before the first."""
        return self._mark[0]

    def submit(self, source: str, arrivals: Sequence[Arrival], done: Done) -> Submission:
        """Hand arrivals to the next commit; `done(first offset, error or None)` is called on the loop. Any thread.

        Raises Unavailable when the inbox is full or closed, EventFault for what can never be taken.
        """
        size = sum([len(a.payload) + len(a.topic) for a in arrivals]) + OVERHEAD * len(arrivals)
        submission = Submission(source, arrivals, done, size)
        with self._changed:
            self._admit(size)
            self._waiting.append(submission)
            self._waiting_bytes += size
            self._changed.notify()
        return submission

    def _admit(self, size: int) -> None:
        if self._closing:
            raise Unavailable(f"inbox of '{self.flow}' is closed")
        if size > self._capacity:
            raise EventFault(f"{size} bytes at once; the inbox of '{self.flow}' takes at most {self._capacity}")
        if self._waiting_bytes + size > self._capacity:
            raise Unavailable(f"inbox full: {self._waiting_bytes} bytes of '{self.flow}' wait to be committed")

    def mark(self) -> tuple[int, int]:
        """Return (head, time): what arrived up to `time` is committed up to `head`; later commits have a later time."""
        with self._changed:
            if not self._waiting and not self._busy:
                self._mark = (self._mark[0], max(_now(), self._mark[1]))
            return self._mark

    def used(self, offset: int) -> None:
        """Remember, within a second, that the worker is done up to this offset. Any thread."""
        with self._changed:
            self._used = max(self._used, min(offset, self._mark[0]))
            self._changed.notify()

    def acknowledged(self, source: str, packets: Iterable[int]) -> None:
        """Remember, within 100 ms, that the acknowledgements of these MQTT packets were written. Any thread."""
        with self._changed:
            self._acknowledged.append((source, packets))
            self._changed.notify()

    def trim(self, keep_time: int, keep_size: int) -> None:
        """Drop used blocks, oldest first: those older than `keep_time` microseconds or beyond `keep_size` bytes.

        Returns at once; the thread does it in small steps between commits. The last block always stays.
        """
        with self._changed:
            self._trim = (keep_time, keep_size)
            self._changed.notify()

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            if batch:
                self._commit(batch)
            elif time.monotonic() >= self._log.due:
                self._keep(self._log.settle)
            if self._trimming:
                self._keep(self._trim_step)
            self._keep(self._log.checkpoint)
        self._keep(self._log.settle)
        self._log.close()

    def _take(self) -> list[Submission] | None:
        """Wait for something to do; return what is to be committed now, None at the end."""
        with self._changed:
            if not self._called():
                due = self._log.due
                self._changed.wait(None if due == math.inf else max(0.0, due - time.monotonic()))
            acknowledged, self._acknowledged = self._acknowledged, []
            for source, packets in acknowledged:
                self._log.acknowledge(source, packets)
            if self._used > self._log.used:
                self._log.use(self._used)
            self._log.time = self._mark[1]
            self._trimming, self._trim = self._trim or self._trimming, None
            if not self._waiting:
                return None if self._closing else []
            self._busy, self._time = True, max(_now(), self._mark[1] + 1)
            return self._gather()

    def _called(self) -> bool:
        some = self._waiting or self._acknowledged or self._trim or self._trimming
        return bool(some) or self._closing or self._used > self._log.used

    def _gather(self) -> list[Submission]:
        batch: list[Submission] = []
        records = size = 0
        sources: set[str] = set()
        while self._waiting:
            new = self._waiting[0]
            records, size = records + len(new.arrivals), size + new.size
            sources.add(new.source)
            full = records > self._commit_records or size > COMMIT_BYTES or len(sources) > SOURCES_IN_A_BLOCK
            if full and batch:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _commit(self, batch: list[Submission]) -> None:
        try:
            self._log.write(batch, self._time)
        except Exception as fault:  # the thread must go on; the senders try again
            self._fail(batch, fault)
            return
        with self._changed:
            self._mark, self._busy = (self._log.head, self._time), False
            self._waiting_bytes -= sum([submission.size for submission in batch])
        if self._failing:
            self._failing = False
            log.warning("inbox writes again", flow=self.flow)
        self._post(batch, self._mark)

    def _fail(self, batch: list[Submission], fault: Exception) -> None:
        error = Unavailable(f"{self.path}: cannot be written: {fault}")
        with self._changed:
            failed = [*batch, *self._waiting]
            self._waiting.clear()
            self._waiting_bytes, self._busy = 0, False
        for submission in failed:
            submission.fault = error
        if not self._failing:
            self._failing = True
            log.error("inbox cannot be written", flow=self.flow, path=str(self.path), reason=str(fault))
        self._post(failed, None)

    def _post(self, batch: list[Submission], commit: tuple[int, int] | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, batch, commit)
        except RuntimeError:  # the loop has ended, and with it all who wait
            log.warning("inbox has nobody to tell", flow=self.flow, submissions=len(batch))

    def _deliver(self, batch: list[Submission], commit: tuple[int, int] | None) -> None:
        for submission in batch:
            try:
                submission.tell()
            except Exception:
                log.exception("a source failed after the commit", flow=self.flow, source=submission.source)
        if commit:
            self._on_commit(*commit)

    def _keep(self, step: Callable[[], None]) -> None:
        """Do a step of upkeep; a failure is told, and it is tried again later."""
        try:
            step()
        except sqlite3.Error as fault:
            self._trimming = None
            log.warning("inbox upkeep failed", flow=self.flow, path=str(self.path), reason=str(fault))

    def _trim_step(self) -> None:
        if self._trimming and not self._log.trim_step(_now() - self._trimming[0], self._trimming[1]):
            self._trimming = None


def _now() -> int:
    return time.time_ns() // 1000


class InboxReader:
    """Reads an inbox by offset, in any process, while the writer writes. Raises EnvironmentFault when there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = inbox_file.open_readable(path)
        with inbox_file.read_faults(path):
            self.stream = inbox_file.stream(self._connection)
        self.prefix = stream_prefix(self.stream)
        self._open: Block | None = None

    def read(self, offset: int, limit_records: int = 2_000) -> list[Block]:
        """Return up to `limit_records` records after `offset` (0: from the beginning), in order; empty at the head.

        Raises EnvironmentFault when they were trimmed, or when the inbox has never been that far.
        """
        found: list[Block] = []
        wanted, room = offset + 1, limit_records
        with inbox_file.read_faults(self.path), closing(self._blocks(wanted)) as blocks:
            for block in blocks:
                self._check_first(block, wanted)
                self._open = block
                if block.first < wanted or len(block.payloads) > room:
                    block = block.slice(wanted - block.first, wanted - block.first + room)
                found.append(block)
                wanted, room = wanted + len(block.payloads), room - len(block.payloads)
                if not room:
                    break
            if not found:
                self._check_head(offset)
        return found

    def _blocks(self, offset: int) -> Generator[Block, None, None]:
        last = self._open
        if last and last.first <= offset <= last.last:
            yield last
            offset = last.last + 1
        yield from inbox_file.blocks_from(self._connection, offset)

    def _check_first(self, block: Block, wanted: int) -> None:
        if block.first > wanted:
            found = f"the oldest that is kept is {block.first}"
            raise EnvironmentFault(f"{self.path}: expected the event at offset {wanted}; it was trimmed, {found}")

    def _check_head(self, offset: int) -> None:
        head, _ = inbox_file.head(self._connection)
        if offset > head:
            raise EnvironmentFault(f"{self.path}: expected events up to offset {offset}; the inbox ends at {head}")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
