"""Change the tables of a database by Alembic's operations, so that doing it again after a crash goes on where it ended.

MySQL commits every statement for itself: each step looks at what is there before it does anything. SQLite does
everything in one transaction; what it cannot alter is copied inside the database (Alembic's batch mode). PostgreSQL
does everything in one transaction and alters whatever no view shows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.database import writing_engine
from engine.errors import EnvironmentFault, EventFault
from engine.postgresql import POSTGRESQL
from engine.table_change import TableChange, converted, fitting, quoted
from engine.table_conversion import kind_of
from engine.table_copy import rebuild
from engine.tables import add_column, alone, create_view, operations_on, sql_type

PATIENCE = 3600.0


async def apply_changes(
    engine: AsyncEngine, metadata: sa.MetaData, views: Mapping[str, str], changes: Sequence[TableChange], *,
    destructive: bool,
) -> list[str]:  # fmt: skip
    """Make changes, in their order; return the texts of those made. Again after a crash, it makes what is left.

    Without `destructive`, what the flow does not declare any more stays in the database. Raises EnvironmentFault before
    anything is done where a change is refused, or needs `destructive` for the flow to run; Unavailable when the
    database is away.
    """
    if refused := [str(change) for change in changes if change.refused]:
        raise EnvironmentFault("tables cannot be changed: " + "; ".join(refused))
    if not destructive and (needed := [str(c) for c in changes if c.destructive and not c.optional]):
        raise EnvironmentFault("tables are changed so that values may be lost only when told to: " + "; ".join(needed))
    chosen = [change for change in changes if destructive or not change.destructive]
    shown = {table.name: table.info["view"] for table in metadata.tables.values() if "view" in table.info}
    own = writing_engine(engine)
    try:
        async with alone(own, PATIENCE) as connection:
            await connection.run_sync(lambda sync: _Migration(sync, metadata, shown | dict(views)).make(chosen))
    except EventFault as fault:
        raise EnvironmentFault(f"tables cannot be changed: {fault.reason}") from fault
    finally:
        if own.sync_engine.pool is not engine.sync_engine.pool:
            await own.dispose()
    return [change.text for change in chosen]


class _Migration:
    """The steps, each of which does nothing when it is done already."""

    def __init__(self, connection: Connection, metadata: sa.MetaData, views: Mapping[str, str]) -> None:
        self._connection, self._metadata, self._views = connection, metadata, views
        self._do = operations_on(connection)
        self._mysql, self._postgresql = (connection.dialect.name == name for name in ("mysql", POSTGRESQL))
        self._loose: list[tuple[str, str, str]] = []

    def make(self, changes: Sequence[TableChange]) -> None:
        steps: dict[str, Callable[[TableChange], None]] = {
            "table": self._table, "column": self._column, "index": self._index, "view": self._view, "type": self._type,
            "reference": self._reference, "drop_column": self._drop_column, "drop_table": self._drop_table,
            "drop_index": self._drop_index, "drop_view": self._drop_view, "drop_reference": self._drop_reference,
        }  # fmt: skip
        for change in changes:
            steps[change.kind](change)
        for table, column, target in self._loose:
            if table in self._metadata.tables and column in self._metadata.tables[table].columns:
                self._add_reference(table, column, target)

    @property
    def _inspector(self) -> sa.Inspector:
        return sa.inspect(self._connection)

    def _names(self, table: str) -> set[str]:
        return {column["name"].lower() for column in self._inspector.get_columns(table)}

    def _table(self, change: TableChange) -> None:
        self._metadata.tables[change.table].create(self._connection, checkfirst=True)

    def _column(self, change: TableChange) -> None:
        table = self._metadata.tables[change.table]
        if change.column.lower() not in self._names(change.table):
            add_column(self._do, table, table.columns[change.column])

    def _index(self, change: TableChange) -> None:
        [index] = [i for i in self._metadata.tables[change.table].indexes if i.name == change.name]
        index.create(self._connection, checkfirst=True)

    def _drop_index(self, change: TableChange) -> None:
        if change.name in {index["name"] for index in self._inspector.get_indexes(change.table)}:
            self._do.drop_index(change.name, change.table)

    def _view(self, change: TableChange) -> None:
        list(create_view(self._connection, self._inspector, change.table, self._views[change.table]))

    def _drop_view(self, change: TableChange) -> None:
        self._connection.exec_driver_sql(f"DROP VIEW IF EXISTS {quoted(self._connection, change.table)}")

    def _reference(self, change: TableChange) -> None:
        self._add_reference(change.table, change.column, change.name)

    def _add_reference(self, table: str, column: str, target: str) -> None:
        wanted = {key.target_fullname for key in self._metadata.tables[table].columns[column].foreign_keys}
        there = {key["constrained_columns"][0] for key in self._inspector.get_foreign_keys(table)}
        if target in wanted and column not in there:
            other, name = target.split(".")
            self._do.create_foreign_key(None, table, other, [column], [name])

    def _drop_reference(self, change: TableChange) -> None:
        if change.name in {key["name"] for key in self._inspector.get_foreign_keys(change.table)}:
            self._do.drop_constraint(change.name, change.table, type_="foreignkey")

    def _drop_table(self, change: TableChange) -> None:
        self._do.drop_table(change.table, if_exists=True)

    def _drop_column(self, change: TableChange) -> None:
        if change.column.lower() not in self._names(change.table):
            return
        self._release(change.table, change.column)
        for index in self._inspector.get_indexes(change.table):
            if change.column in index["column_names"]:
                self._do.drop_index(str(index["name"]), change.table)
        if self._mysql or self._postgresql:
            self._do.drop_column(change.table, change.column)
        else:
            rebuild(self._connection, change.table, without=change.column)

    def _type(self, change: TableChange) -> None:
        table, name, dialect = change.table, change.column, self._connection.dialect
        column = self._metadata.tables[table].columns[name]
        [found] = [c["type"] for c in self._inspector.get_columns(table) if c["name"].lower() == name.lower()]
        expected, got = (sql_type(kind.compile(dialect=dialect), dialect) for kind in (column.type, found))
        old = kind_of(name, got)
        if expected == got or old is None:
            return
        way = converted(self._connection, old, column.info["column"])
        value, other = (part.format(x=quoted(self._connection, name)) for part in (way.value, way.other))
        value = f"CASE WHEN {fitting(self._connection, way, name)} THEN {value} ELSE {other} END"
        if self._postgresql:
            using = f"CAST({value} AS {column.type.compile(dialect=dialect).partition(' COLLATE')[0]})"
            self._do.alter_column(table, name, type_=column.type, existing_type=found, postgresql_using=using)
            return
        if not self._mysql:
            rebuild(self._connection, table, changed=column, value=value)
            return
        self._release(table, name)
        self._fit(table, name, value)
        self._do.alter_column(table, name, type_=column.type, existing_type=found, existing_nullable=True)

    def _fit(self, table: str, name: str, value: str) -> None:
        """Give the old column values that the new type takes; IGNORE, for a test of a value is no fault of it."""
        where, what = quoted(self._connection, table), quoted(self._connection, name)
        self._connection.exec_driver_sql(f"UPDATE IGNORE {where} SET {what} = {value} WHERE {what} IS NOT NULL")  # noqa: S608

    def _release(self, table: str, column: str) -> None:
        """Drop the keys on both ends of a column in MySQL, which changes no type under them; they come again later."""
        for other in self._inspector.get_table_names() if self._mysql else ():
            for key in self._inspector.get_foreign_keys(other):
                ends = {(other, name) for name in key["constrained_columns"]}
                ends |= {(key["referred_table"], name) for name in key["referred_columns"]}
                if (table, column) in ends and self._ours(other, key):
                    self._do.drop_constraint(str(key["name"]), other, type_="foreignkey")
                    target = f"{key['referred_table']}.{key['referred_columns'][0]}"
                    self._loose.append((other, key["constrained_columns"][0], target))

    def _ours(self, table: str, key: Any) -> bool:
        return table in self._metadata.tables and len(key["constrained_columns"]) == 1
