"""What PostgreSQL wants otherwise than SQLite and MySQL: its address and sessions, its errors, and how rows are sent.

Rows go as one array a column and are made rows again by `unnest`: one prepared statement for any number of rows. Values
are as `engine.rows` writes them (a time is text, a boolean 0 or 1) and are cast by the server.
"""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

POSTGRESQL = "postgresql"
DRIVER = "postgresql+asyncpg"
CONFLICT = "ON CONFLICT DO NOTHING"
LARGEST = 64 << 20  # bytes in a statement; an array may have 1 GiB
_SESSION = {
    "timezone": "UTC", "datestyle": "ISO", "standard_conforming_strings": "on", "lock_timeout": "10s",
    "application_name": "millstream",
}  # fmt: skip
# Classes of SQLSTATE: data that cannot be, and integrity (https://www.postgresql.org/docs/15/errcodes-appendix.html);
# and the one of an index entry of more than 2704 bytes.
_DATA, _TOO_LARGE = ("22", "23"), "54000"
_SENT: dict[str, tuple[str, str]] = {
    "serial": ("bigint", ""), "int": ("bigint", ""), "number": ("double precision", ""), "bool": ("int", "::boolean"),
    "text": ("text", ""), "time": ("text", "::timestamp"), "date": ("text", "::date"), "json": ("text", "::json"),
    "bytes": ("bytea", ""),
}  # fmt: skip
_WIDE = ("text", "json", "bytes")


def settled(url: URL) -> tuple[URL, dict[str, Any]]:
    """Return an address and the arguments of its connections; `sslmode`, as others write it, is asyncpg's `ssl`."""
    query = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items()}
    return url.set(query=query), {"server_settings": _SESSION, "timeout": 10}


def sqlstate(error: BaseException) -> str:
    """Return what PostgreSQL calls an error of asyncpg; nothing for any other."""
    return str(getattr(error, "sqlstate", None) or "") if is_asyncpg(error) else ""


def is_asyncpg(error: BaseException | None) -> bool:
    """Tell by the name, for its import is not needed where another database is used."""
    return type(error).__module__.startswith("asyncpg.")


def blames_rows(error: BaseException) -> bool:
    """Tell whether an error is about the values: the server's word, or asyncpg's of one that it cannot send."""
    state = sqlstate(error)
    return state[:2] in _DATA or state == _TOO_LARGE or (type(error).__name__ == "DataError" and is_asyncpg(error))


def said(error: BaseException) -> str:
    """Return what PostgreSQL said, without the detail that shows the values."""
    text = str(error.args[0]) if error.args else type(error).__name__
    return f"{text} (PostgreSQL holds no NUL in a text)" if text.endswith("0x00") else text


class ArrayInsert:
    """Inserts rows into one table; `quote` writes a name as it stands in a statement."""

    def __init__(self, table: sa.Table, quote: Callable[[str], str]) -> None:
        self._table, self._quote = quote(table.name), quote
        self._kinds = {c.name: c.info["column"].type if "column" in c.info else "bytes" for c in table.columns}
        self._serial = next((column.name for column in table.columns if column.primary_key), "")
        self._sequence = ""

    async def insert(
        self, connection: AsyncConnection, names: Sequence[str], end: str, rows: Sequence[Sequence[Any]]
    ) -> int:
        """Insert rows of the columns `names`; return how many rows were inserted, or changed by the `end`."""
        arrays = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        if self._serial in arrays:
            await self._go_on_counting(connection, arrays)
        return await self._send(connection, arrays, end)

    async def _send(self, connection: AsyncConnection, arrays: dict[str, list[Any]], end: str) -> int:
        count = len(next(iter(arrays.values())))
        if count > 1 and self._size(arrays) > LARGEST:
            middle = count // 2
            first = await self._send(connection, {name: array[:middle] for name, array in arrays.items()}, end)
            return first + await self._send(connection, {name: array[middle:] for name, array in arrays.items()}, end)
        text = f"{self._head(tuple(arrays))} {end}"
        return (await connection.exec_driver_sql(text, tuple(arrays.values()))).rowcount

    def _size(self, arrays: dict[str, list[Any]]) -> int:
        wide = (array for name, array in arrays.items() if self._kinds[name] in _WIDE)
        return sum(sum(map(len, filter(None, array))) for array in wide)

    async def _go_on_counting(self, connection: AsyncConnection, arrays: dict[str, list[Any]]) -> None:
        """Leave the serial out where none is given; else let the database count on from the highest, as others do."""
        given = [value for value in arrays[self._serial] if value is not None]
        if not given:
            del arrays[self._serial]
            return
        if not self._sequence:
            found = await connection.scalar(sa.select(sa.func.pg_get_serial_sequence(self._table, self._serial)))
            self._sequence = f"'{found}'::regclass"
        await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._sequence}::oid::bigint)")
        last = f"COALESCE(pg_sequence_last_value({self._sequence}), 0)"
        text = f"SELECT setval({self._sequence}, $1::bigint) WHERE $1::bigint > {last}"
        await connection.exec_driver_sql(text, (max(given),))

    def _head(self, names: tuple[str, ...]) -> str:
        return f"INSERT INTO {self._table} ({', '.join(map(self._quote, names))}) {self.rows_of(names, self._sequence)}"

    def rows_of(self, names: Sequence[str], sequence: str = "") -> str:
        """Return the SELECT that makes rows of arrays ($1, …); a serial that is missing is counted by `sequence`."""
        kinds = {name: _SENT[self._kinds[name]] for name in names}
        arrays = ", ".join(f"${at}::{kinds[name][0]}[]" for at, name in enumerate(names, 1))
        values = {name: f"v.c{at}{kinds[name][1]}" for at, name in enumerate(names, 1)}
        if sequence and self._serial in values:
            values[self._serial] = f"COALESCE({values[self._serial]}, nextval({sequence}))"
        columns = ", ".join(f"c{at}" for at in range(1, len(names) + 1))
        return f"SELECT {', '.join(values.values())} FROM unnest({arrays}) AS v ({columns})"  # noqa: S608
