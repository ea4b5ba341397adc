"""The file of a flow's channel log: SQLite in WAL mode. Whoever has seen a number finds the same event under it again.

Of each channel it has the run and the last number, recent messages and recent ids in blocks (one a commit), and of kept
and held-back events the latest value.
"""

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.frames import Push
from web.channel_message import Message, Pushed

APPLICATION, VERSION = 0x4D43484C, 1  # "MCHL"
SEEN = 40_000
HISTORY_BYTES = 16 << 20
_SCHEMA = """
create table channel (name text primary key, run text not null, number integer not null) without rowid;
create table block (
  channel text not null, last integer not null, clock real not null, body blob not null, primary key (channel, last)
);
create table seen (n integer primary key, channel text not null, body blob not null);
create table latest (
  n integer primary key, channel text not null, event text not null, room text not null, sent integer not null,
  body blob not null, unique (channel, event, room)
);
"""
Key = tuple[str, str, bytes]
_encode = msgspec.msgpack.Encoder().encode
_messages = msgspec.msgpack.Decoder(list[Message])
_keys = msgspec.msgpack.Decoder(list[Key])
_push = msgspec.msgpack.Decoder(tuple[bytes, bytes, bool, float, int])


class Portion(msgspec.Struct):
    """What is new of one channel: messages as no transport has them yet, and ids.

    `latest` has by event and room the push and whether it was sent, None: forget it.
    """

    name: str
    run: str = ""
    number: int = 0
    history: int = 0
    messages: list[Message] = []
    seen: list[Key] = []
    latest: dict[tuple[str, str], tuple[Pushed, bool] | None] = {}


class Saved(msgspec.Struct):
    """What the log has of a channel: `kept` oldest first; what is in `waiting` has not been sent yet."""

    run: str
    number: int
    messages: list[Message] = []
    seen: list[Key] = []
    kept: list[Push] = []
    waiting: list[Push] = []


class _Sizes:
    """How many entries and bytes each block of a channel has, oldest first, to know which can go."""

    def __init__(self) -> None:
        self.blocks: deque[tuple[int, int, int]] = deque()
        self.count = self.size = 0

    def add(self, name: int, count: int, size: int) -> None:
        self.blocks.append((name, count, size))
        self.count += count
        self.size += size

    def surplus(self, count: int, size: int) -> int | None:
        """Return the name of the last block that can go, so that at least so many entries, or bytes, are left."""
        gone = None
        while self.blocks and (self.count - self.blocks[0][1] >= count or self.size > size):
            gone, entries, taken = self.blocks.popleft()
            self.count -= entries
            self.size -= taken
        return gone


class LogFile:
    """One connection; `clock` is what messages are stamped with. Any thread, one at a time."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path, self._clock = path, clock
        self._connection: sqlite3.Connection | None = None
        self._sizes: dict[tuple[str, str], _Sizes] = {}
        self._last = 0

    def open(self) -> dict[str, Saved]:
        """Open or create the file; return what it has. Raises sqlite3.Error, OSError and msgspec's for another file."""
        return self._read(self._connected())

    def _connected(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        if not connection.execute("select count(*) from sqlite_master").fetchone()[0]:
            connection.execute("pragma journal_mode=wal")
            pragmas = f"pragma application_id={APPLICATION}; pragma user_version={VERSION};"
            connection.executescript(f"begin; {_SCHEMA} {pragmas} commit;")
        found = tuple(connection.execute(f"pragma {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if found != (APPLICATION, VERSION):
            raise sqlite3.DatabaseError(f"expected a channel log of version {VERSION}; got {found}")
        connection.execute("pragma synchronous=full")
        return connection

    def _read(self, connection: sqlite3.Connection) -> dict[str, Saved]:
        rows = connection.execute("select name, run, number from channel")
        saved = {name: Saved(run, number) for name, run, number in rows}
        since = self._clock() - time.time()
        for name, last, clock, body in connection.execute("select * from block order by channel, last"):
            messages = _messages.decode(body)
            for message in messages:
                message.sent += clock + since
            saved[name].messages += messages
            self._size(name, "block").add(last, len(messages), len(body))
        for n, name, body in connection.execute("select n, channel, body from seen order by n"):
            keys = _keys.decode(body)
            saved[name].seen += keys
            self._size(name, "seen").add(n, len(keys), 0)
            self._last = n
        for name, event, room, sent, body in connection.execute(
            "select channel, event, room, sent, body from latest order by n"
        ):
            origin, data, keep, at_most, at = _push.decode(body)
            push = Push(name, event, origin, data, room, keep, at, at_most)
            saved[name].kept += [push] if keep else []
            saved[name].waiting += [] if sent else [push]
        return saved

    def _size(self, channel: str, table: str) -> _Sizes:
        return self._sizes.setdefault((channel, table), _Sizes())

    def commit(self, portions: Iterable[Portion], only: Iterable[str] | None = None) -> None:
        """Make portions durable, and forget the channels other than `only`; whatever it raises, nothing is stored."""
        connection = self._connection or self._connected()
        connection.execute("begin immediate")
        try:
            if only is not None:
                self._forget_others(connection, set(only))
            for portion in portions:
                self._add(connection, portion)
            connection.execute("commit")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("rollback")
            raise

    def _forget_others(self, connection: sqlite3.Connection, only: set[str]) -> None:
        for (name,) in connection.execute("select name from channel").fetchall():
            if name not in only:
                connection.execute("delete from channel where name = ?", [name])
                for table in ("block", "seen", "latest"):
                    connection.execute(f"delete from {table} where channel = ?", [name])  # noqa: S608 - constants
                    self._sizes.pop((name, table), None)

    def _add(self, connection: sqlite3.Connection, portion: Portion) -> None:
        name = portion.name
        connection.execute("insert or replace into channel values (?, ?, ?)", [name, portion.run, portion.number])
        if portion.messages and portion.history:
            self._add_messages(connection, portion)
        if portion.seen:
            self._last += 1
            connection.execute("insert into seen values (?, ?, ?)", [self._last, name, _encode(portion.seen)])
            sizes = self._size(name, "seen")
            sizes.add(self._last, len(portion.seen), 0)
            if (gone := sizes.surplus(SEEN, 0)) is not None:
                connection.execute("delete from seen where n <= ? and channel = ?", [gone, name])
        for (event, room), entry in portion.latest.items():
            _set_latest(connection, (name, event, room), entry)

    def _add_messages(self, connection: sqlite3.Connection, portion: Portion) -> None:
        messages = portion.messages[-portion.history :]
        body, clock = _encode(messages), time.time() - self._clock()
        connection.execute("insert into block values (?, ?, ?, ?)", [portion.name, portion.number, clock, body])
        sizes = self._size(portion.name, "block")
        sizes.add(portion.number, len(messages), len(body))
        if (gone := sizes.surplus(portion.history, HISTORY_BYTES)) is not None:
            connection.execute("delete from block where channel = ? and last <= ?", [portion.name, gone])

    def close(self) -> None:
        """Close the file; once is enough, more does no harm."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def remove(self) -> None:
        """Take the file away: what is missing in it must not be taken for what never was."""
        with suppress(sqlite3.Error):
            self.close()
        self._connection, self._last = None, 0
        self._sizes.clear()
        with suppress(OSError):
            for end in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + end).unlink(missing_ok=True)
            folder = os.open(self._path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)


def _set_latest(connection: sqlite3.Connection, key: tuple[str, str, str], entry: tuple[Pushed, bool] | None) -> None:
    if entry is None:
        connection.execute("delete from latest where channel = ? and event = ? and room = ?", key)
        return
    push, sent = entry
    body = _encode((push.id, push.body, push.keep, push.at_most, push.time))
    connection.execute(
        "insert or replace into latest (channel, event, room, sent, body) values (?, ?, ?, ?, ?)", [*key, sent, body]
    )
