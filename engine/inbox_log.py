"""What the writer's thread does with the file of an inbox: append blocks, remember progress, trim, checkpoint."""

import itertools
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from engine import inbox_file
from engine.block import BlockBuilder, encode_block
from engine.component import Arrival
from engine.errors import EventFault
from engine.redelivery import Unacknowledged

SETTLE_ACKNOWLEDGED, SETTLE = 0.1, 1.0  # seconds
CHECKPOINT_BYTES, LONG_WAL = 4 << 20, 64 << 20
FRAME = 4096 + 24
TRIM_BLOCKS, TRIM_BYTES = 64, 1 << 20
Done = Callable[[int, BaseException | None], None]


class Submission(msgspec.Struct, eq=False):
    """Arrivals of one source on their way into the inbox; `first` and `repeated` are known after the commit."""

    source: str
    arrivals: Sequence[Arrival]
    done: Done
    size: int
    first: int = 0
    repeated: dict[int, int] = {}
    fault: BaseException | None = None

    def offsets(self) -> list[int]:
        """Return the offset of each arrival; one that was sent again has the offset of what is stored."""
        new = itertools.count(self.first)
        return [self.repeated[at] if at in self.repeated else next(new) for at in range(len(self.arrivals))]

    def tell(self) -> None:
        """Call `done`."""
        self.done(self.repeated.get(0, self.first), self.fault)


class InboxLog:
    """An inbox opened for writing, for one thread at a time. `head` and `time` are those of the last commit or mark.

    `due` (monotonic seconds) is when `settle` is to be called if nothing is written until then.
    """

    def __init__(self, path: Path, flow: str) -> None:
        self._lock = inbox_file.lock(path)
        self._eager, self.due, self._unchecked = False, math.inf, 0
        self._unacknowledged = Unacknowledged()
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
        for first, last in [*progress.unacknowledged, (progress.marker + 1, self.head)]:
            with closing(inbox_file.blocks_from(connection, first)) as blocks:
                for block in blocks:
                    if block.first > last:
                        break
                    self._unacknowledged.restore(block, first, last)

    def acknowledge(self, source: str, packets: Iterable[int]) -> None:
        """Forget MQTT packets whose acknowledgements were written."""
        self._unacknowledged.acknowledge(source, packets)
        self._eager, self.due = True, min(self.due, time.monotonic() + SETTLE_ACKNOWLEDGED)

    def use(self, offset: int) -> None:
        """Remember that the worker is done up to this offset."""
        self.used = offset
        self._eager, self.due = True, min(self.due, time.monotonic() + SETTLE)

    def write(self, batch: list[Submission], now: int) -> None:
        """Commit submissions as one block; those that cannot be stored carry a fault. Raises sqlite3.Error."""
        first, builder = self.head + 1, BlockBuilder()
        try:
            for submission in batch:
                self._add(builder, submission, first + len(builder))
            self._store(first, len(builder), now, encode_block(builder.block(first, now)))
        except sqlite3.Error:
            self._unacknowledged.roll_back()
            raise
        except Exception:
            self._unacknowledged.roll_back()
            sound = [submission for submission in batch if _sound(submission)]
            if len(sound) == len(batch):
                raise
            self.write(sound, now)
        else:
            self._unacknowledged.commit()
            self.head, self.time = self.head + len(builder), now

    def _add(self, builder: BlockBuilder, submission: Submission, first: int) -> None:
        submission.first = first
        new, submission.repeated = self._unacknowledged.sift(submission.source, submission.arrivals, first)
        builder.add(submission.source, new)

    def _store(self, first: int, count: int, now: int, body: bytes) -> None:
        remember = self._eager or time.monotonic() >= self.due
        if not count and not remember:
            return
        execute = self._connection.execute
        try:
            execute("begin immediate")
            if count:
                execute("insert into block values (?, ?, ?, ?)", (first, count, now, body))
            if remember:
                self._remember()
            execute("commit")
        except BaseException:
            if self._connection.in_transaction:
                execute("rollback")
            raise
        self._stored(len(body) if count else 0, remember)

    def _remember(self) -> None:
        ranges = self._unacknowledged.ranges()
        inbox_file.remember(self._connection, inbox_file.Progress(self.used, self.time, self.head, ranges))

    def _stored(self, size: int, remembered: bool) -> None:
        self._unchecked += size + 2 * FRAME
        if remembered:
            self._eager, self.due = False, math.inf
        if size:
            self.due = min(self.due, time.monotonic() + SETTLE)

    def settle(self) -> None:
        """Remember what is due while nothing arrives. Raises sqlite3.Error."""
        self.due = time.monotonic() + SETTLE
        self._eager = True
        self._store(0, 0, 0, b"")

    def trim_step(self, oldest: int, keep_size: int) -> bool:
        """Drop some used blocks that are older than the time `oldest` or beyond the size; True: there may be more."""
        spare = inbox_file.allocated(self._connection) - keep_size
        limit = min(self.used, self.head - 1)
        query = "select first, count, time, length(body) from block where first <= ? order by first limit ?"
        cut = freed = 0
        for first, count, committed, size in self._connection.execute(query, (limit, TRIM_BLOCKS)).fetchall():
            if first + count - 1 > limit or (committed >= oldest and freed >= spare) or freed > TRIM_BYTES:
                break
            cut, freed = first, freed + size
        if cut:
            self._connection.execute("delete from block where first <= ?", (cut,))
            self._unchecked += freed // 16 + 2 * FRAME
        return cut > 0

    def checkpoint(self) -> None:
        """Bring the write-ahead log back into the file when it has grown; waits for readers only when it is long."""
        if self._unchecked < CHECKPOINT_BYTES:
            return
        self._unchecked = 0
        _, frames, _ = self._connection.execute("pragma wal_checkpoint(passive)").fetchone()
        if frames * FRAME > LONG_WAL:
            self._connection.execute("pragma wal_checkpoint(restart)").fetchone()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        os.close(self._lock)


def _sound(submission: Submission) -> bool:
    """Tell whether arrivals can be stored at all; if not, the submission carries the reason."""
    builder = BlockBuilder()
    try:
        builder.add(submission.source, submission.arrivals)
        encode_block(builder.block(1, 1))
    except Exception as fault:
        submission.fault = EventFault(f"cannot be stored: {fault}")
        return False
    return True
