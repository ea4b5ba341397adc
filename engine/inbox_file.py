"""The file of an inbox: SQLite in WAL mode, its schema, its lock, and what is said when it is not what it should be."""

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.block import Block, decode_block
from engine.errors import EnvironmentFault
from engine.gap import Gap

APPLICATION = 0x4D494C4C  # "MILL"
VERSION = 3
SCHEMA = """
create table block (first integer primary key, count integer not null, time integer not null, body blob not null);
create table state (name text primary key, value blob not null) without rowid;
"""
SINCE_VERSION_2 = """
create table gap (start integer primary key, stop integer not null);
create table once (offset integer primary key, key blob not null unique, time integer not null, digest blob not null);
create table answer (offset integer primary key, status integer not null, body blob not null);
"""
MOST_GAPS = 10_000
_ENDS = "select (select min(first) from block), first, time from block order by first desc limit 1"
_AT = "select first, time from block where first <= ? order by first desc limit 1"
T = TypeVar("T")


class Progress(msgspec.Struct, array_like=True):
    """What is remembered beside the blocks.

    `used` is up to where the worker is done. `time` is the latest time that was given away. The unacknowledged MQTT
    packets are those at the offsets in `unacknowledged`, (first, last) each, and all after `marker`.
    """

    used: int = 0
    time: int = 0
    marker: int = 0
    unacknowledged: list[tuple[int, int]] = []


@contextmanager
def read_faults(path: Path) -> Iterator[None]:
    """Turn what SQLite and the decoder find wrong with the file into an EnvironmentFault that says where and what."""
    try:
        yield
    except (sqlite3.Error, msgspec.DecodeError, TypeError) as fault:
        raise EnvironmentFault(f"{path}: expected an inbox of version {VERSION}; got {fault}") from fault


def lock(path: Path) -> tuple[int, int]:
    """Return what locks the inbox for writing until it is closed, and up to when its last writer lived (0: unknown).

    The lock file's time of change is that writer's heartbeat, in microseconds. Raises EnvironmentFault when taken.
    """
    beside = path.with_name(path.name + ".lock")
    alive = beside.stat().st_mtime_ns // 1000 if beside.exists() else 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as fault:
        raise EnvironmentFault(f"{beside}: expected a file that can be written; got {fault.strerror}") from fault
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        os.close(descriptor)
        raise EnvironmentFault(f"{path}: expected one writer; another process or part writes to this inbox") from fault
    return descriptor, alive


def open_writable(path: Path, flow: str) -> sqlite3.Connection:
    """Open or create the inbox of a flow for its one writer; raises EnvironmentFault when the file is not one."""
    with read_faults(path):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        return _or_close(connection, lambda: _prepare(connection, path, flow))


def open_readable(path: Path) -> sqlite3.Connection:
    """Open an inbox for reading; raises EnvironmentFault when it is not there yet or something else."""
    if not path.exists():
        raise EnvironmentFault(f"{path}: expected an inbox; there is none (the gateway creates it)")
    with read_faults(path):
        uri = f"{path.resolve().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        return _or_close(connection, lambda: _check(connection, path))


def _or_close(connection: sqlite3.Connection, prepare: Callable[[], object]) -> sqlite3.Connection:
    try:
        prepare()
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, flow: str) -> None:
    if not connection.execute("select count(*) from sqlite_master").fetchone()[0]:
        _create(connection, flow)
    version = _check(connection, path)
    if version < VERSION:
        tables = SINCE_VERSION_2 if version == 1 else ""
        connection.executescript(f"begin immediate; {tables} pragma user_version={VERSION}; commit;")
    found = stream(connection).rpartition(":")[0]
    if found != flow:
        raise EnvironmentFault(f"{path}: expected the inbox of flow '{flow}'; got that of '{found}'")
    connection.execute("pragma synchronous=full")
    connection.execute("pragma secure_delete=off")
    connection.execute("pragma wal_autocheckpoint=0")
    connection.execute("pragma journal_size_limit=67108864")


def _create(connection: sqlite3.Connection, flow: str) -> None:
    connection.execute("pragma journal_mode=wal")
    name = f"{flow}:{secrets.token_hex(8)}"
    pragmas = f"pragma application_id={APPLICATION}; pragma user_version={VERSION};"
    connection.executescript(f"begin; {SCHEMA} {SINCE_VERSION_2} {pragmas}")
    connection.execute("insert into state values ('stream', ?)", [name.encode()])
    connection.execute("commit")


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of an inbox.

    One of version 1 has no gaps and no once-keys: its writer adds the tables. Up to version 2 blocks had another form,
    which is still read.
    """
    application = connection.execute("pragma application_id").fetchone()[0]
    version = connection.execute("pragma user_version").fetchone()[0]
    if application != APPLICATION:
        raise EnvironmentFault(f"{path}: expected an inbox; got an SQLite file with application id {application:#x}")
    if not 1 <= version <= VERSION:
        raise EnvironmentFault(f"{path}: expected an inbox of version {VERSION}; got version {version}")
    return int(version)


def stream(connection: sqlite3.Connection) -> str:
    """Return the name of the inbox's stream: the flow's name and what was drawn when the inbox was made."""
    return bytes(connection.execute("select value from state where name='stream'").fetchone()[0]).decode()


def head(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return offset and time of the last commit; zeros when there was none."""
    row = connection.execute("select first + count - 1, time from block order by first desc limit 1").fetchone()
    return row or (0, 0)


def oldest(connection: sqlite3.Connection) -> int:
    """Return the offset of the oldest record that is kept; where there is none, that of the next one."""
    return int(connection.execute("select coalesce(min(first), 1) from block").fetchone()[0])


def first_since(connection: sqlite3.Connection, time: int) -> int | None:
    """Return the offset of the first record that arrived at `time` or later; None: there is none.

    Times never fall from block to block, so it is searched by halves: the time is in no index.
    """
    low, high, latest = connection.execute(_ENDS).fetchone() or (0, 0, 0)
    if latest < time or not high:
        return None
    while low < high:
        middle = (low + high) // 2
        first, arrived = connection.execute(_AT, [middle]).fetchone()
        low, high = (low, first) if arrived >= time else (middle + 1, high)
    return int(high)


def progress(connection: sqlite3.Connection) -> Progress:
    """Return what was last remembered."""
    row = connection.execute("select value from state where name='progress'").fetchone()
    return msgspec.msgpack.decode(row[0], type=Progress) if row else Progress()


def remember(connection: sqlite3.Connection, values: Progress) -> None:
    """Store, inside the caller's transaction, what is to be remembered."""
    body = msgspec.msgpack.encode(values)
    connection.execute("insert or replace into state values ('progress', ?)", [body])


def gaps(connection: sqlite3.Connection, since: int) -> list[Gap]:
    """Return the gaps that end after a time, in order."""
    if connection.execute("pragma user_version").fetchone()[0] == 1:
        return []
    return [
        Gap(*row) for row in connection.execute("select start, stop from gap where stop > ? order by start", [since])
    ]


def add_gaps(connection: sqlite3.Connection, found: Sequence[Gap]) -> None:
    """Store gaps, inside the caller's transaction; only the latest 10,000 are kept."""
    connection.executemany("insert or replace into gap values (?, ?)", found)
    oldest = "select start from gap order by start desc limit 1 offset ?"
    connection.execute(f"delete from gap where start <= ({oldest})", [MOST_GAPS])  # noqa: S608 - constant


def blocks_from(connection: sqlite3.Connection, offset: int) -> Generator[Block, None, None]:
    """Yield the blocks that hold records at `offset` or later."""
    inside = "coalesce((select max(first) from block where first <= :offset), 0)"
    query = f"select body from block where first >= {inside} and first + count > :offset order by first"  # noqa: S608 - constant
    cursor = connection.execute(query, {"offset": offset})
    try:
        for row in cursor:
            yield decode_block(row[0])
    finally:
        cursor.close()


def size_after(connection: sqlite3.Connection, offset: int, head: int) -> int:
    """Return about how many bytes of the file are taken by what comes after an offset."""
    if offset >= head:
        return 0
    first = int(connection.execute("select min(first) from block").fetchone()[0])
    return allocated(connection) * (head - offset) // (head - min(first - 1, offset))


def allocated(connection: sqlite3.Connection) -> int:
    """Return how many bytes of the file are in use."""
    pages, free, size = (
        connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return (int(pages) - int(free)) * int(size)
