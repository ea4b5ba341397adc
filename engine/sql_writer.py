"""Write events into a table in batches; what the database refuses is narrowed down to the rows that it refuses."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.bulk import Bulk, bulk
from engine.database import transaction, writing_engine
from engine.errors import EventFault
from engine.event import Event
from engine.expressions import Expression
from engine.outside import Outside
from engine.row_code import values_encoder
from engine.row_store import Append, Refused, Row, RowStore, Stored
from engine.rows import RowValues, row_json
from engine.upsert import INSERTED, Upsert


class Writing(Protocol):
    """The options of a sink that writes rows: see `sinks/sql.py`."""

    @property
    def table(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def by(self) -> Sequence[str]: ...
    @property
    def newest(self) -> str: ...
    @property
    def columns(self) -> Mapping[str, Expression]: ...
    @property
    def batch(self) -> int: ...


class SqlWriter:
    """Writes batches, each in a transaction; what the database refuses is narrowed down to the rows it refuses."""

    def __init__(self, name: str, sink: Writing, outside: Outside) -> None:
        table = outside.metadata.tables[sink.table]
        self._name, self._batch, self._outside = name, sink.batch, outside
        self._engine: AsyncEngine = writing_engine(outside.database)
        expressions = {column: _evaluated(column, expression) for column, expression in sink.columns.items()}
        columns = [column.info["column"] for column in table.columns if "column" in column.info]
        self._values, self._quick_values = RowValues(columns, expressions), values_encoder(columns, expressions)
        append = sink.mode == "append"
        filled = [column.name for column in columns if column.type == "time" and column.name not in expressions]
        self._bulk: Bulk | None = bulk(self._engine, table, expressions, sink.batch) if append else None
        on = sink.by or tuple(column.name for column in table.primary_key.columns)
        dialect = self._engine.dialect
        self._store: RowStore = Append(table, dialect) if append else Upsert(table, dialect, on, sink.newest, filled)
        self._became: dict[bytes, str] = {}

    async def write(self, events: list[Event]) -> None:
        """Return when every event is a row or a dead letter; raises Unavailable when the database is away."""
        rows, dead = self._rows(await self._bulk.append(events) if self._bulk else events)
        refused: Refused = []
        for begin in range(0, len(rows), self._batch):
            stored = await self._commit(rows[begin : begin + self._batch])
            refused += stored.refused
            for row, what in stored.became:  # what the first of several tries did counts
                self._became.setdefault(row.event.id, what)
        lost = dead + [(row.event, fault) for row, fault in refused]
        await self._answer(self._answered(events, rows, {id(event) for event, _ in lost}))
        self._tell(events, {id(event) for event, _ in lost})
        for event, fault in lost:
            await self._refuse(event, fault)

    def _tell(self, events: Sequence[Event], lost: set[int]) -> None:
        """Tell what was done, once all of it is durable."""
        became, self._became = self._became, {}
        if became:
            self._outside.count(self._name, Counter(became.values()))
        if self._outside.tallies.asked(self._name):
            done = ((event, became.get(event.id, INSERTED)) for event in events if id(event) not in lost)
            self._outside.tallies.add(self._name, done)

    def _answered(self, events: Sequence[Event], rows: Sequence[Row], lost: set[int]) -> list[Row]:
        """Return the rows that somebody waits for; those that were written in bulk are told by their event alone."""
        waited = self._outside.answer_rows
        known = {id(row.event): row for row in rows}
        return [
            known.get(id(event)) or Row(event, {})
            for event in (events if waited else ())
            if event.source in waited and id(event) not in lost
        ]

    async def close(self) -> None:
        """Close the connections that are the writer's own."""
        if self._bulk:
            await self._bulk.close()
        if self._engine.sync_engine.pool is not self._outside.database.sync_engine.pool:
            await self._engine.dispose()

    def _rows(self, events: Sequence[Event]) -> tuple[list[Row], list[tuple[Event, EventFault]]]:
        dead: list[tuple[Event, EventFault]] = []

        def careful(event: Event) -> dict[str, Any] | None:
            try:
                return self._values(event)
            except EventFault as fault:
                dead.append((event, fault))
                return None

        values = self._quick_values(events, careful)
        lost = {id(event) for event, _ in dead}
        sound = [event for event in events if id(event) not in lost] if lost else events
        return list(map(Row, sound, values)), dead

    async def _commit(self, rows: Sequence[Row]) -> Stored:
        try:
            async with transaction(self._engine) as connection:
                return await self._store.store(connection, rows)
        except EventFault as fault:
            if len(rows) == 1:
                return Stored([(rows[0], fault)])
        middle = len(rows) // 2
        first, then = await self._commit(rows[:middle]), await self._commit(rows[middle:])
        return Stored([*first.refused, *then.refused], [*first.became, *then.became])

    async def _answer(self, rows: Sequence[Row]) -> None:
        for begin in range(0, len(rows), self._batch):
            part = rows[begin : begin + self._batch]
            async with transaction(self._outside.database) as connection:
                stored = await self._store.stored(connection, part)
            for row in part:
                if row.event.id in stored:
                    await self._outside.answer(row.event.id, 201, row_json(stored[row.event.id]))

    async def _refuse(self, event: Event, fault: EventFault) -> None:
        """Hand over to the dead letters; a request that waits is told 409 where its row is there already."""
        if "duplicate" in fault.values and event.source in self._outside.answer_rows:
            error = {"code": "duplicate", "message": fault.reason, "fields": fault.values.get("fields", [])}
            body = msgspec.json.encode({"error": error | {"id": event.id.hex()}})
            await self._outside.answer(event.id, 409, body)
        self._outside.dead(self._name, event, fault.reason, fault.values)


def _evaluated(column: str, expression: Expression) -> Callable[[Event], Any]:
    """Return the expression as what faults with its column, its part and the values that it looked at."""

    def evaluate(event: Event) -> Any:
        try:
            return expression(event)
        except (TypeError, ValueError, ArithmeticError, RecursionError) as fault:
            reason = f"column {column}: {expression.explain(event)}"
            raise EventFault(reason, {"column": column, "expression": expression.text}) from fault

    return evaluate
