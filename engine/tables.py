"""The tables of a flow in a database: checked together, made where missing, never changed by themselves."""

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.mysql import BINARY, DOUBLE, LONGBLOB
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.database import transaction
from engine.errors import EnvironmentFault, EventFault, SpecProblem, Unavailable, did_you_mean
from engine.postgresql import POSTGRESQL
from engine.rows import UtcTime
from engine.table import VIEWS, Column, Table

if TYPE_CHECKING:
    from alembic.operations import Operations

__all__ = ["Column", "Table", "check_tables", "create", "highest", "resolved", "to_sqlalchemy"]

_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "serial": sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
    "int": sa.BigInteger(),
    "number": sa.Double().with_variant(DOUBLE(asdecimal=False), "mysql"),
    "bool": sa.Boolean(),
    "text": sa.Text().with_variant(sa.Text(collation="C"), POSTGRESQL),
    "time": UtcTime(),
    "date": sa.Date(),
    "json": sa.JSON(none_as_null=True),
    "bytes": sa.LargeBinary().with_variant(LONGBLOB(), "mysql"),
}
_EVENT = sa.LargeBinary(16).with_variant(BINARY(16), "mysql")
_MYSQL = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
LONGEST = 1 << 32
WITH_KEYS = ("sqlite", "mysql", "mariadb")
_SAME = ((r' (CHARACTER SET|COLLATE) "?\w+"?', ""), (r"\bBOOL(EAN)?\b", "TINYINT(1)"), (r"^JSON$", "LONGTEXT"))


def check_tables(tables: Mapping[str, Table]) -> list[SpecProblem]:
    """Return what is wrong between tables: references to nothing, to what is not unique, and in circles."""
    problems = []
    for table in tables.values():
        for column in table.columns.values():
            if column.references:
                message, hint = _reference_problem(tables, table, column)
                problems += [SpecProblem((table.name, column.name), message, hint)] if message else []
    return problems + [
        SpecProblem((name,), f"references that do not lead back to itself; got {way}") for name, way in _circles(tables)
    ]


def _reference_problem(tables: Mapping[str, Table], table: Table, column: Column) -> tuple[str, str]:
    other, name = column.references or ("", "")
    target, known = tables.get(other), [t.name for t in tables.values() if not t.view]
    if target is None or target.view:
        return f"a table of the flow ({', '.join(known)}); got '{other}'", did_you_mean(other, known)
    if name not in target.columns:
        names = ", ".join(target.columns)
        return f"a column of table '{other}' ({names}); got '{name}'", did_you_mean(name, target.columns)
    if target is table and name == column.name:
        return "a column other than itself", ""
    if [name] not in target.keys:
        return f"a column that is unique; '{other}.{name}' is not", f"{other}: {{unique: [[{name}]]}}"
    return "", ""


def _circles(tables: Mapping[str, Table]) -> Iterator[tuple[str, str]]:
    """Yield every table on a circle of references with a way round; a table may refer to itself."""
    edges = {t.name: {c.references[0] for c in t.columns.values() if c.references} - {t.name} for t in tables.values()}
    for start in edges:
        ways, seen = {start: start}, [start]
        for name in seen:
            for after in sorted(edges.get(name, ())):
                if after not in ways:
                    ways[after] = f"{ways[name]} -> {after}"
                    seen.append(after)
        if back := [ways[name] for name in seen if start in edges.get(name, ())]:
            yield start, f"{back[0]} -> {start}"


def resolved(tables: Mapping[str, Table]) -> dict[str, Table]:
    """Return the tables with each reference typed like its target (int for a serial); check them before."""
    return {
        name: msgspec.structs.replace(table, columns={c.name: _typed(tables, c) for c in table.columns.values()})
        for name, table in tables.items()
    }


def _typed(tables: Mapping[str, Table], column: Column) -> Column:
    target = column
    while target.references:
        table, name = target.references
        target = tables[table].columns[name]
    kind = "int" if column.references and target.type == "serial" else target.type
    return msgspec.structs.replace(column, type=kind, length=target.length)


def to_sqlalchemy(tables: Mapping[str, Table], appended: Iterable[str]) -> sa.MetaData:
    """Return the tables as SQLAlchemy has them; those that a sink appends to get `_event`.

    `column.info["column"]` is the declared Column, `table.info["view"]` the table that a view shows.
    """
    metadata, events = sa.MetaData(), set(appended)
    for table in resolved(tables).values():
        made = sa.Table(table.name, metadata, *map(_sql_column, table.columns.values()), **_options(table))
        for key in made.foreign_key_constraints:  # docs/adr/0041: PostgreSQL would check them at every row
            key.ddl_if(dialect=WITH_KEYS)  # type: ignore[arg-type]  # several are documented
        if table.view:
            made.info["view"] = table.view
            continue
        if table.name in events:
            made.append_column(sa.Column("_event", _EVENT))
        for name, columns, unique in _indexes(table, table.name in events):
            sa.Index(name, *(made.c[column] for column in columns), unique=unique)
    return metadata


def _options(table: Table) -> dict[str, Any]:
    return _MYSQL | ({"sqlite_autoincrement": True} if table.serial else {})


def _sql_column(column: Column) -> sa.Column[Any]:
    kind = _text_type(column.length) if column.length else _TYPES[column.type]
    keys = [sa.ForeignKey(".".join(column.references))] if column.references else []
    first = column.type == "serial"
    more: dict[str, Any] = {"autoincrement": True} if first else {"nullable": True}
    return sa.Column(column.name, kind, *keys, primary_key=first, info={"column": column}, **more)


def _text_type(length: int) -> sa.types.TypeEngine[Any]:
    """Return a text's type; PostgreSQL compares by a database's language unless told to compare bytes."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), POSTGRESQL)


def _indexes(table: Table, with_event: bool) -> Iterator[tuple[str, list[str], bool]]:
    """Yield name, columns and uniqueness; a reference is looked up by, so it gets an index where it leads none."""
    if with_event:
        yield _index_name(table, "u", ["_event"]), ["_event"], True
    for columns in table.unique:
        yield _index_name(table, "u", columns), columns, True
    for columns in table.index:
        yield _index_name(table, "i", columns), columns, False
    led = {columns[0] for columns in table.unique + table.index}
    for column in table.columns.values():
        if column.references and column.name not in led:
            yield _index_name(table, "i", [column.name]), [column.name], False


def _index_name(table: Table, kind: str, columns: list[str]) -> str:
    name = f"{kind}_{table.name}_{'_'.join(columns)}"
    return name if len(name) <= 60 else f"{name[:51]}_{sa.util.md5_hex(name)[:8]}"


async def create(engine: AsyncEngine, metadata: sa.MetaData, views: Mapping[str, str] | None = None) -> list[str]:
    """Make what is missing of tables, columns, indexes and views (view -> table); return what was made, in order.

    Nothing is dropped or changed, and two processes may do it together. Raises EnvironmentFault where something of
    the name is there that differs, Unavailable when the database is away.
    """
    wanted = {table.name: table.info["view"] for table in metadata.tables.values() if "view" in table.info}
    try:
        async with alone(engine) as connection:
            return await connection.run_sync(_create, metadata, wanted | dict(views or {}))
    except EventFault as fault:
        raise EnvironmentFault(f"tables cannot be made: {fault.reason}") from fault


@asynccontextmanager
async def alone(engine: AsyncEngine, patience: float = 600) -> AsyncIterator[AsyncConnection]:
    """Hold a lock that any other process that makes tables waits for (SQLite: that of every writer)."""
    if engine.dialect.name == "sqlite":
        async with transaction(engine.execution_options(begin="IMMEDIATE"), patience) as connection:
            yield connection
        return
    async with transaction(engine, patience) as connection:
        if engine.dialect.name == POSTGRESQL:  # held until the end of the transaction
            await connection.exec_driver_sql("SET LOCAL lock_timeout = '120s'")
            await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('millstream.tables'))")
            yield connection
            return
        lock = sa.text("SELECT GET_LOCK(CONCAT('millstream.', LEFT(MD5(DATABASE()), 16)), 120)")
        if await connection.scalar(lock) != 1:
            raise Unavailable("another process has been making tables for two minutes")
        try:
            yield connection
        finally:
            await connection.execute(sa.text("SELECT RELEASE_LOCK(CONCAT('millstream.', LEFT(MD5(DATABASE()), 16)))"))


def _create(connection: Connection, metadata: sa.MetaData, views: Mapping[str, str]) -> list[str]:
    inspector = sa.inspect(connection)
    made: list[str] = []
    there = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name in views:
            continue
        if table.name in there:
            made += _complete(connection, table, inspector)
        else:
            table.create(connection)
            made.append(f"table {table.name}")
    for view, source in views.items():
        made += create_view(connection, inspector, view, source)
    return made


def _complete(connection: Connection, table: sa.Table, inspector: sa.Inspector) -> Iterator[str]:
    found = {column["name"].lower(): column for column in inspector.get_columns(table.name)}
    for column in table.columns:
        if column.name.lower() in found:
            _compare(column, found[column.name.lower()]["type"], connection.dialect)
    missing = [column for column in table.columns if column.name.lower() not in found]
    for column in missing:
        add_column(operations_on(connection), table, column)
        yield f"column {table.name}.{column.name}"
    yield from _add_indexes(connection, table, inspector)


def operations_on(connection: Connection) -> "Operations":
    """Return Alembic's operations on a connection."""
    from alembic.migration import MigrationContext  # a quarter of a second that most starts need not spend
    from alembic.operations import Operations

    return Operations(MigrationContext.configure(connection))


def _compare(column: sa.Column[Any], found: sa.types.TypeEngine[Any], dialect: Dialect) -> None:
    expected, got = (sql_type(kind.compile(dialect=dialect), dialect) for kind in (column.type, found))
    if expected != got and not (_text(expected) and _text(expected) <= _text(got)):
        raise EnvironmentFault(f"table {column.table.name}, column {column.name}: expected {expected}; found {got}")


def _text(kind: str) -> int:
    """Return how long the texts of a type may be; 0 for what is no text."""
    found = re.fullmatch(r"VARCHAR\((\d+)\)", kind)
    return int(found[1]) if found else LONGEST if kind in ("TEXT", "LONGTEXT") else 0


def sql_type(kind: str, dialect: Dialect) -> str:
    """Return a type without what does not matter: SQLite has one whole number, MariaDB's JSON is a LONGTEXT."""
    kind = kind.upper()
    for pattern, replacement in _SAME:
        kind = re.sub(pattern, replacement, kind)
    if dialect.name == "sqlite":
        return "INTEGER" if "INT" in kind and kind != "TINYINT(1)" else kind
    return re.sub(r"^(BIGINT|INTEGER|INT)\(\d+\)", r"\1", kind)


def add_column(operations: "Operations", table: sa.Table, column: sa.Column[Any]) -> None:
    """Add a column with its references; raises EnvironmentFault for a serial."""
    if column.primary_key:
        raise EnvironmentFault(f"table {table.name}, column {column.name}: expected a serial; found none")
    bare: sa.Column[Any] = sa.Column(column.name, column.type, nullable=True)
    operations.add_column(table.name, bare)
    for key in column.foreign_keys if operations.get_bind().dialect.name == "mysql" else ():
        other, name = key.target_fullname.split(".")
        operations.create_foreign_key(None, table.name, other, [column.name], [name])


def _add_indexes(connection: Connection, table: sa.Table, inspector: sa.Inspector) -> Iterator[str]:
    there = [([*index["column_names"]], bool(index["unique"])) for index in inspector.get_indexes(table.name)]
    there += [([*key["column_names"]], True) for key in inspector.get_unique_constraints(table.name)]
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        columns = [column.name for column in index.columns]
        if (columns, True) in there or (columns, bool(index.unique)) in there:
            continue
        index.create(connection)
        yield f"index {index.name}"


def create_view(connection: Connection, inspector: sa.Inspector, view: str, source: str) -> Iterator[str]:
    """Make a view over a table of the system where it is missing; yield what was made."""
    if inspector.has_table(view) and view not in inspector.get_view_names():
        raise EnvironmentFault(f"view {view}: expected a view; found a table of this name")
    if not inspector.has_table(source):
        raise EnvironmentFault(f"view {view}: expected table {source}; found none")
    if view not in inspector.get_view_names():
        quote, columns = connection.dialect.identifier_preparer.quote, ", ".join(VIEWS[source])
        connection.exec_driver_sql(f"CREATE VIEW {quote(view)} AS SELECT {columns} FROM {quote(source)}")  # noqa: S608
        yield f"view {view}"


async def highest(engine: AsyncEngine, table: sa.Table, column: str) -> int:
    """Return the largest value of a whole-number column; 0 for none."""
    async with transaction(engine) as connection:
        return int(await connection.scalar(sa.select(sa.func.max(table.c[column]))) or 0)
