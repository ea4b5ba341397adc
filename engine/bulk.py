"""Append many rows by one statement, below SQLAlchemy; what is not plainly right is left to `engine.row_store`.

The next rows are made while the database takes the ones before. After a restart events come again: once most of a
batch was there already, the next one is looked up before it is written.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.database import classified, sqlite_connection, transaction
from engine.errors import EventFault
from engine.event import Event
from engine.meter import charged, charging
from engine.postgresql import CONFLICT, POSTGRESQL, ArrayInsert
from engine.row_code import literals, row_encoder
from engine.row_store import AS_IT_IS, marks, portions
from engine.rows import RowValues
from engine.table import Column

SLICE = 250
KEPT_FREE = 65_536  # bytes of a packet


class Made(NamedTuple):
    """The rows of a batch, and the events that have none because a value is refused."""

    rows: list[Any]
    refused: list[Event]


class Bulk:
    """Appends events to a table that tells rows by `_event`."""

    def __init__(
        self, engine: AsyncEngine, table: sa.Table, expressions: Mapping[str, Callable[[Event], Any]], batch: int
    ) -> None:
        columns: list[Column] = [column.info["column"] for column in table.columns if "column" in column.info]
        quote = engine.dialect.identifier_preparer.quote
        self._engine, self._batch = engine, batch
        self._names = [column.name for column in columns]
        self._values = RowValues(columns, expressions)
        self._encode = row_encoder(columns, expressions, as_literals=engine.dialect.name == "mysql")
        self._table = quote(table.name)
        names = ", ".join(map(quote, [*self._names, "_event"]))
        self._head = f"INSERT INTO {self._table} ({names}) VALUES "  # noqa: S608 - names are quoted
        self._repeating = False

    async def append(self, events: Sequence[Event]) -> list[Event]:
        """Write a row of each event; return those that are to be written, or refused, one by one.

        Raises Unavailable when the database is away; some of the events are written then, and may come again.
        """
        left: list[Event] = []
        batches = [events[begin : begin + self._batch] for begin in range(0, len(events), self._batch)]
        made: Made | None = None
        for at, batch in enumerate(batches):
            if self._repeating:
                batch, made = await self._lacking(batch), None
            writing = asyncio.create_task(charged(self._write(batch, made or await self._make(batch))))
            try:
                made = await self._make(batches[at + 1]) if batches[at + 1 :] and not self._repeating else None
                lost = await writing
            except BaseException:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
                raise
            if lost is None:  # the database counts serials in the order of the events: none may pass these
                return [*left, *batch, *chain.from_iterable(batches[at + 1 :])]
            left += lost
        return left

    async def _lacking(self, events: Sequence[Event]) -> Sequence[Event]:
        there = await self._there(events)
        self._repeating = 2 * len(there) > len(events)
        return [event for event in events if event.id not in there] if there else events

    async def _make(self, events: Sequence[Event]) -> Made:
        """Make rows, and let the thread's other tasks go on in between."""
        made = Made([], [])
        for begin in range(0, len(events), SLICE):
            made.rows.extend(self._encode(events[begin : begin + SLICE], partial(self._careful, made)))
            await asyncio.sleep(0)
        return made

    def _careful(self, made: Made, event: Event) -> Any:
        """Return the row of an event that needs a conversion, None where it is refused."""
        try:
            values = self._values(event)
        except EventFault:
            made.refused.append(event)
            return None
        return self._row((*map(values.get, self._names), event.id))

    async def _write(self, events: Sequence[Event], made: Made) -> list[Event] | None:
        """Write a batch; return the events that have no row afterwards, None where the database refused it."""
        if not made.rows:
            return made.refused
        try:
            changed = await self._insert(made.rows)
        except EventFault:
            return None
        if changed == len(made.rows):
            return made.refused
        self._repeating = 2 * changed < len(made.rows)
        there, refused = await self._there(events), set(map(id, made.refused))
        return [event for event in events if event.id not in there or id(event) in refused]

    async def _there(self, events: Sequence[Event]) -> set[bytes]:
        """Return the ids of events that have a row."""
        ids = {event.id for event in events}
        same = f"FROM {self._table} WHERE _event IN "
        count = (await self._found(f"SELECT COUNT(*) {same}", ids))[0][0]
        if count in (0, len(ids)):
            return ids if count else set()
        return {row[0] for row in await self._found(f"SELECT _event {same}", ids)}

    def _row(self, values: tuple[Any, ...]) -> Any:
        """Return values as one row for `_insert`."""
        raise NotImplementedError

    async def _insert(self, rows: list[Any]) -> int:
        """Insert the rows that are new, all or none; return how many there were. Raises EventFault, Unavailable."""
        raise NotImplementedError

    async def _found(self, head: str, ids: set[bytes]) -> Sequence[Any]:
        """Return what a statement finds that ends in a list of ids."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the connection that is the bulk's own."""


class MysqlBulk(Bulk):
    """Sends literals: one statement for as many rows as a packet takes."""

    _packet = 0

    def _row(self, values: tuple[Any, ...]) -> str:
        return literals(values)

    async def _insert(self, rows: list[str]) -> int:
        changed = 0
        async with transaction(self._engine) as connection:
            if not self._packet:
                self._packet = int(await connection.scalar(sa.text("SELECT @@max_allowed_packet")) or 0)
            for text in self._statements(rows):
                changed += (await connection.exec_driver_sql(text, execution_options=AS_IT_IS)).rowcount
        return changed

    def _statements(self, rows: list[str]) -> Iterator[str]:
        text = f"{self._head}{','.join(rows)} ON DUPLICATE KEY UPDATE _event = _event"
        size = len(text) if text.isascii() else len(text.encode())
        if size <= self._packet - KEPT_FREE:
            yield text
        elif len(rows) == 1:
            raise EventFault(f"a row of at most {self._packet - KEPT_FREE} bytes; got {size}")
        else:
            middle = len(rows) // 2
            yield from self._statements(rows[:middle])
            yield from self._statements(rows[middle:])

    async def _found(self, head: str, ids: set[bytes]) -> Sequence[Any]:
        text = head + "(X'" + "',X'".join([one.hex() for one in ids]) + "')"
        async with transaction(self._engine) as connection:
            return (await connection.exec_driver_sql(text, execution_options=AS_IT_IS)).all()


class SqliteBulk(Bulk):
    """Writes by a thread of its own.

    One statement for many rows, not `executemany`: that gives up Python's lock for each row, and each time has to wait
    for it while the dataflow computes. Measured beside a busy thread: 444 rows/s against 56,000.
    """

    _connection: sqlite3.Connection | None = None
    _thread: ThreadPoolExecutor | None = None

    def _row(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return values

    async def _insert(self, rows: list[tuple[Any, ...]]) -> int:
        return int(await self._on_thread(lambda: self._insert_all(rows)))

    async def _found(self, head: str, ids: set[bytes]) -> Sequence[Any]:
        text = f"{head}({','.join('?' * len(ids))})"
        found: list[Any] = await self._on_thread(lambda: self._open().execute(text, list(ids)).fetchall())
        return found

    def _insert_all(self, rows: list[tuple[Any, ...]]) -> int:
        parts = portions(rows, len(rows[0]))
        if len(parts) == 1:  # a statement alone is a transaction
            return self._insert_part(parts[0])
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            changed = sum(map(self._insert_part, parts))
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        return changed

    def _insert_part(self, rows: Sequence[tuple[Any, ...]]) -> int:
        text = f"{self._head}{marks(len(rows[0]), len(rows))} {CONFLICT}"
        return self._open().execute(text, list(chain.from_iterable(rows))).rowcount

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite_connection(self._engine)
        return self._connection

    async def _on_thread(self, call: Callable[[], Any]) -> Any:
        self._thread = self._thread or ThreadPoolExecutor(1, "sql")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, charging(call))
        except (sqlite3.Error, OSError, OverflowError) as error:
            raise classified(error, self._engine) from error

    async def close(self) -> None:
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._shut)
            self._thread.shutdown()
            self._thread = None

    def _shut(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresqlBulk(Bulk):
    """Sends arrays, one a column."""

    def __init__(
        self, engine: AsyncEngine, table: sa.Table, expressions: Mapping[str, Callable[[Event], Any]], batch: int
    ) -> None:
        super().__init__(engine, table, expressions, batch)
        self._repeating = True  # at first: a row that is there already would use up a serial
        self._arrays = ArrayInsert(table, engine.dialect.identifier_preparer.quote)

    def _row(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return values

    async def _insert(self, rows: list[tuple[Any, ...]]) -> int:
        async with transaction(self._engine) as connection:
            return await self._arrays.insert(connection, [*self._names, "_event"], CONFLICT, rows)

    async def _found(self, head: str, ids: set[bytes]) -> Sequence[Any]:
        async with transaction(self._engine) as connection:
            return (await connection.exec_driver_sql(f"{head}(SELECT unnest($1::bytea[]))", (list(ids),))).all()


BULKS: dict[str, type[Bulk]] = {"mysql": MysqlBulk, "sqlite": SqliteBulk, POSTGRESQL: PostgresqlBulk}


def bulk(engine: AsyncEngine, table: sa.Table, expressions: Mapping[str, Callable[[Event], Any]], batch: int) -> Bulk:
    """Return the bulk of a database; `engine` is one for writing."""
    return BULKS[engine.dialect.name](engine, table, expressions, batch)
