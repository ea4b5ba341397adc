"""Write events into a table of the flow."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from engine.api import (
    AppendMender,
    Example,
    Expression,
    Flow,
    Mender,
    Node,
    Outside,
    Problem,
    Reach,
    Sink,
    Slow,
    SqlWriter,
    Table,
    Type,
    UpsertMender,
    component,
    did_you_mean,
    unfit_columns,
)

FEW = 100
UNORDERED = ("bool", "bytes", "json")


@component("sql")
class Sql(Sink):
    """Write events into a table that the flow declares, in batches.

    A column takes the value of the same name from the event's data, or what `columns` says; fields that are no column
    are left aside. A time that the event has no value for is the event's time, a serial is counted by the database.
    Delivery: exactly once as seen in the table. An appended row carries its event's id, so a repeated write changes
    nothing; upserted rows end in the state that the last event gave them. It is counted how many events `inserted` a
    row, `updated` one or left it `unchanged`: in the metrics, and in the answer of a `reply` with `counts`. A value
    that does not fit its column costs its own event only, which goes to the dead letters; a database that is away
    costs nothing.
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
        Example(
            about="The newest state wins, however late an older one comes.",
            config="sql: {table: device_state, mode: upsert, by: [device], newest: seen}",
            given=[{"device": "LED", "state": "ok", "seen": 2}, {"device": "LED", "state": "boot", "seen": 1}],
            expect=[{"device": "LED", "state": "ok"}],
        ),
    )

    table: str
    """The table to write to, declared under `tables`."""
    mode: Literal["append", "upsert"] = "append"
    """`append` makes a row of every event; `upsert` keeps one row for each value of the columns in `by`."""
    by: tuple[str, ...] = ()
    """With `upsert`: the columns that tell rows apart, which are `unique` in the table; its serial where not given.
    Columns that an event does not name keep their value."""
    newest: str = ""
    """With `upsert`: the column whose larger value wins, such as `updated_at`; an event with an equal or smaller one
    leaves the row unchanged. Without it, the last event wins."""
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
        named = [(f"columns.{name}", name) for name in self.columns] + [("newest", self.newest)] * bool(self.newest)
        for option, name in [*named, *((f"by.{at}", name) for at, name in enumerate(self.by))]:
            if name not in table.columns:
                message = f"a column of table '{self.table}' ({', '.join(table.columns)}); got '{name}'"
                yield Problem("unknown-column", option, message, did_you_mean(name, table.columns))
        yield from self._check_key(table)

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find columns that no value of what comes in fits."""
        table = flow.tables.get(self.table)
        return unfit_columns(table, self.columns, given) if table else ()

    def _check_key(self, table: Table) -> Iterable[Problem]:
        on = self.key(table)
        if self.mode == "append" and self.by:
            yield Problem("option-value", "by", "mode upsert with it; got append", "mode: upsert")
        elif self.mode == "append" and self.newest:
            yield Problem("option-value", "newest", "mode upsert with it; got append", "mode: upsert")
        elif self.newest in table.columns and table.columns[self.newest].type in UNORDERED:
            kind = table.columns[self.newest].type
            yield Problem("option-value", "newest", f"a column whose values have an order; '{self.newest}' is {kind}")
        elif self.mode == "upsert" and not on:
            yield Problem("option-value", "by", f"the columns that tell rows apart: table '{table.name}' has no serial")
        elif self.mode == "upsert" and set(on) <= table.columns.keys() and sorted(on) not in map(sorted, table.keys):
            hint = f"{table.name}: {{unique: [[{', '.join(on)}]]}}"
            yield Problem("option-value", "by", f"columns that are unique in table '{table.name}' together", hint)

    def key(self, table: Table) -> tuple[str, ...]:
        """Return the columns that tell rows apart when upserting."""
        return self.by or ((table.serial,) if table.serial else ())

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try whether rows may be written; none is."""
        return await reach.database.may_write(self.table, "table", change=self.mode == "upsert")

    async def open(self, node: Node, outside: Outside) -> "SqlWriter":
        """Return the writer; it connects when it first writes."""
        return SqlWriter(node.name, self, outside)

    def mend(self, node: Node, outside: Outside) -> Mender:
        """Return what adds the rows that the table lacks."""
        return (AppendMender if self.mode == "append" else UpsertMender)(node.name, self, outside)
