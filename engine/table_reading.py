"""Find what changed in live tables since the last look, whoever changed it: by comparing, with little reading.

No trigger, no column of ours and no privilege but SELECT. What is known of the rows is a hash of each. A look asks for
a *sign* first, which is cheap and tells that nothing can have changed.

SQLite: `PRAGMA data_version` (https://sqlite.org/pragma.html#pragma_data_version), which is of the whole file. Then all
rows are read, in a thread; those that differ are converted. 100,000 rows take about 0.1 s.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.database import sqlite_connection
from engine.live_table import Changes, Key, LiveTable, Row

MOST_ROWS = 200_000
Found = dict[Key, Row | None]
Known = dict[Key, Row | None]


class TooLarge(Exception):
    """A table has more rows than a flow keeps in memory."""

    def __init__(self, table: str) -> None:
        super().__init__(f"at most {MOST_ROWS:,} rows in a live table; '{table}' has more")


class TableReading(Protocol):
    """Looks into a database for what changed in some tables; raises what the database raises, and TooLarge."""

    async def look(self) -> Changes:
        """Return what changed since the last look, or since what is in the log, by the shape of the table."""

    async def close(self) -> None:
        """Let go of the database."""


class Converter:
    """Makes rows of what a driver gives, in the order of the columns of `query`."""

    def __init__(self, live: LiveTable, table: sa.Table, dialect: sa.Dialect | None = None) -> None:
        self.live = live
        columns = [table.c[name] for name in live.types]
        self.query = sa.select(*columns)
        self._places = [list(live.types).index(name) for name in live.by]
        self._convert: list[Callable[[Any], Any] | None] = [
            column.type.dialect_impl(dialect).result_processor(dialect, None) if dialect else None for column in columns
        ]

    def key(self, values: Any) -> Key:
        """Return the key of a row, None where a part of it is NULL: such a row is not found by anything."""
        if len(self._places) == 1:
            return values[self._places[0]]
        found = tuple(values[place] for place in self._places)
        return None if None in found else found

    def row(self, values: Iterable[Any]) -> Row:
        """Return a row by its columns; raises ValueError for what does not fit its column."""
        made = (convert(value) if convert else value for convert, value in zip(self._convert, values, strict=True))
        return dict(zip(self.live.types, map(_plain, made), strict=True))


def _plain(value: Any) -> Any:
    """Return a value as events have it: a date is its text."""
    return value.isoformat() if type(value).__name__ == "date" else value


class SqliteReading:
    """The live tables of one flow in an SQLite file; `known` has their rows as the log has them, by shape."""

    def __init__(self, engine: AsyncEngine, tables: Mapping[LiveTable, sa.Table], known: Changes) -> None:
        self._engine = engine
        self._tables = [_Scanned(live, table, engine.dialect, known) for live, table in tables.items()]
        self._connection: sqlite3.Connection | None = None
        self._sign: Any = None
        self._lock = threading.Lock()

    async def look(self) -> Changes:
        """Return what changed since the last look."""
        return await asyncio.to_thread(self._look)

    def _look(self) -> Changes:
        with self._lock:
            return self._looked()

    def _looked(self) -> Changes:
        if self._connection is None:
            self._connection = sqlite_connection(self._engine)
        sign = self._connection.execute("PRAGMA data_version").fetchone()
        if sign == self._sign:
            return {}
        found = {table.shape: table.scan(self._connection) for table in self._tables}
        self._sign = sign
        return found

    async def close(self) -> None:
        """Close the file; a look that was cancelled may still be going on in its thread."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()


class _Scanned:
    """One table of an SQLite file, read as a whole."""

    def __init__(self, live: LiveTable, table: sa.Table, dialect: sa.Dialect, known: Changes) -> None:
        self.shape, self._name = live.shape, live.name
        self._convert = Converter(live, table, dialect)
        self._sql = str(self._convert.query.compile(dialect=dialect))
        self._logged: Known | None = known.get(live.shape, {})
        self._hashes: dict[Key, int] = {}

    def scan(self, connection: sqlite3.Connection) -> Found:
        """Return the rows that differ from the last scan; None for those that are gone."""
        hashes: dict[Key, int] = {}
        changed: list[tuple[Key, Any]] = []
        key_of, known = self._convert.key, self._hashes.get
        for values in connection.execute(self._sql):
            if (key := key_of(values)) is None:
                continue
            hashes[key] = found = hash(values)
            if known(key) != found:
                changed.append((key, values))
                if len(hashes) > MOST_ROWS:
                    raise TooLarge(self._name)
        rows: Found = {key: self._convert.row(values) for key, values in changed}
        before: Iterable[Key] = self._hashes
        if self._logged is not None:
            before, logged = self._logged, self._logged
            rows = {key: row for key, row in rows.items() if logged.get(key) != row}
            self._logged = None
        rows |= dict.fromkeys(key for key in before if key not in hashes)
        self._hashes = hashes
        return rows
