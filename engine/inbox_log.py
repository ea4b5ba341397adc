"""What the writer's thread does with the file of an inbox: append blocks, remember progress, trim, checkpoint."""

import itertools
import math
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from engine import inbox_file
from engine.arrival import Reply
from engine.arrivals import Arrivals
from engine.block import SOURCES_IN_A_BLOCK, Block, BlockBuilder
from engine.errors import EventFault, KeyReused
from engine.gap import Gap
from engine.inbox_bounds import Backlog
from engine.once import OnceKeys
from engine.redelivery import Sight, Unacknowledged, sight

SETTLE_ACKNOWLEDGED, SETTLE = 0.1, 1.0  # seconds
COMMIT_BYTES = 8 << 20
KEEP_KEYS = 24 * 3600 * 1_000_000
CHECKPOINT_BYTES, LONG_WAL = 4 << 20, 64 << 20
FRAME = 4096 + 24
TRIM_BLOCKS, TRIM_BYTES = 64, 1 << 20
INSERT = "insert into block values (?, ?, ?, ?)"
Done = Callable[[int, BaseException | None], None]


class Submission(msgspec.Struct, eq=False):
    """Arrivals of one source on their way into the inbox; `first` and `repeated` are known after the commit.

    `answer` is what a single arrival that was sent again was answered, where that is known.
    """

    source: str
    arrivals: Arrivals
    done: Done
    size: int
    first: int = 0
    repeated: dict[int, int] = {}
    answer: Reply | None = None
    fault: BaseException | None = None

    def offsets(self) -> list[int]:
        """Return the offset of each arrival; one that was sent again has the offset of what is stored."""
        new = itertools.count(self.first)
        return [self.repeated[at] if at in self.repeated else next(new) for at in range(len(self.arrivals))]

    def tell(self) -> None:
        """Call `done`."""
        self.done(self.repeated.get(0, self.first), self.fault)


def gather(waiting: deque[Submission], most: int) -> list[Submission]:
    """Take from what waits what goes into one commit: one submission, or up to `most` records, 8 MiB, 256 sources."""
    batch: list[Submission] = []
    records = size = 0
    sources: set[str] = set()
    while waiting:
        new = waiting[0]
        records, size = records + len(new.arrivals), size + new.size
        sources.add(new.source)
        if batch and (records > most or size > COMMIT_BYTES or len(sources) > SOURCES_IN_A_BLOCK):
            break
        batch.append(waiting.popleft())
    return batch


class InboxLog:
    """An inbox opened for writing, for one thread at a time. `head` and `time` are those of the last commit or mark.

    `due` (monotonic seconds) is when `settle` is to be called if nothing is written until then. `alive` is up to when
    the last writer lived, `gaps` are those that are not stored yet.
    """

    def __init__(self, path: Path, flow: str) -> None:
        self._lock, self.alive = inbox_file.lock(path)
        self.gaps: list[Gap] = []
        self._eager, self.due, self._unchecked, self._not_before = False, math.inf, 0, 0.0
        self._unacknowledged, self._seen = Unacknowledged(self._look), Block(0, 0, [], b"", [], [], [], {}, [])
        try:
            self._connection = inbox_file.open_writable(path, flow)
            with inbox_file.read_faults(path):
                self._restore()
        except BaseException:
            os.close(self._lock)
            raise

    def _restore(self) -> None:
        connection, progress = self._connection, inbox_file.progress(self._connection)
        self.stream = inbox_file.stream(connection)
        self.head, committed = inbox_file.head(connection)
        self.time, self.used = max(committed, progress.time), progress.used
        self.alive = max(self.alive, self.time) if self.time else 0
        self.once, self.backlog = OnceKeys(connection), Backlog()
        self.backlog.restore(self.used, self.head, inbox_file.size_after(connection, self.used, self.head))
        for first, last in [*progress.unacknowledged, (progress.marker + 1, self.head)]:
            with closing(inbox_file.blocks_from(connection, first)) as blocks:
                for block in blocks:
                    if block.first > last:
                        break
                    self._unacknowledged.restore(block, first, last)

    def _look(self, offset: int) -> Sight | None:
        """Return how a stored message looks; those of one block are asked for together."""
        if not self._seen.first <= offset <= self._seen.last:
            with closing(inbox_file.blocks_from(self._connection, offset)) as blocks:
                self._seen = next(blocks, self._seen)
        block, at = self._seen, offset - self._seen.first
        return sight(block.topics[block.topic_index[at]], block.payloads[at]) if 0 <= at < len(block.payloads) else None

    def acknowledge(self, source: str, packets: Iterable[int]) -> None:
        """Forget MQTT packets whose acknowledgements have reached the broker."""
        self._unacknowledged.acknowledge(source, packets)
        self._eager, self.due = True, min(self.due, time.monotonic() + SETTLE_ACKNOWLEDGED)

    def use(self, offset: int) -> None:
        """Remember that the worker is done up to this offset."""
        self.used = offset
        self.backlog.use(offset)
        self._eager, self.due = True, min(self.due, time.monotonic() + SETTLE)

    def hurry(self) -> None:
        """Let `settle` be called at once."""
        self._eager, self.due = True, time.monotonic()

    def touch(self, now: int) -> None:
        """Tell, at little cost, that the writer lives at this time; nothing that has a gap before it may be told."""
        if not self.gaps:
            with suppress(OSError):
                os.utime(self._lock, ns=(now * 1000, now * 1000))

    def write(self, batch: list[Submission], now: int) -> None:
        """Commit submissions as one block; those that cannot be stored carry a fault. Raises sqlite3.Error."""
        first, builder = self.head + 1, BlockBuilder()
        try:
            for submission in batch:
                self._add(builder, submission, first + len(builder))
            self._store(first, len(builder), now, builder.encode(first, now) if builder else b"")
        except sqlite3.Error:
            self._roll_back()
            raise
        except Exception:
            self._roll_back()
            sound = [submission for submission in batch if _sound(submission)]
            if len(sound) == len(batch):
                raise
            self.write(sound, now)
        else:
            self._unacknowledged.commit()
            self.head, self.time = self.head + len(builder), now

    def _roll_back(self) -> None:
        self._unacknowledged.roll_back()
        self.once.roll_back()

    def _add(self, builder: BlockBuilder, submission: Submission, first: int) -> None:
        submission.first, arrivals = first, submission.arrivals
        try:
            new, submission.repeated = self._unacknowledged.sift(submission.source, arrivals, first, self.once)
        except KeyReused as fault:
            submission.fault = fault
            return
        if submission.repeated and len(arrivals) == 1 and arrivals.keys:
            submission.answer = self.once.answer(arrivals)
        builder.add(submission.source, new)

    def _store(self, first: int, count: int, now: int, body: bytes) -> None:
        remember = self._eager or time.monotonic() >= self.due
        if not count and not remember:
            return
        row = (first, count, now, body) if count else None
        if row and not (remember or self.gaps or self.once.waits):
            self._connection.execute(INSERT, row)  # a transaction by itself
        else:
            self._store_together(row, now, remember)
        if count:
            self.backlog.add(first + count - 1, len(body))
        self._stored(len(body) if count else 0, remember)

    def _store_together(self, row: tuple[int, int, int, bytes] | None, now: int, remember: bool) -> None:
        execute = self._connection.execute
        try:
            execute("begin immediate")
            if row:
                execute(INSERT, row)
            self._store_beside(now, remember)
            execute("commit")
        except BaseException:
            if self._connection.in_transaction:
                execute("rollback")
            raise

    def _store_beside(self, now: int, remember: bool) -> None:
        self.once.write(now)
        if self.gaps:
            inbox_file.add_gaps(self._connection, self.gaps)
        if remember:
            self._remember()

    def _remember(self) -> None:
        ranges = self._unacknowledged.ranges()
        inbox_file.remember(self._connection, inbox_file.Progress(self.used, self.time, self.head, ranges))

    def _stored(self, size: int, remembered: bool) -> None:
        self._unchecked += size + 2 * FRAME
        self.once.commit()
        self.gaps.clear()
        if remembered:
            self._eager, self.due = False, math.inf
        if size:
            self.due = min(self.due, time.monotonic() + SETTLE)

    def settle(self) -> None:
        """Remember what is due while nothing arrives. Raises sqlite3.Error."""
        self.due = time.monotonic() + SETTLE
        self._eager = True
        self._store(0, 0, 0, b"")

    def trim_step(self, now: int, keep_time: int, keep_size: int) -> bool:
        """Drop some used blocks that are too old or beyond the size, and some old keys; True: there may be more."""
        keys = self.once.trim_step(now - KEEP_KEYS)
        return self._trim_blocks(now - keep_time, keep_size) or keys

    def _trim_blocks(self, oldest: int, keep_size: int) -> bool:
        spare = inbox_file.allocated(self._connection) - keep_size
        limit = min(self.used, self.head - 1)
        query = "select first, count, time, length(body) from block where first <= ? order by first limit ?"
        cut = last = freed = 0
        for first, count, committed, size in self._connection.execute(query, (limit, TRIM_BLOCKS)).fetchall():
            if first + count - 1 > limit or (committed >= oldest and freed >= spare) or freed > TRIM_BYTES:
                break
            cut, last, freed = first, first + count - 1, freed + size
        if cut:
            self._unacknowledged.leave(last)
            self._connection.execute("delete from block where first <= ?", (cut,))
            self._unchecked += freed // 16 + 2 * FRAME
        return cut > 0

    def checkpoint(self) -> None:
        """Bring the write-ahead log back into the file when it has grown; waits for readers only when it is long."""
        if self._unchecked < CHECKPOINT_BYTES or time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + SETTLE
        _, frames, _ = self._connection.execute("pragma wal_checkpoint(passive)").fetchone()
        if frames * FRAME > LONG_WAL:
            self._connection.execute("pragma wal_checkpoint(restart)").fetchone()
        self._unchecked, self._not_before = 0, 0.0

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        os.close(self._lock)


def _sound(submission: Submission) -> bool:
    """Tell whether arrivals can be stored at all; if not, the submission carries the reason."""
    builder = BlockBuilder()
    try:
        builder.add(submission.source, submission.arrivals)
        builder.encode(1, 1)
    except Exception as fault:
        submission.fault = EventFault(f"cannot be stored: {fault}")
        return False
    return True
