"""The durable inbox of a flow: one writer thread that commits what waits as one block, and readers by offset."""

import asyncio
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import structlog

from engine.arrival import Arrival, Reply
from engine.arrival_clock import ArrivalClock
from engine.arrivals import Arrivals
from engine.errors import EventFault, Unavailable
from engine.event import stream_prefix
from engine.inbox_bounds import Bounds, Room
from engine.inbox_log import Done, InboxLog, Submission, gather
from engine.inbox_reader import InboxReader

__all__ = ["InboxReader", "InboxWriter"]

CAPACITY = 64 << 20
OVERHEAD = 200  # bytes of memory that a waiting arrival takes beside its payload and topic, roughly
COMMIT_RECORDS, BEAT = 2_000, 1.0  # records, seconds
log = structlog.get_logger()


class InboxWriter:
    """The one writer of a flow's inbox. It commits at once when work waits; while it commits, more gathers.

    `on_commit(head, time)` is called on the loop after each commit. `capacity` bounds the bytes that wait for a commit,
    `bounds` what lies on the disk; `clock` makes the clock of arrivals, from the last time that was given away.
    `fill` is how near the bound is what waits there, 0 to 1.
    """

    def __init__(
        self,
        path: Path,
        flow: str,
        *,
        capacity: int = CAPACITY,
        on_commit: Callable[[int, int], None] = lambda head, time: None,
        commit_records: int = COMMIT_RECORDS,
        bounds: Bounds = Bounds(),  # noqa: B008 - a value
        clock: Callable[[int], ArrivalClock] = ArrivalClock,
    ) -> None:
        self.path, self.flow, self.stream, self.prefix = path, flow, "", b""
        self._capacity, self._on_commit, self._commit_records = capacity, on_commit, commit_records
        self._changed = threading.Condition()
        self._waiting: deque[Submission] = deque()
        self._acknowledged: list[tuple[str, Iterable[int]]] = []
        self._busy, self._closing, self._failing, self._untold = False, True, False, ""
        self._make_clock, self._room, self._full, self.fill = clock, Room(path, bounds), "", 0.0
        self._answers: list[tuple[int, Reply, asyncio.Future[None]]] = []
        self._keeping: list[asyncio.Future[None]] = []
        self._mark, self._time, self._used, self._waiting_bytes = (0, 0), 0, 0, 0
        self._trim: tuple[int, int] | None = None
        self._trimming: tuple[int, int] | None = None

    def open(self) -> None:
        """Open or create the file and start the thread; called on the loop, on which `done` will be called.

        Raises EnvironmentFault when another writer has it open or the file is something else.
        """
        self._loop = asyncio.get_running_loop()
        self._log = InboxLog(self.path, self.flow)
        self.stream, self.prefix = self._log.stream, stream_prefix(self._log.stream)
        self._clock = self._make_clock(self._log.alive)
        self._mark, self._used = (self._log.head, self._log.alive), self._log.used
        self._closing = False
        self._beat()
        self._thread = threading.Thread(target=self._run, name=f"inbox {self.flow}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Commit what waits, stop the thread and let go of the file."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify()
        self._beating.cancel()
        self._thread.join()

    def _beat(self) -> None:
        """Tell that this writer lives, and look whether it may grow; once a second."""
        with self._changed:
            if self._closing:
                return
            self._touch(self._clock.beat())
            backlog = self._log.backlog.size
        full, self.fill = self._room.refusal(backlog), self._room.fill(backlog)
        if bool(full) != bool(self._full):
            log.warning("inbox takes no more" if full else "inbox takes again", flow=self.flow, reason=full)
        self._full = full
        self._beating = self._loop.call_later(BEAT, self._beat)

    def _touch(self, now: int) -> None:
        """Keep the heartbeat, unless there is a gap before it that must be stored first."""
        if self._clock.gaps:
            self._changed.notify()
        else:
            self._log.touch(now)

    @property
    def head(self) -> int:
        """Return the offset of the last committed record, 0 before the first."""
        return self._mark[0]

    @property
    def done(self) -> int:
        """Return the offset up to which the worker is done, its states included."""
        return self._used

    def submit(self, source: str, arrivals: Arrivals | Sequence[Arrival], done: Done) -> Submission:
        """Hand arrivals to the next commit; `done(first offset, error or None)` is called on the loop. Any thread.

        Raises Unavailable when the inbox is full or closed, and where a failure of earlier ones was not told yet, so
        that the order stays; EventFault for what can never be taken. What has a once-key that is stored is not stored
        again; with another digest than the stored one the error is KeyReused.
        """
        columns = Arrivals.of(arrivals)
        submission = Submission(source, columns, done, size := columns.size + OVERHEAD * len(columns))
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
        if reason := self._full or self._untold:
            raise Unavailable(reason)

    def keep(self, offset: int, answer: Reply) -> asyncio.Future[None]:
        """Store the answer to what is at an offset, where that has a once-key; done when it is durable or cannot be.

        On the loop.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        with self._changed:
            if self._closing:
                future.set_result(None)
            else:
                self._answers.append((offset, answer, future))
                self._changed.notify()
        return future

    def mark(self) -> tuple[int, int]:
        """Return (head, time): what arrived up to `time` is committed up to `head`; later commits have a later time."""
        with self._changed:
            if not self._waiting and not self._busy and not self._closing:
                now = self._clock.now(self._mark[1])
                self._touch(now)
                if not self._clock.gaps and not self._log.gaps:
                    self._mark = (self._mark[0], now)
            return self._mark

    def used(self, offset: int) -> None:
        """Remember, within a second, that the worker is done up to this offset. Any thread."""
        with self._changed:
            self._used = max(self._used, min(offset, self._mark[0]))
            self._changed.notify()

    def acknowledged(self, source: str, packets: Iterable[int]) -> None:
        """Remember, within 100 ms, that the broker has the acknowledgements of these MQTT packets. Any thread."""
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
                self._upkeep(self._log.settle)
            self._tell_kept()
            if self._trimming:
                self._upkeep(self._trim_step)
            self._upkeep(self._log.checkpoint)
        self._upkeep(self._log.settle)
        self._tell_kept()
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
            self._time = self._clock.now(self._mark[1] + 1)
            self._take_beside()
            if not self._waiting:
                return None if self._closing else []
            self._busy = True
            return gather(self._waiting, self._commit_records)

    def _take_beside(self) -> None:
        """Take what is written beside the blocks: gaps, and answers."""
        self._log.gaps += self._clock.take()
        for offset, answer, future in self._answers:
            self._log.once.keep(offset, answer)
            self._keeping.append(future)
        self._answers.clear()
        if self._log.gaps or self._log.once.answers:
            self._log.hurry()

    def _called(self) -> bool:
        some = self._waiting or self._acknowledged or self._trim or self._trimming or self._answers or self._clock.gaps
        return bool(some or self._closing or self._used > self._log.used)

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
            log.warning("inbox writes again", flow=self.flow)
        self._failing = False
        self._post(self._deliver, batch, self._mark)

    def _fail(self, batch: list[Submission], fault: Exception) -> None:
        error = Unavailable(f"{self.path}: cannot be written: {fault}")
        with self._changed:
            failed = [*batch, *self._waiting]
            self._waiting.clear()
            self._waiting_bytes, self._busy, self._untold = 0, False, str(error)
        for submission in failed:
            submission.fault = error
        if not self._failing:
            log.error("inbox cannot be written", flow=self.flow, path=str(self.path), reason=str(fault))
        self._failing = True
        self._post(self._deliver, failed, None)

    def _post(self, call: Callable[..., None], things: Sequence[Any], *more: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, things, *more)
        except RuntimeError:  # the loop has ended, and with it all who wait
            log.warning("inbox has nobody to tell", flow=self.flow, things=len(things))

    def _tell_kept(self) -> None:
        keeping, self._keeping = self._keeping, []
        if keeping:
            self._post(_end, keeping)

    def _deliver(self, batch: list[Submission], commit: tuple[int, int] | None) -> None:
        for submission in batch:
            try:
                submission.tell()
            except Exception:
                log.exception("a source failed after the commit", flow=self.flow, source=submission.source)
        if commit:
            self._on_commit(*commit)
        else:
            self._untold = ""

    def _upkeep(self, step: Callable[[], None]) -> None:
        """Do a step of upkeep; a failure is told, and it is tried again later."""
        try:
            step()
        except sqlite3.Error as fault:
            self._trimming = None
            log.warning("inbox upkeep failed", flow=self.flow, path=str(self.path), reason=str(fault))

    def _trim_step(self) -> None:
        if self._trimming and not self._log.trim_step(self._time, *self._trimming):
            self._trimming = None


def _end(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
