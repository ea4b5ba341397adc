"""What a deploy changes in a database: the tables it has beside those that the flow wants and those it declared before.

What neither the flow nor its deployed version declares is somebody else's and is left alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.database import transaction
from engine.table import Column
from engine.table_change import TableChange, converted, count, fitting, quoted, views_of
from engine.table_conversion import kind_of, widens
from engine.table_migration import apply_changes
from engine.tables import sql_type

__all__ = ["TableChange", "apply_changes", "changes_on", "table_changes"]

PATIENCE = 600.0
Views = Mapping[str, str]


class _Index(NamedTuple):
    name: str
    columns: tuple[str, ...]
    unique: bool


async def table_changes(
    engine: AsyncEngine, metadata: sa.MetaData, views: Views, before: sa.MetaData | None,
    others: Iterable[sa.MetaData] = (),
) -> list[TableChange]:  # fmt: skip
    """Return what is to be done, in the order in which it will be, so that the database has what a flow wants.

    `before` are the tables of the deployed version (None: there is none): what it declared and `metadata` does not is
    dropped, unless it is among the tables of `others`, the other flows on this database. Counts rows where something
    may be lost. Raises Unavailable when the database is away.
    """
    shown = {table.name: table.info["view"] for table in metadata.tables.values() if "view" in table.info}
    async with transaction(engine, PATIENCE) as connection:
        return await connection.run_sync(changes_on, metadata, shown | dict(views), before, list(others))


def changes_on(
    connection: Connection, metadata: sa.MetaData, views: Views, before: sa.MetaData | None, others: list[sa.MetaData]
) -> list[TableChange]:
    """Return the same of a database that a connection is open to."""
    found = list(_Comparison(connection, metadata, views, before or sa.MetaData(), others).changes())
    changing = {(change.table, change.column) for change in found if change.kind == "type"}
    found = [msgspec.structs.replace(c, early=c.early and not _over(c, changing)) for c in found]
    return sorted(found, key=lambda change: _rank(change, changing))


def _over(change: TableChange, changing: set[tuple[str, str]]) -> bool:
    """Tell whether an index is over a column whose type changes."""
    return change.kind == "index" and any((change.table, name) in changing for name in change.column.split(", "))


_RANKS = ("table", "column", "index", "drop_view", "drop_reference", "drop_index", "type", "", "", "reference", "view")


def _rank(change: TableChange, changing: set[tuple[str, str]]) -> int:
    """Return when a change comes: what adds first, what takes away last, an index when its columns are as they will be.

    An index that goes makes room for a type that cannot be indexed, and comes after the one that a reference then uses.
    """
    if change.kind.startswith("drop_") and change.kind not in _RANKS:
        return len(_RANKS) + (change.kind == "drop_table")
    rank = _RANKS.index(change.kind)
    if change.kind == "type" and change.destructive:
        return rank + 1
    return rank + 6 if _over(change, changing) else rank


def _tables(metadata: sa.MetaData) -> dict[str, sa.Table]:
    return {table.name: table for table in metadata.sorted_tables if "view" not in table.info}


class _Comparison:
    """One database beside what is wanted of it."""

    def __init__(
        self, connection: Connection, metadata: sa.MetaData, views: Views, before: sa.MetaData,
        others: list[sa.MetaData],
    ) -> None:  # fmt: skip
        self._connection, self._views, self._before_all = connection, views, before
        self._wanted = {name: table for name, table in _tables(metadata).items() if name not in views}
        self._before = _tables(before)
        self._others = [_tables(other) for other in others]
        self._other_views = {name for other in others for name in other.tables.keys() - _tables(other).keys()}
        self._inspector = sa.inspect(connection)
        self._mysql = connection.dialect.name == "mysql"

    @cached_property
    def _there(self) -> set[str]:
        return set(self._inspector.get_table_names())

    def changes(self) -> Iterator[TableChange]:
        for table in self._wanted.values():
            if table.name not in self._there:
                yield TableChange("table", table.name, "", f"table {table.name}: new", early=True)
                continue
            yield from self._columns(table)
            yield from self._indexes(table)
            if self._mysql:
                yield from self._references(table)
        yield from self._view_changes()
        yield from self._dropped_tables()

    def _view_changes(self) -> Iterator[TableChange]:
        there = set(self._inspector.get_view_names())
        for view in self._views.keys() - there:
            refused = "a table of this name is there" if view in self._there else ""
            yield TableChange("view", view, "", f"view {view}: new", refused=refused, early=True)
        gone = self._before_all.tables.keys() - self._before.keys() - self._views.keys() - self._other_views
        for view in sorted(gone & there):
            yield TableChange("drop_view", view, "", f"view {view}: dropped")

    def _dropped_tables(self) -> Iterator[TableChange]:
        gone = self._before.keys() - self._wanted.keys() - self._views.keys()
        for name in sorted(name for name in gone & self._there if not any(name in other for other in self._others)):
            rows = count(self._connection, f"SELECT COUNT(*) FROM {self._q(name)}")  # noqa: S608
            text, lossy = f"table {name}: dropped", f"{rows} rows are deleted"
            yield TableChange("drop_table", name, "", text, destructive=True, lossy=lossy)

    def _columns(self, table: sa.Table) -> Iterator[TableChange]:
        found = {column["name"].lower(): column["type"] for column in self._inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name.lower() not in found:
                yield self._new_column(column)
            elif change := self._type_change(column, found[column.name.lower()]):
                yield change
        declared = self._before[table.name].columns if table.name in self._before else ()
        kept = {column.name.lower() for column in table.columns} | {"_event"}
        kept |= {column.name.lower() for other in self._others if table.name in other for column in other[table.name].c}
        for column in declared:
            if column.name.lower() in found.keys() - kept:
                yield self._dropped_column(column)

    def _new_column(self, column: sa.Column[Any]) -> TableChange:
        refused = "a table gets its serial when it is made" if column.primary_key else ""
        kind = column.info.get("column", "for the sink that appends")
        text = f"column {column.table.name}.{column.name}: new, {kind}"
        return TableChange("column", column.table.name, column.name, text, refused=refused, early=True)

    def _dropped_column(self, column: sa.Column[Any]) -> TableChange:
        table, name = column.table.name, column.name
        values = count(self._connection, f"SELECT COUNT({self._q(name)}) FROM {self._q(table)}")  # noqa: S608
        refused = "rows are told by their serial; make another table" if column.primary_key else self._seen(column)
        text, lossy = f"column {table}.{name}: dropped", f"{values} values are deleted"
        return TableChange("drop_column", table, name, text, destructive=True, lossy=lossy, refused=refused)

    def _type_change(self, column: sa.Column[Any], found: sa.types.TypeEngine[Any]) -> TableChange | None:
        dialect, table, name = self._connection.dialect, column.table.name, column.name
        expected, got = (sql_type(kind.compile(dialect=dialect), dialect) for kind in (column.type, found))
        old, new = kind_of(name, got), column.info.get("column")
        declared = self._before[table].columns.get(name) if table in self._before else None
        serial = declared is not None and declared.primary_key != column.primary_key
        if expected == got and not serial:
            return None
        text = f"column {table}.{name}: {old or got} becomes {new or expected}"
        refused = self._refused_type(column, declared) or self._seen(column)
        if refused or old is None or new is None:
            return TableChange("type", table, name, text, refused=refused or "a type that cannot be changed")
        lossy = self._loss(table, old, new)
        safe = (widens(old, new) or old.type == new.type == "text") and not lossy
        return TableChange("type", table, name, text, destructive=not safe, lossy=lossy if safe else lossy or "nothing")

    def _seen(self, column: sa.Column[Any]) -> str:
        views = views_of(self._connection, column.table.name, column.name)
        return f"PostgreSQL changes no column that a view shows; drop {views} first" if views else ""

    def _refused_type(self, column: sa.Column[Any], declared: sa.Column[Any] | None) -> str:
        if declared is None:
            return "the deployed flow did not declare this column, so it is not changed"
        if declared.primary_key or column.primary_key:
            return "a serial stays one, and nothing else becomes one"
        same = [
            other[column.table.name].columns.get(column.name) for other in self._others if column.table.name in other
        ]
        differing = [
            str(other.info["column"]) for other in same if other is not None and str(other.type) != str(column.type)
        ]
        return f"another flow on this database declares it as {differing[0]}" if differing else ""

    def _loss(self, table: str, old: Column, new: Column) -> str:
        if old.type == new.type and widens(old, new):
            return ""
        way = converted(self._connection, old, new)
        where = f"{self._q(old.name)} IS NOT NULL AND NOT {fitting(self._connection, way, old.name)}"
        bad = count(self._connection, f"SELECT COUNT(*) FROM {self._q(table)} WHERE {where}")  # noqa: S608
        return f"{bad} values {way.loss}" if bad else ""

    def _indexes(self, table: sa.Table) -> Iterator[TableChange]:
        there = self._found_indexes(table.name)
        wanted = sorted(map(_index, table.indexes))
        claimed = {index[1:] for index in wanted}
        claimed |= {_index(i)[1:] for other in self._others if table.name in other for i in other[table.name].indexes}
        declared = {i.name for i in self._before[table.name].indexes} if table.name in self._before else set()
        gone = [i for i in there if i.name in declared and i[1:] not in claimed and i.columns != ("_event",)]
        left = {index[1:] for index in there if index not in gone}
        for index in wanted:
            if not left & {(index.columns, True), (index.columns, index.unique)}:
                yield self._new_index(table.name, index)
        for index in gone:
            columns = ", ".join(index.columns)
            text = f"{'unique ' * index.unique}index of {table.name} on {columns}: dropped"
            yield TableChange("drop_index", table.name, columns, text, name=index.name)

    def _found_indexes(self, table: str) -> list[_Index]:
        listed = [*self._inspector.get_indexes(table)]
        found = [_Index(str(i["name"]), tuple(map(str, i["column_names"])), bool(i["unique"])) for i in listed]
        keys = self._inspector.get_unique_constraints(table)
        more = [_Index(str(key["name"]), tuple(key["column_names"]), True) for key in keys]
        return found + [key for key in more if key not in found]

    def _new_index(self, table: str, index: _Index) -> TableChange:
        columns = ", ".join(index.columns)
        text = f"{'unique ' * index.unique}index of {table} on {columns}: new"
        twice = self._duplicates(table, index.columns) if index.unique else 0
        refused = f"{twice} values are there more than once" if twice else ""
        return TableChange("index", table, columns, text, refused=refused, name=index.name, early=not index.unique)

    def _duplicates(self, table: str, columns: tuple[str, ...]) -> int:
        there = {column["name"] for column in self._inspector.get_columns(table)}
        if not there.issuperset(columns):
            return 0
        names = [self._q(column) for column in columns]
        full = " AND ".join(f"{name} IS NOT NULL" for name in names)
        groups = f"SELECT 1 FROM {self._q(table)} WHERE {full} GROUP BY {', '.join(names)} HAVING COUNT(*) > 1"  # noqa: S608
        return count(self._connection, f"SELECT COUNT(*) FROM ({groups}) AS twice")  # noqa: S608

    def _references(self, table: sa.Table) -> Iterator[TableChange]:
        """Compare keys in MySQL; SQLite has them in a table's text only, and nothing there checks them."""
        if table.name not in self._before:
            return
        declared = _keys(self._before[table.name])
        there = {
            (key["constrained_columns"][0], f"{key['referred_table']}.{key['referred_columns'][0]}"): str(key["name"])
            for key in self._inspector.get_foreign_keys(table.name)
        }
        for (column, target), name in there.items():
            if (column, target) in declared - _keys(table):
                text = f"reference of {table.name}.{column} to {target}: dropped"
                yield TableChange("drop_reference", table.name, column, text, name=name)
        known = {column["name"] for column in self._inspector.get_columns(table.name)}
        for column, target in sorted(_keys(table) - there.keys()):
            if column in known & set(self._before[table.name].columns.keys()):
                text = f"reference of {table.name}.{column} to {target}: new"
                yield TableChange("reference", table.name, column, text, name=target)

    def _q(self, name: str) -> str:
        return quoted(self._connection, name)


def _keys(table: sa.Table) -> set[tuple[str, str]]:
    return {(key.parent.name, key.target_fullname) for key in table.foreign_keys}


def _index(index: sa.Index) -> _Index:
    return _Index(str(index.name), tuple(column.name for column in index.columns), bool(index.unique))
