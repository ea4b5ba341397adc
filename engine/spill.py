"""What a sink's target has not taken yet, on the disk: one SQLite file a sink, there only while it holds something.

Batches are appended with one synchronous commit and deleted after they were written, in order. A crash between write
and delete writes them again, and what was put after the last snapshot is replayed and may then be in the spill twice:
both are harmless for a sink that knows ids, and within the promise of one that delivers at least once.
"""

import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import structlog

from engine.component import Sink
from engine.errors import EnvironmentFault, Unavailable
from engine.event import Event
from engine.event_codec import decode_events, encode_events
from engine.flow import Flow

KEPT = ("files", "notices")
"""Folders with a file for each sink that keeps something by itself."""
LIMIT, KEEP_FREE = 4 << 30, 256 << 20  # bytes
ROW_BYTES, ROW_EVENTS = 4 << 20, 2_000
READ_BYTES, READ_EVENTS = 8 << 20, 10_000
APPLICATION, VERSION = 0x4D53504C, 1  # "MSPL"
SCHEMA = "create table batch (number integer primary key, events integer, size integer, body blob not null)"
log = structlog.get_logger()


class Spill:
    """The spill of one sink; every call may come from any thread. `events` and `size` (bytes) are what it holds.

    Raises EnvironmentFault when the file is broken or none of ours, Unavailable when the disk does not take or give.
    """

    def __init__(self, path: Path, limit: int = LIMIT, keep_free: int = KEEP_FREE) -> None:
        self.path, self._limit, self._keep_free = path, limit, keep_free
        self.events = self.size = 0
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._through = 0
        if path.exists():
            with self._open() as connection:
                counts = "select coalesce(sum(events), 0), coalesce(sum(size), 0) from batch"
                self.events, self.size = connection.execute(counts).fetchone()
                if not self.events:
                    self._remove()

    @property
    def fill(self) -> float:
        """How full it is, 0 to 1."""
        return min(1.0, self.size / self._limit)

    def append(self, groups: Sequence[Sequence[Event]]) -> list[int]:
        """Append groups of events in order; return for each the number of its last batch, once all are on the disk.

        Raises Unavailable, and then has taken nothing, when the limit is reached or the disk has little room left.
        """
        rows = [list(_rows(group)) for group in groups]
        added = [row for group in rows for row in group]
        size = sum(len(body) for _, body in added)
        with self._open() as connection:
            self._admit(size)
            number = last = self._last(connection)
            values = [(last + at, events, len(body), body) for at, (events, body) in enumerate(added, 1)]
            connection.execute("begin immediate")
            with connection:
                connection.executemany("insert into batch values (?, ?, ?, ?)", values)
            self.events += sum(events for events, _ in added)
            self.size += size
        return [number := number + len(group) for group in rows]

    def _admit(self, size: int) -> None:
        if self.size + size > self._limit:
            raise Unavailable(f"{self.path}: it holds {self.size} bytes and takes at most {self._limit}")
        disk = os.statvfs(self.path.parent)
        if (room := disk.f_bavail * disk.f_frsize) < self._keep_free + size:
            raise Unavailable(f"{self.path}: its disk has {room} bytes left, {self._keep_free} of them for others")

    def _last(self, connection: sqlite3.Connection) -> int:
        found = connection.execute("select max(number) from batch").fetchone()[0]
        return max(found or 0, self._through)

    def read(self) -> tuple[list[Event], int]:
        """Return the oldest batches, together up to 10,000 events or 8 MiB, and the number of the last one."""
        found: list[Event] = []
        last = size = 0
        with self._open() as connection:
            query = "select number, size, body from batch where number > ? order by number"
            with closing(connection.execute(query, [self._through])) as rows:
                for number, bytes_, body in rows:
                    found += decode_events(body)
                    last, size = number, size + bytes_
                    if len(found) >= READ_EVENTS or size >= READ_BYTES:
                        break
        return found, last

    def delete(self, last: int) -> None:
        """Forget the batches up to this number: they are written. The file goes with its last batch.

        On a full disk they are forgotten here, and written again after a crash.
        """
        with self._open() as connection:
            counts = "select coalesce(sum(events), 0), coalesce(sum(size), 0) from batch where number between ? and ?"
            events, size = connection.execute(counts, [self._through + 1, last]).fetchone()
            self._through, self.events, self.size = last, self.events - events, self.size - size
            if not self.events:
                self._remove()
                return
            try:
                connection.execute("delete from batch where number <= ?", [last])
            except sqlite3.OperationalError as fault:
                log.debug("spill keeps what is written", path=str(self.path), reason=str(fault))

    def _remove(self) -> None:
        self._close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._through = self.size = 0

    def settle(self) -> None:
        """Bring everything into the one file, so that it can be moved once it is closed."""
        if self.events:
            with self._open() as connection:
                connection.execute("pragma wal_checkpoint(truncate)").fetchone()

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _faults(self.path):
            if self._connection is None:
                self._connection = _connect(self.path)
            yield self._connection


def _rows(events: Sequence[Event]) -> Iterator[tuple[int, bytes]]:
    """Yield (number of events, bytes) of rows that are not too large to be read at once."""
    for begin in range(0, len(events), ROW_EVENTS):
        part = events[begin : begin + ROW_EVENTS]
        body = encode_events(part)
        if len(body) <= ROW_BYTES or len(part) == 1:
            yield len(part), body
        else:
            middle = len(part) // 2
            yield from _rows(part[:middle])
            yield from _rows(part[middle:])


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn what is wrong with the file into our exceptions."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as fault:
        raise Unavailable(f"{path}: {fault}") from fault
    except (sqlite3.DatabaseError, msgspec.DecodeError, TypeError, ValueError) as fault:
        raise EnvironmentFault(broken(path, str(fault))) from fault


def broken(path: Path, fault: str) -> str:
    """Return what is said of a spill that cannot be read, and what to do."""
    flow, sink = path.parent.parent.name, path.stem
    advice = f"move it away and add what is missing with `millstream replay {flow} --repair {sink}`"
    return f"{path}: the events that wait for sink '{sink}'; {fault}. Either bring back a copy, or {advice}"


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        if not connection.execute("select count(*) from sqlite_master").fetchone()[0]:
            connection.execute("pragma journal_mode=wal")
            pragmas = f"pragma application_id={APPLICATION}; pragma user_version={VERSION}"
            connection.executescript(f"begin; {SCHEMA}; {pragmas}; commit")
        _check(connection, path)
        connection.execute("pragma synchronous=full")
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = tuple(connection.execute(f"pragma {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if found != (APPLICATION, VERSION):
        raise EnvironmentFault(broken(path, f"it is a file of another kind or version ({found[0]:#x}, {found[1]})"))


def open_spills(flow: Flow, folder: Path) -> dict[str, Spill]:
    """Return the spills of the sinks that may spill; `folder` is the flow's."""
    sinks = [node.name for node in flow.section("sinks") if isinstance(node.component, Sink) and node.component.spills]
    return {name: Spill(_place(folder, name)) for name in sinks}


def spilled_elsewhere(folder: Path, names: Collection[str]) -> dict[str, int]:
    """Return the sinks for which a flow's folder holds spilled events, without those in `names`, with the counts.

    `names` are the sinks that the flow has, or will have; a worker may be running. Raises as Spill does.
    """
    paths = sorted(_place(folder, "").parent.glob("*.db"))
    found = {path.stem: _counted(path) for path in paths if path.stem not in names}
    return {name: count for name, count in found.items() if count}


def _counted(path: Path) -> int:
    """Return how many events a file holds; changes nothing: its worker may be about to write, or to remove it."""
    try:
        with _faults(path), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            if not connection.execute("select count(*) from sqlite_master").fetchone()[0]:
                return 0
            _check(connection, path)
            return int(connection.execute("select coalesce(sum(events), 0) from batch").fetchone()[0])
    except Unavailable:
        if path.exists():
            raise
        return 0


def _place(folder: Path, sink: str) -> Path:
    return folder / "spill" / f"{sink}.db"


def rename_spills(folder: Path, renamed: Mapping[str, str]) -> None:
    """Give the spills of sinks their new names (old to new); no worker of the flow may run."""
    there = {old: new for old, new in renamed.items() if _place(folder, old).exists()}
    for old, new in there.items():
        with closing(Spill(_place(folder, old))) as spill:
            spill.settle()
        if _place(folder, old).exists():
            _place(folder, old).replace(_place(folder, new))
        forget_spills(folder, [old])
    _rename_others(folder, renamed)


def _rename_others(folder: Path, renamed: Mapping[str, str]) -> None:
    """Give what sinks keep themselves their new names: all of them first by names that none has."""
    for kind in KEPT:
        for step in ("", ".new"):
            for old, new in renamed.items():
                for suffix in ("", "-wal", "-shm"):
                    path = folder / kind / (f"{old}.db{suffix}" if not step else f"{new}.db{suffix}.new")
                    if path.exists():
                        path.replace(folder / kind / f"{new}.db{suffix}{'' if step else '.new'}")


def forget_spills(folder: Path, sinks: Iterable[str]) -> None:
    """Give up what sinks have spilled."""
    for sink in sinks:
        for suffix in ("", "-wal", "-shm"):
            path = _place(folder, sink)
            path.with_name(path.name + suffix).unlink(missing_ok=True)
