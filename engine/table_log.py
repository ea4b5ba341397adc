"""The table log: the rows of a flow's live tables, version by version, in a file beside its inbox.

The gateway writes a version here before it puts its number into the inbox, so who reads the inbox finds the rows. A row
that was replaced is kept for as long as the inbox holds events that came before.
"""

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import EnvironmentFault
from engine.live_table import Changes, Key, Row

NAME = "tables.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS live (shape TEXT PRIMARY KEY, first INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions (version INTEGER PRIMARY KEY, offset INTEGER, at INTEGER);
CREATE TABLE IF NOT EXISTS rows (
    shape TEXT NOT NULL, key BLOB NOT NULL, version INTEGER NOT NULL, row BLOB, PRIMARY KEY (shape, key, version)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rows_by_version ON rows (version);
"""
_AS_OF = "SELECT key, row, max(version) FROM rows WHERE shape = ? AND version <= ? GROUP BY key"
_CHANGES = "SELECT shape, key, row FROM rows WHERE version > ? AND version <= ? ORDER BY version"
_REPLACED = """
DELETE FROM rows WHERE version <= :kept AND EXISTS (
    SELECT 1 FROM rows AS later
    WHERE later.shape = rows.shape AND later.key = rows.key AND later.version > rows.version AND later.version <= :kept
)
"""
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


class TableLogFile:
    """One flow's table log. One process writes; any may read, each with an object of its own."""

    def __init__(self, folder: Path) -> None:
        self._path, self._lock = folder / NAME, threading.Lock()
        try:
            self._connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=10)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 10000"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error as fault:
            raise EnvironmentFault(f"{self._path}: the rows of live tables; {fault}") from None

    def rows(self, version: int) -> Changes:
        """Return all rows as they were at a version; of a table that was not live then, the first that are known."""
        found: Changes = {}
        with self._lock:
            for shape, first in self._connection.execute("SELECT shape, first FROM live").fetchall():
                rows = self._connection.execute(_AS_OF, (shape, max(version, first)))
                found[shape] = {_key(key): _decoder.decode(row) for key, row, _ in rows if row is not None}
        return found

    def changes(self, after: int, version: int) -> Changes:
        """Return what changed after a version up to another."""
        found: Changes = {}
        for shape, key, row in self._connection.execute(_CHANGES, (after, version)):
            found.setdefault(shape, {})[_key(key)] = None if row is None else _decoder.decode(row)
        return found

    def first(self, table: str) -> int:
        """Return the version with which a table became live; 0 where it is not."""
        found = self._connection.execute("SELECT first FROM live WHERE shape = ?", (table,)).fetchone()
        return int(found[0]) if found else 0

    def head(self) -> int:
        """Return the latest version, 0 before the first."""
        return int(self._connection.execute("SELECT max(version) FROM versions").fetchone()[0] or 0)

    def before(self, offset: int) -> int:
        """Return the version that holds for the event at an offset of the inbox; 0 where none is known."""
        found = self._connection.execute("SELECT max(version) FROM versions WHERE offset < ?", (offset,)).fetchone()
        return int(found[0] or 0)

    def unmarked(self) -> int:
        """Return the latest version if the inbox may not have it yet, else 0."""
        found = self._connection.execute("SELECT version, offset FROM versions ORDER BY version DESC").fetchone()
        return int(found[0]) if found and found[1] is None else 0

    def add(self, changes: Changes) -> int:
        """Store what changed as the next version, and return that; tables without a change are live from now on too."""
        version = self.head() + 1
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("INSERT INTO versions VALUES (?, NULL, NULL)", (version,))
            for shape, rows in changes.items():
                self._connection.execute("INSERT OR IGNORE INTO live VALUES (?, ?)", (shape, version))
                values = ((shape, encoded_key(key), version, encoded(row)) for key, row in rows.items())
                self._connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", values)
        return version

    def mark(self, version: int, offset: int, at: int = 0) -> None:
        """Remember where in the inbox a version begins to hold, and when that was committed (0: not known here)."""
        known = self._connection.execute("SELECT offset, at FROM versions WHERE version = ?", (version,)).fetchone()
        if known and (known[0] is None or offset < known[0] or (at and offset == known[0] and known[1] is None)):
            marked = "UPDATE versions SET offset = ?, at = ? WHERE version = ?"
            self._connection.execute(marked, (offset, at or None, version))

    def late(self, version: int, span: int) -> list[tuple[int, int]]:
        """Return the versions up to one, with their times, that began to hold in this span before it, in order."""
        query = "SELECT version, at FROM versions WHERE version <= :to AND at > :from ORDER BY version"
        last = "SELECT max(at) FROM versions WHERE version <= ?"
        end = self._connection.execute(last, (version,)).fetchone()[0] or 0
        return self._connection.execute(query, {"to": version, "from": end - span}).fetchall()

    def trim(self, oldest: int) -> None:
        """Forget what was replaced before the oldest event that the inbox still holds."""
        kept = self.before(oldest)
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(_REPLACED, {"kept": kept})
            self._connection.execute("DELETE FROM rows WHERE row IS NULL AND version <= ?", (kept,))
            self._connection.execute("DELETE FROM versions WHERE version < ?", (kept,))

    def close(self) -> None:
        """Close the file, after what another thread is doing with it."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()


def encoded_key(key: Key) -> bytes:
    """Return a key as it is stored."""
    return _encoder.encode(key)


def encoded(row: Row | None) -> bytes | None:
    """Return a row as it is stored."""
    return None if row is None else _encoder.encode(row)


def _key(stored: bytes) -> Any:
    found = _decoder.decode(stored)
    return tuple(found) if isinstance(found, list) else found
