"""Databases: an address becomes an async engine with settled sessions, and their errors become ours."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pymysql
from pymysql.constants import CLIENT
from sqlalchemy import event, exc, make_url
from sqlalchemy.engine import URL, Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from engine.errors import EnvironmentFault, EventFault, Unavailable, did_you_mean
from engine.postgresql import DRIVER, POSTGRESQL, blames_rows, is_asyncpg, said, settled, sqlstate

DRIVERS = {
    "sqlite": "sqlite+aiosqlite", "mysql": "mysql+aiomysql", "mariadb": "mysql+aiomysql",
    "postgresql": DRIVER, "postgres": DRIVER,
}  # fmt: skip
PATIENCE = 60.0
_SQLITE = (
    "busy_timeout = 5000", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = OFF",
    "cache_size = -8192", "wal_autocheckpoint = 8192",  # 8 MB of pages; 32 MB of log, since each commit changes as many
)  # fmt: skip
_KEPT_STATEMENTS = 16  # one for a thousand rows takes half a megabyte; Python keeps 128
_MYSQL = (
    "SET SESSION time_zone = '+00:00', "
    "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO', "
    "innodb_lock_wait_timeout = 10, lock_wait_timeout = 30, group_concat_max_len = 1048576, "
    "optimizer_switch = 'index_merge_intersection=off', "  # it sorts all that two indexes share for a page of it
    "character_set_connection = utf8mb4, collation_connection = utf8mb4_bin"
)
_BAD_VALUES = (OverflowError, UnicodeError, sqlite3.IntegrityError, sqlite3.DataError)
# MySQL's numbers: out of range, truncated, wrong value, too long, no default, packet too large, not UTF-8, no more
# serials, JSON that is none, CHECK of MySQL and of MariaDB. Duplicates and the like are IntegrityError.
_BAD_DATA = frozenset({
    1264, 1265, 1292, 1365, 1366, 1406, 1411, 1690, 1364, 1153, 1300, 1467, 3140, 3141, 3819, 4025,
})  # fmt: skip


def database_url(text: str) -> URL:
    """Return the address with the driver that we speak it by; raises EnvironmentFault, never with its password."""
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        example = (
            "sqlite:///data/millstream.db, mysql://user:password@host/name or postgresql://user:password@host/name"
        )
        raise EnvironmentFault(f"database: an address like {example}") from None
    name = url.get_backend_name()
    if name not in DRIVERS:
        hint = did_you_mean(name, DRIVERS)
        raise EnvironmentFault(f"database: one of {', '.join(DRIVERS)}; got '{name}'" + (f" ({hint})" if hint else ""))
    return url.set(drivername=DRIVERS[name])


def open_database(text: str) -> AsyncEngine:
    """Return an engine for an address; it connects when it is first used.

    SQLite: WAL, a commit is on the disk, `execution_options(begin="IMMEDIATE")` takes the write lock at once.
    MySQL and MariaDB: UTC, strict, read committed, utf8mb4 compared by bytes as SQLite does. PostgreSQL: UTC, read
    committed; what is declared as text is compared by bytes.
    """
    return _engine(database_url(text))


def _engine(url: URL, **session: Any) -> AsyncEngine:
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, connect_args={"cached_statements": _KEPT_STATEMENTS})
        event.listen(engine.sync_engine, "connect", _settle_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    if url.get_backend_name() == POSTGRESQL:
        url, arguments = settled(url)
        return create_async_engine(url, pool_pre_ping=True, pool_recycle=1800, connect_args=arguments)
    start = ", ".join([_MYSQL, *(f"{name} = {value}" for name, value in session.items())])
    arguments = {"charset": "utf8mb4", "connect_timeout": 10, "init_command": start}
    engine = create_async_engine(
        url, pool_pre_ping=True, pool_recycle=1800, isolation_level="READ COMMITTED", connect_args=arguments
    )
    event.listen(engine.sync_engine, "connect", _settle_mysql)
    return engine


def _settle_mysql(connection: Any, record: object) -> None:
    """Write bytes ourselves: aiomysql 0.3 calls a function for it that PyMySQL 1.2 has no longer."""
    driver = connection.driver_connection
    escape = driver.escape
    driver.escape = lambda value: f"_binary X'{value.hex()}'" if isinstance(value, bytes) else escape(value)


def _settle_sqlite(connection: Any, record: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _SQLITE:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def sqlite_connection(engine: AsyncEngine) -> sqlite3.Connection:
    """Return a connection without SQLAlchemy, settled like the engine's own: any thread may use it, one at a time."""
    arguments, options = engine.dialect.create_connect_args(engine.url)
    more: dict[str, Any] = {**options, "cached_statements": _KEPT_STATEMENTS}
    connection: sqlite3.Connection = sqlite3.connect(str(arguments[0]), **more)
    try:
        _settle_sqlite(connection, None)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")


def writing_engine(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine for one writer: no foreign key checks, and its counts are of rows that really changed.

    For MySQL it has connections of its own, so dispose of it when it `is not` the given one.
    """
    if engine.dialect.name == "sqlite":
        return engine.execution_options(begin="IMMEDIATE")
    if engine.dialect.name == POSTGRESQL:  # has no references (engine.tables), and counts what changed
        return engine
    own = _engine(engine.url, foreign_key_checks=0)
    event.listen(own.sync_engine, "do_connect", _count_changes)
    return own


def _count_changes(dialect: object, record: object, arguments: object, options: dict[str, Any]) -> None:
    options["client_flag"] = options.get("client_flag", 0) & ~CLIENT.FOUND_ROWS


@asynccontextmanager
async def transaction(engine: AsyncEngine, patience: float = PATIENCE) -> AsyncIterator[AsyncConnection]:
    """Commit what is done inside, within `patience` seconds.

    Raises EventFault when the database refuses the data, Unavailable for all that may be better later.
    """
    try:
        async with asyncio.timeout(patience), engine.connect() as connection, connection.begin():
            yield connection
    except TimeoutError:
        raise Unavailable(f"{place(engine)}: no answer within {patience:g} s") from None
    except (exc.SQLAlchemyError, OSError, pymysql.Error, sqlite3.Error) as error:
        raise classified(error, engine) from error


def classified(error: BaseException, engine: AsyncEngine) -> EventFault | Unavailable:
    """Return EventFault for an error that the data is to blame for, Unavailable for every other."""
    text = describe(error)
    return EventFault(text) if blames_data(error) else Unavailable(f"{place(engine)}: {text}")


def blames_data(error: BaseException) -> bool:
    """Tell whether the same rows would fail again on a database that is well."""
    inner = _inner(error)
    if isinstance(error, exc.IntegrityError | exc.DataError) or isinstance(inner, _BAD_VALUES) or blames_rows(inner):
        return True
    return isinstance(inner, pymysql.Error) and bool(inner.args) and inner.args[0] in _BAD_DATA


def describe(error: BaseException) -> str:
    """Return what the database said, without the statement and its values."""
    inner = _inner(error)
    if state := sqlstate(inner):
        return f"error {state}: {said(inner)}"
    number = inner.args[0] if len(inner.args) > 1 else None
    return f"error {number}: {inner.args[1]}" if isinstance(number, int) else str(inner) or type(inner).__name__


def _inner(error: BaseException) -> BaseException:
    inner = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    cause = inner.__cause__
    ours = isinstance(cause, pymysql.Error | sqlite3.Error) or is_asyncpg(cause)
    return cause if ours and cause is not None else inner


def place(engine: AsyncEngine) -> str:
    """Return a database's address without its password."""
    return f"database {engine.url.render_as_string(hide_password=True)}"
