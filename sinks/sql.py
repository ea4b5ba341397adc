"""Write events into a table of the flow."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import msgspec
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.api import (
    Absent,
    Append,
    Bulk,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    Key,
    Mender,
    Node,
    Outside,
    Problem,
    Refused,
    Row,
    RowStore,
    RowValues,
    Sink,
    Slow,
    Table,
    Upsert,
    bulk,
    component,
    did_you_mean,
    row_json,
    transaction,
    values_encoder,
    writing_engine,
)

FEW = 100


@component("sql")
class Sql(Sink):
    """Write events into a table that the flow declares, in batches.

    A column takes the value of the same name from the event's data, or what `columns` says; fields that are no column
    are left aside. A time that the event has no value for is the event's time, a serial is counted by the database.
    Delivery: exactly once as seen in the table. An appended row carries its event's id, so a repeated write changes
    nothing; upserted rows end in the state that the last event gave them. A value that does not fit its column
    costs its own event only, which goes to the dead letters; a database that is away costs nothing.
    """

    guarantee: ClassVar[str] = "exactly once as seen in the table"
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            about="Readings are appended; what is no column is left aside.",
            config="sql: {table: sensor_result}",
            given=[{"car_id": 1, "device": "LED", "result": "OK", "firmware": "2.1"}],
            expect=[{"id": 1, "car_id": 1, "device": "LED", "result": "OK"}],
        ),
        Example(
            about="The last state of each device, told by its name.",
            config="sql: {table: device_state, mode: upsert, by: [device], columns: {state: lower(result)}}",
            given=[{"device": "LED", "result": "OK"}, {"device": "LED", "result": "DEFECT"}],
            expect=[{"device": "LED", "state": "defect"}],
        ),
    )

    table: str
    """The table to write to, declared under `tables`."""
    mode: Literal["append", "upsert"] = "append"
    """`append` makes a row of every event; `upsert` keeps one row for each value of the columns in `by`."""
    by: tuple[str, ...] = ()
    """With `upsert`: the columns that tell rows apart, which are `unique` in the table; its serial where not given.
    Columns that an event does not name keep their value."""
    columns: dict[str, Expression] = Field({})
    """Columns that take the value of an expression rather than the field of their name."""
    batch: int = Field(1000, ge=1, le=10_000)
    """The most rows in one transaction."""

    def slow(self, flow: Flow, node: Node) -> Iterable[Slow]:
        """Warn of many small transactions."""
        if self.batch < FEW:
            costs = f"a transaction for {self.batch} rows: 10 give a tenth of the rows a second that 1000 do"
            yield Slow("batch", costs, "batch: 1000; a row that comes alone is written at once all the same")

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find tables and columns that are not there, and keys that cannot tell rows apart."""
        table = flow.tables.get(self.table)
        if table is None or table.view:
            known = [name for name, other in flow.tables.items() if not other.view]
            message = f"a table of the flow ({', '.join(known)}); got " + ("view " if table else "") + f"'{self.table}'"
            yield Problem("unknown-table", "table", message, did_you_mean(self.table, known))
            return
        named = [(f"columns.{name}", name) for name in self.columns]
        for option, name in [*named, *((f"by.{at}", name) for at, name in enumerate(self.by))]:
            if name not in table.columns:
                message = f"a column of table '{self.table}' ({', '.join(table.columns)}); got '{name}'"
                yield Problem("unknown-column", option, message, did_you_mean(name, table.columns))
        yield from self._check_key(table)

    def _check_key(self, table: Table) -> Iterable[Problem]:
        on = self.key(table)
        if self.mode == "append" and self.by:
            yield Problem("option-value", "by", "mode upsert with it; got append", "mode: upsert")
        elif self.mode == "upsert" and not on:
            yield Problem("option-value", "by", f"the columns that tell rows apart: table '{table.name}' has no serial")
        elif self.mode == "upsert" and set(on) <= table.columns.keys() and sorted(on) not in map(sorted, table.keys):
            hint = f"{table.name}: {{unique: [[{', '.join(on)}]]}}"
            yield Problem("option-value", "by", f"columns that are unique in table '{table.name}' together", hint)

    def key(self, table: Table) -> tuple[str, ...]:
        """Return the columns that tell rows apart when upserting."""
        return self.by or ((table.serial,) if table.serial else ())

    async def open(self, node: Node, outside: Outside) -> "SqlWriter":
        """Return the writer; it connects when it first writes."""
        return SqlWriter(node.name, self, outside)

    def mend(self, node: Node, outside: Outside) -> Mender:
        """Return what adds the rows that the table lacks."""
        return (AppendMender if self.mode == "append" else UpsertMender)(node.name, self, outside)


class SqlWriter:
    """Writes batches, each in a transaction; what the database refuses is narrowed down to the rows it refuses."""

    def __init__(self, name: str, sink: Sql, outside: Outside) -> None:
        table = outside.metadata.tables[sink.table]
        self._name, self._batch, self._outside = name, sink.batch, outside
        self._engine: AsyncEngine = writing_engine(outside.database)
        expressions = {column: _evaluated(column, expression) for column, expression in sink.columns.items()}
        columns = [column.info["column"] for column in table.columns if "column" in column.info]
        self._values, self._quick_values = RowValues(columns, expressions), values_encoder(columns, expressions)
        append = sink.mode == "append"
        self._bulk: Bulk | None = bulk(self._engine, table, expressions, sink.batch) if append else None
        on = sink.by or tuple(column.name for column in table.primary_key.columns)
        dialect = self._engine.dialect
        self._store: RowStore = Append(table, dialect) if append else Upsert(table, dialect, on)

    async def write(self, events: list[Event]) -> None:
        """Return when every event is a row or a dead letter; raises Unavailable when the database is away."""
        rows, dead = self._rows(await self._bulk.append(events) if self._bulk else events)
        refused: Refused = []
        for begin in range(0, len(rows), self._batch):
            refused += await self._commit(rows[begin : begin + self._batch])
        lost = dead + [(row.event, fault) for row, fault in refused]
        await self._answer(self._answered(events, rows, {id(event) for event, _ in lost}))
        for event, fault in lost:
            await self._refuse(event, fault)

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

    async def _commit(self, rows: Sequence[Row]) -> Refused:
        try:
            async with transaction(self._engine) as connection:
                return await self._store.store(connection, rows)
        except EventFault as fault:
            if len(rows) == 1:
                return [(rows[0], fault)]
        middle = len(rows) // 2
        return await self._commit(rows[:middle]) + await self._commit(rows[middle:])

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


class AppendMender(SqlWriter):
    """Adds the rows whose event the table does not have."""

    whole = False

    def __init__(self, name: str, sink: Sql, outside: Outside) -> None:
        super().__init__(name, sink, outside)
        self.there = self.added = 0
        self.refused: Counter[str] = Counter()

    async def write(self, events: list[Event]) -> None:
        """Add what is not there, in one transaction unless the database refuses some of it."""
        rows, dead = self._rows(events)
        new = await self._lacking(rows)
        refused = await self._commit(new) if new else []
        self.there += len(rows) - len(new)
        self.added += len(new) - len(refused)
        self.refused.update(fault.reason for _, fault in dead + refused)

    async def _lacking(self, rows: list[Row]) -> list[Row]:
        async with transaction(self._outside.database) as connection:
            stored = await self._store.stored(connection, rows)
        return [row for row in {row.event.id: row for row in rows}.values() if row.event.id not in stored]

    async def finish(self, *, from_the_first: bool) -> None:
        """Do nothing: each write was complete."""


class UpsertMender(AppendMender):
    """Adds the rows whose key the table does not have, as their events left them; what is there may be newer.

    What rows lack is known only after the last event, so memory grows with the rows that are missing.
    """

    whole = True

    def __init__(self, name: str, sink: Sql, outside: Outside) -> None:
        super().__init__(name, sink, outside)
        table = outside.metadata.tables[sink.table]
        keys = [column.name for column in table.primary_key.columns]
        self._columns = {column.name for column in table.columns} - {"_event", *keys}
        self._store: Absent = Absent(table, self._engine.dialect, sink.by or keys)
        self._known: set[Key] = set()
        self._missing: dict[Key, Row] = {}

    async def write(self, events: list[Event]) -> None:
        """Remember the state of each row that is not there."""
        rows, dead = self._rows(events)
        keyed = [(key, row) for row in rows if (key := self._store.key(row)) is not None]
        await self._look({key for key, _ in keyed} - self._known - self._missing.keys())
        for key, row in keyed:
            if key not in self._known:
                before = self._missing.get(key)
                self._missing[key] = Row(row.event, {**before.values, **row.values} if before else row.values)
        self.refused.update(fault.reason for _, fault in dead)
        self.refused["a column of the key has no value"] += len(rows) - len(keyed)

    async def _look(self, keys: set[Key]) -> None:
        async with transaction(self._outside.database) as connection:
            known = await self._store.there(connection, list(keys))
        self._known |= known
        self.there += len(known)

    async def finish(self, *, from_the_first: bool) -> None:
        """Add what is missing; a row that older events may have had a part in is not added without them."""
        rows = list(self._missing.values())
        complete = [row for row in rows if from_the_first or row.values.keys() >= self._columns]
        self.refused["earlier events that made this row are trimmed"] += len(rows) - len(complete)
        for begin in range(0, len(complete), self._batch):
            part = complete[begin : begin + self._batch]
            refused = await self._commit(part)
            self.added += len(part) - len(refused)
            self.refused.update(fault.reason for _, fault in refused)


def _evaluated(column: str, expression: Expression) -> Callable[[Event], Any]:
    """Return the expression as what faults with its column, its part and the values that it looked at."""

    def evaluate(event: Event) -> Any:
        try:
            return expression(event)
        except (TypeError, ValueError, ArithmeticError, RecursionError) as fault:
            reason = f"column {column}: {expression.explain(event)}"
            raise EventFault(reason, {"column": column, "expression": expression.text}) from fault

    return evaluate
