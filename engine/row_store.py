"""Write rows so that writing them again changes nothing, and find those that the table has no room for."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.errors import EventFault
from engine.event import Event
from engine.postgresql import CONFLICT, POSTGRESQL, ArrayInsert
from engine.row_code import literals
from engine.rows import TEXT_BYTES
from engine.table import Column

AS_IT_IS = {"no_parameters": True}
PARAMETERS = 30_000  # of a statement; SQLite takes 32,766
_ESCAPED = "\0\n\r\x1a\"'\\"
Key = tuple[Any, ...]


class Row(NamedTuple):
    """What an event is to leave in a table: values as the database takes them (engine.rows)."""

    event: Event
    values: dict[str, Any]


Refused = list[tuple[Row, EventFault]]


class Stored(NamedTuple):
    """What became of rows: those that cannot be there, with the reason, and of the others what was done with each.

    Without `became` (only an upsert tells it), all the others are `inserted`.
    """

    refused: Sequence[tuple[Row, EventFault]] = ()
    became: Sequence[tuple[Row, str]] = ()


class RowStore:
    """One table of one database, without a connection of its own."""

    def __init__(self, table: sa.Table, dialect: Dialect) -> None:
        self.table = table
        self._mysql = dialect.name == "mysql"
        self._quote = dialect.identifier_preparer.quote
        self._arrays = ArrayInsert(table, self._quote) if dialect.name == POSTGRESQL else None
        self._declared = [column for column in table.columns if column.name != "_event"]
        self._packet = 0
        self._widest = sum(_widest(column.info["column"]) for column in self._declared)

    async def store(self, connection: AsyncConnection, rows: Sequence[Row]) -> Stored:
        """Write the rows; return what became of them. An error of the database is raised."""
        raise NotImplementedError

    async def stored(self, connection: AsyncConnection, rows: Sequence[Row]) -> dict[bytes, Mapping[str, Any]]:
        """Return the rows as they stand in the table, by event id."""
        raise NotImplementedError

    async def _run(self, connection: AsyncConnection, names: tuple[str, ...], end: str, rows: Sequence[Key]) -> int:
        """Insert rows; return how many were inserted. One statement takes as many as it can."""
        if self._arrays is not None:
            return await self._arrays.insert(connection, names, end, rows)
        head = f"INSERT INTO {self._quote(self.table.name)} ({', '.join(map(self._quote, names))}) VALUES "  # noqa: S608
        changed = 0
        if self._mysql:
            for part in _parts(rows, self._packet - len(head) - len(end)):
                text = f"{head}{','.join(map(literals, part))} {end}"
                changed += (await connection.exec_driver_sql(text, execution_options=AS_IT_IS)).rowcount
            return changed
        for part in portions(rows, len(names)):
            text = f"{head}{marks(len(names), len(part))} {end}"
            changed += (await connection.exec_driver_sql(text, tuple(chain.from_iterable(part)))).rowcount
        return changed

    async def _too_large(self, connection: AsyncConnection, rows: Sequence[Row]) -> Refused:
        """Return the rows that the server would break the connection for."""
        if not self._mysql:
            return []
        if self._packet and self._widest < self._packet - 65_536:
            return []
        self._packet = self._packet or int(await connection.scalar(sa.text("SELECT @@max_allowed_packet")) or 0)
        room = self._packet - 65_536
        sizes = ((row, _literal_size(row.values.values())) for row in rows if _weight(row.values.values()) > room)
        return [
            (row, EventFault(f"a row of at most {room} bytes; got {size}", {"limit": room, "length": size}))
            for row, size in sizes
            if size > room
        ]

    async def _exists(self, connection: AsyncConnection, names: Sequence[str], values: Sequence[Any]) -> bool:
        same = (self.table.c[name] == self._literal(name, value) for name, value in zip(names, values, strict=True))
        return await connection.scalar(sa.select(sa.literal(1)).where(*same).limit(1)) is not None

    def _literal(self, name: str, value: Any) -> sa.ColumnElement[Any]:
        """Return a value as it is compared to its column; PostgreSQL compares no time to a text."""
        bound = sa.literal(value)
        return bound if self._arrays is None or value is None else sa.cast(bound, self.table.c[name].type)

    async def _duplicate(self, connection: AsyncConnection, row: Row) -> EventFault:
        """Return the reason of a row that was not inserted: which of its values is taken."""
        for names in unique_keys(self.table):
            values = [row.values.get(name) for name in names]
            if None not in values and await self._exists(connection, names, values):
                shown = " ".join(map(str, values)) if len(values) == 1 else f"({', '.join(map(str, values))})"
                reason = f"duplicate {', '.join(names)} {shown} in {self.table.name}"
                return EventFault(reason, {"duplicate": dict(zip(names, values, strict=True))})
        return EventFault(f"duplicate in {self.table.name}", {"duplicate": {}})


class Append(RowStore):
    """Every event is a row, told by `_event`; a repeated one changes nothing."""

    async def store(self, connection: AsyncConnection, rows: Sequence[Row]) -> Stored:
        """Insert; where fewer came in than were sent, find out which are repeats and which collided."""
        refused = await self._too_large(connection, rows)
        large = {row.event.id for row, _ in refused}
        rows = [row for row in rows if row.event.id not in large] if large else rows
        names = [column.name for column in self._declared]
        values = [(*map(row.values.get, names), row.event.id) for row in rows]
        end = "ON DUPLICATE KEY UPDATE _event = _event" if self._mysql else CONFLICT
        if not rows or await self._run(connection, (*names, "_event"), end, values) == len(rows):
            return Stored(refused)
        event = self.table.c._event
        there = set((await connection.scalars(sa.select(event).where(event.in_([r.event.id for r in rows])))).all())
        return Stored(refused + [(r, await self._duplicate(connection, r)) for r in rows if r.event.id not in there])

    async def stored(self, connection: AsyncConnection, rows: Sequence[Row]) -> dict[bytes, Mapping[str, Any]]:
        """Return the rows by their `_event`."""
        event = self.table.c._event
        found = await connection.execute(sa.select(self.table).where(event.in_([row.event.id for row in rows])))
        return {row["_event"]: {c.name: row[c.name] for c in self._declared} for row in found.mappings()}


def unique_keys(table: sa.Table) -> list[list[str]]:
    """Return the lists of columns whose values can be there only once; `_event` is none of them."""
    primary = [[column.name for column in table.primary_key.columns]]
    unique = [[column.name for column in index.columns] for index in table.indexes if index.unique]
    return [names for names in primary + sorted(unique) if names and names != ["_event"]]


def portions(rows: Sequence[Key], columns: int) -> list[Sequence[Key]]:
    """Cut rows into what SQLite takes in a statement."""
    most = PARAMETERS // columns
    return [rows[begin : begin + most] for begin in range(0, len(rows), most)]


@lru_cache(maxsize=64)
def marks(columns: int, rows: int) -> str:
    """Return what stands behind VALUES for so many rows."""
    return ",".join([f"({','.join('?' * columns)})"] * rows)


def _parts(rows: Sequence[Key], room: int) -> Iterator[Sequence[Key]]:
    """Cut the rows into runs that fit into a packet however their values are written."""
    begin = size = 0
    for at, row in enumerate(rows):
        weight = _weight(row)
        if at > begin and size + weight > room:
            yield rows[begin:at]
            begin, size = at, 0
        size += weight
    yield rows[begin:]


def _weight(values: Iterable[Any]) -> int:
    """Return what values take at most as literals: a character 4 bytes, each of them escaped, and bytes in hex."""
    return sum(32 + len(v) * (8 if isinstance(v, str) else 2) if isinstance(v, str | bytes) else 32 for v in values)


def _widest(column: Column) -> float:
    """Return what a value of the column takes at most as a literal."""
    if column.type in ("json", "bytes"):
        return math.inf
    return _weight(["x" * (column.length or TEXT_BYTES)]) if column.type == "text" else 32


def _literal_size(values: Iterable[Any]) -> int:
    """Return what values take as literals."""
    return sum(32 + _size(value) for value in values)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode()) + sum(map(value.count, _ESCAPED))
    return 2 * len(value) if isinstance(value, bytes) else 0
