"""The file of an inbox: SQLite in WAL mode, its schema, its lock, and what is said when it is not what it should be."""

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.block import Block, decode_block
from engine.errors import EnvironmentFault

APPLICATION = 0x4D494C4C  # "MILL"
VERSION = 1
SCHEMA = """
create table block (first integer primary key, count integer not null, time integer not null, body blob not null);
create table state (name text primary key, value blob not null) without rowid;
"""
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


def lock(path: Path) -> int:
    """Return the descriptor that locks the inbox for writing until it is closed; raises EnvironmentFault when taken."""
    beside = path.with_name(path.name + ".lock")
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
    return descriptor


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


def _or_close(connection: sqlite3.Connection, prepare: Callable[[], None]) -> sqlite3.Connection:
    try:
        prepare()
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, flow: str) -> None:
    if not connection.execute("select count(*) from sqlite_master").fetchone()[0]:
        _create(connection, flow)
    _check(connection, path)
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
    connection.executescript(f"begin; {SCHEMA} pragma application_id={APPLICATION}; pragma user_version={VERSION};")
    connection.execute("insert into state values ('stream', ?)", [name.encode()])
    connection.execute("commit")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("pragma application_id").fetchone()[0]
    version = connection.execute("pragma user_version").fetchone()[0]
    if application != APPLICATION:
        raise EnvironmentFault(f"{path}: expected an inbox; got an SQLite file with application id {application:#x}")
    if version != VERSION:
        raise EnvironmentFault(f"{path}: expected an inbox of version {VERSION}; got version {version}")


def stream(connection: sqlite3.Connection) -> str:
    """Return the name of the inbox's stream: the flow's name and what was drawn when the inbox was made."""
    return bytes(connection.execute("select value from state where name='stream'").fetchone()[0]).decode()


def head(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return offset and time of the last commit; zeros when there was none."""
    row = connection.execute("select first + count - 1, time from block order by first desc limit 1").fetchone()
    return row or (0, 0)


def progress(connection: sqlite3.Connection) -> Progress:
    """Return what was last remembered."""
    row = connection.execute("select value from state where name='progress'").fetchone()
    return msgspec.msgpack.decode(row[0], type=Progress) if row else Progress()


def remember(connection: sqlite3.Connection, values: Progress) -> None:
    """Store, inside the caller's transaction, what is to be remembered."""
    body = msgspec.msgpack.encode(values)
    connection.execute("insert or replace into state values ('progress', ?)", [body])


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


def allocated(connection: sqlite3.Connection) -> int:
    """Return how many bytes of the file are in use."""
    pages, free, size = (
        connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return (int(pages) - int(free)) * int(size)
