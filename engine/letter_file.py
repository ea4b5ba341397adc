"""The file of a flow's dead letters: its tables, how one of an earlier version becomes one of today, and its size."""

import sqlite3
from pathlib import Path

from engine.cause import cause_of

VERSION = 1
PAGES_OF_LOG = 64 << 20
_TABLE = """
CREATE TABLE dead (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, node TEXT NOT NULL, time INTEGER NOT NULL,
    event_time INTEGER NOT NULL, key TEXT NOT NULL, source TEXT NOT NULL, topic TEXT NOT NULL, meta BLOB NOT NULL,
    reason TEXT NOT NULL, cause TEXT NOT NULL, details TEXT NOT NULL, payload BLOB NOT NULL, exact BLOB NOT NULL,
    fixed BLOB, version TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL, changed_at INTEGER NOT NULL,
    changed_by TEXT NOT NULL, UNIQUE (id, node)
)"""
_INDEXES = (
    "CREATE INDEX dead_cause ON dead (state, node, cause, number, time)",
    "CREATE INDEX dead_done ON dead (changed_at) WHERE state != 'new'",
)
_COUNTS = (
    "CREATE TABLE waiting (since INTEGER NOT NULL)",
    "CREATE TABLE held (state TEXT PRIMARY KEY, many INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO held SELECT state, COUNT(*) FROM dead GROUP BY state",
    "CREATE TRIGGER dead_added AFTER INSERT ON dead BEGIN "
    "INSERT INTO held VALUES (new.state, 1) ON CONFLICT DO UPDATE SET many = many + 1; END",
    "CREATE TRIGGER dead_removed AFTER DELETE ON dead BEGIN "
    "UPDATE held SET many = many - 1 WHERE state = old.state; END",
    "CREATE TRIGGER dead_changed AFTER UPDATE OF state ON dead WHEN new.state != old.state BEGIN "
    "UPDATE held SET many = many - 1 WHERE state = old.state; "
    "INSERT INTO held VALUES (new.state, 1) ON CONFLICT DO UPDATE SET many = many + 1; END",
)
_EARLIER = """
INSERT INTO dead SELECT rowid, id, node, time, time, '', source, topic, x'c0', reason, cause_of(reason), details,
    payload, x'', NULL, version, state, 1, 0, '' FROM dead_0 ORDER BY rowid"""


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """Open or make the file; one of an earlier version is changed in place, whole or not at all.

    Raises sqlite3.DatabaseError for one of a later version, or that is something else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {PAGES_OF_LOG}")
        if _version(connection) != VERSION:
            _make(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _make(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        version = _version(connection)
        if version > VERSION:
            raise sqlite3.DatabaseError(f"expected a file of version {VERSION}; got {version}")
        if version < VERSION:
            _make_tables(connection)
            connection.execute(f"PRAGMA user_version = {VERSION}")


def _make_tables(connection: sqlite3.Connection) -> None:
    earlier = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'dead'").fetchone()
    if earlier:
        connection.execute("ALTER TABLE dead RENAME TO dead_0")
    connection.execute(_TABLE)
    if earlier:
        connection.create_function("cause_of", 1, cause_of, deterministic=True)
        connection.execute(_EARLIER)
        connection.execute("DROP TABLE dead_0")
    for statement in (*_INDEXES, *_COUNTS):
        connection.execute(statement)


def held(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many letters there are in each state; costs the same for one as for a million."""
    return {row["state"]: row["many"] for row in connection.execute("SELECT state, many FROM held")}


def size(connection: sqlite3.Connection) -> int:
    """Return the bytes in use, without what is free to be used again."""
    sizes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
    pages, free = sizes
    return int(pages - free) * int(connection.execute("PRAGMA page_size").fetchone()[0])
