"""The dead letters of a flow: a SQLite file that the worker writes while others read it."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import EnvironmentFault, Unavailable

STATES = ("new", "retried", "dropped")
_TABLE = """
CREATE TABLE IF NOT EXISTS dead (
    id BLOB NOT NULL, node TEXT NOT NULL, time INTEGER NOT NULL, source TEXT NOT NULL, topic TEXT NOT NULL,
    reason TEXT NOT NULL, details TEXT NOT NULL, payload BLOB NOT NULL, version TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'new', PRIMARY KEY (id, node)
)"""
_COLUMNS = ("id", "node", "time", "source", "topic", "reason", "details", "payload", "version", "state")
_INDEX = "CREATE INDEX IF NOT EXISTS dead_reason ON dead (state, node, reason)"


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One event that failed at one node.

    `time` is microseconds since 1970, `payload` the event's data as JSON or the raw bytes that could not be decoded,
    `version` that of the flow. `number` grows with each letter of a store; 0 in one that is not stored yet.
    """

    id: bytes
    node: str
    time: int
    source: str
    topic: str
    reason: str
    details: dict[str, Any]
    payload: bytes
    version: str
    state: str = "new"
    number: int = 0


class ReasonCount(msgspec.Struct, frozen=True):
    """How often a node gave a reason, and the time of the latest event."""

    node: str
    reason: str
    count: int
    latest: int


class DeadLetterStore:
    """Keeps dead letters by event and node. Every call may come from any thread; a file that is not there is empty.

    A writer waits `patience` seconds for another. Raises Unavailable when the disk is full or the file locked,
    EnvironmentFault when it is no such store.
    """

    def __init__(self, path: Path | str, patience: float = 10) -> None:
        self.path, self._patience = Path(path), patience
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def add(self, letters: Iterable[Letter]) -> int:
        """Keep letters and return how many are new; they are on the disk on return, known ones stay as they are."""
        rows = [[_stored(getattr(letter, name)) for name in _COLUMNS] for letter in letters]
        marks = ", ".join("?" * len(_COLUMNS))
        with self._writing() as connection:
            before = connection.total_changes
            connection.executemany(f"INSERT INTO dead VALUES ({marks}) ON CONFLICT DO NOTHING", rows)  # noqa: S608
            return connection.total_changes - before

    def rows(
        self, limit: int = 100, before: int | None = None, node: str | None = None, state: str | None = None
    ) -> list[Letter]:
        """Return letters, newest first; `before` is the number of the last one of the page before."""
        where, values = _where(("rowid <", before), ("node =", node), ("state =", state))
        sql = f"SELECT *, rowid AS number FROM dead{where} ORDER BY rowid DESC LIMIT ?"  # noqa: S608
        return [_letter(row) for row in self._read(sql, [*values, limit])]

    def get(self, event_id: bytes, node: str) -> Letter | None:
        """Return one letter."""
        found = self._read("SELECT *, rowid AS number FROM dead WHERE id = ? AND node = ?", [event_id, node])
        return _letter(found[0]) if found else None

    def count(self, node: str | None = None, state: str | None = None) -> int:
        """Return how many there are, in all states unless one is given."""
        where, values = _where(("node =", node), ("state =", state))
        found = self._read(f"SELECT COUNT(*) AS many FROM dead{where}", values)  # noqa: S608
        return int(found[0]["many"]) if found else 0

    def by_reason(self, state: str | None = None) -> list[ReasonCount]:
        """Return the reasons of each node, the most frequent first."""
        where, values = _where(("state =", state))
        sql = "SELECT node, reason, COUNT(*) AS many, MAX(time) AS latest FROM dead"
        sql += f"{where} GROUP BY node, reason ORDER BY many DESC, node, reason"
        return [ReasonCount(row["node"], row["reason"], row["many"], row["latest"]) for row in self._read(sql, values)]

    def mark(self, keys: Sequence[tuple[bytes, str]], state: str) -> int:
        """Set the state of letters, given as (id, node); return how many there were."""
        if state not in STATES:
            raise ValueError(f"one of {', '.join(STATES)}; got '{state}'")
        if not self.path.exists():
            return 0
        with self._writing() as connection:
            before = connection.total_changes
            sql = "UPDATE dead SET state = ? WHERE id = ? AND node = ?"
            connection.executemany(sql, [(state, event_id, node) for event_id, node in keys])
            return connection.total_changes - before

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _read(self, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        if not self.path.exists():
            return []
        with self._open() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                yield connection

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _connect(self.path, self._patience)
                yield self._connection
            except (sqlite3.OperationalError, OSError) as fault:
                raise Unavailable(f"dead letters {self.path}: {fault}") from fault
            except sqlite3.DatabaseError as fault:
                raise EnvironmentFault(f"dead letters {self.path}: {fault}") from fault


def _connect(path: Path, patience: float) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_TABLE)
        connection.execute(_INDEX)
    except BaseException:
        connection.close()
        raise
    return connection


def _where(*conditions: tuple[str, Any]) -> tuple[str, list[Any]]:
    given = [(text, value) for text, value in conditions if value is not None]
    where = " AND ".join(f"{text} ?" for text, _ in given)
    return (f" WHERE {where}" if where else ""), [value for _, value in given]


def _stored(value: Any) -> Any:
    """Return a field as it is stored; text that is no UTF-8 keeps all but what cannot be written."""
    if isinstance(value, dict):
        try:
            return msgspec.json.encode(value, enc_hook=repr).decode()
        except (TypeError, ValueError):
            value = msgspec.json.encode({"text": ascii(value)}).decode()
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _letter(row: sqlite3.Row) -> Letter:
    fields = {name: row[name] for name in Letter.__struct_fields__}
    return Letter(**fields | {"details": msgspec.json.decode(fields["details"])})
