"""Databases: addresses, settled sessions, and which errors are whose fault."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.database import database_url, open_database, transaction, writing_engine
from engine.errors import EnvironmentFault, EventFault, Unavailable
from tests.services import MariaDB, PostgreSQL, free_port, wait_until


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("sqlite:///data/x.db", "sqlite+aiosqlite:///data/x.db"),
        ("mysql://u:p@host/name", "mysql+aiomysql://u:***@host/name"),
        ("mariadb+pymysql://host:3307/name", "mysql+aiomysql://host:3307/name"),
        ("postgres://u:p@host/name", "postgresql+asyncpg://u:***@host/name"),
        ("postgresql+psycopg://host/name", "postgresql+asyncpg://host/name"),
    ],
)
def test_an_address_gets_the_driver_that_we_speak_it_by(text: str, url: str) -> None:
    assert str(database_url(text)) == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "database: an address like sqlite:///data/millstream.db, mysql://user:password@host/name or"),
        ("mysql://u:secret@host:port/x", "database: an address like sqlite:///data/millstream.db"),
        ("oracle://u:secret@host/x", "database: one of sqlite, mysql, mariadb, postgresql, postgres; got 'oracle'"),
        ("mysq://u:secret@host/x", "got 'mysq' (did you mean 'mysql'?)"),
    ],
)
def test_an_address_that_cannot_be_is_refused_without_its_password(text: str, reason: str) -> None:
    with pytest.raises(EnvironmentFault) as fault:
        database_url(text)
    assert reason in str(fault.value)
    assert "secret" not in str(fault.value)


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    yield engine
    await engine.dispose()


@pytest.fixture
async def mysql(mariadb: MariaDB) -> AsyncIterator[AsyncEngine]:
    engine = open_database(mariadb.database("database_test"))
    yield engine
    await engine.dispose()


async def ask(engine: AsyncEngine, *statements: str) -> object:
    async with transaction(engine) as connection:
        for statement in statements:
            result = await connection.exec_driver_sql(statement)
        row = result.first() if result.returns_rows else None
        return row[0] if row and len(row) == 1 else row


async def test_sqlite_sessions_are_settled(sqlite: AsyncEngine) -> None:
    names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
    found = [await ask(sqlite, f"PRAGMA {name}") for name in names]
    assert found == ["wal", 2, 5000, 0]


async def test_mysql_sessions_are_settled(mysql: AsyncEngine) -> None:
    settings = "@@time_zone, @@tx_isolation, @@character_set_connection, @@foreign_key_checks"
    assert await ask(mysql, f"SELECT {settings}") == ("+00:00", "READ-COMMITTED", "utf8mb4", 1)
    assert "STRICT_ALL_TABLES" in str(await ask(mysql, "SELECT @@sql_mode"))
    own = writing_engine(mysql)
    assert await ask(own, f"SELECT {settings}") == ("+00:00", "READ-COMMITTED", "utf8mb4", 0)
    await own.dispose()


@pytest.fixture
async def postgres(postgresql: PostgreSQL) -> AsyncIterator[AsyncEngine]:
    engine = open_database(postgresql.database("database_test") + "?ssl=disable")
    yield engine
    await engine.dispose()


async def test_postgresql_sessions_are_settled(postgres: AsyncEngine) -> None:
    found = [await ask(postgres, f"SHOW {name}") for name in ("timezone", "lock_timeout", "transaction_isolation")]
    assert found == ["UTC", "10s", "read committed"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("(1, 'a'), (1, 'b')", "error 23505: duplicate key value violates unique constraint"),
        ("(99999999999, 'a')", "error 22003: integer out of range"),
        ("(1, '123456')", "error 22001: value too long"),
        ("(-5, 'a')", "error 23514: .* violates check constraint"),
        ("(NULL, convert_from('\\x00', 'UTF8'))", "PostgreSQL holds no NUL in a text"),
    ],
)
async def test_what_the_data_is_to_blame_for_in_postgresql(postgres: AsyncEngine, values: str, reason: str) -> None:
    await ask(postgres, "CREATE TABLE t (a INT UNIQUE CHECK (a > 0), b VARCHAR(5))")
    with pytest.raises(EventFault, match=reason) as fault:
        await ask(postgres, f"INSERT INTO t VALUES {values}")  # noqa: S608
    assert "DETAIL" not in str(fault.value)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELECT * FROM nowhere", "error 42P01"),
        ("SELEC 1", "error 42601"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", "error 57P01|connection"),
        ("DO $$ BEGIN RAISE deadlock_detected; END $$", "error 40P01"),
        ("DO $$ BEGIN RAISE disk_full; END $$", "error 53100"),
    ],
)
async def test_what_may_be_better_later_in_postgresql(postgres: AsyncEngine, statement: str, reason: str) -> None:
    with pytest.raises(Unavailable, match=reason) as fault:
        await ask(postgres, statement)
    assert "secret" not in str(fault.value)
    assert await ask(postgres, "SELECT 1") == 1


async def test_a_failed_transaction_leaves_nothing(sqlite: AsyncEngine) -> None:
    await ask(sqlite, "CREATE TABLE t (a INT UNIQUE)")
    with pytest.raises(EventFault, match=r"UNIQUE constraint failed: t\.a"):
        await ask(sqlite, "INSERT INTO t VALUES (1)", "CREATE TABLE u (a INT)", "INSERT INTO t VALUES (1)")
    assert await ask(sqlite, "SELECT COUNT(*) FROM t") == 0
    assert await ask(sqlite, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'u'") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t (a) VALUES (1), (1)",
        "INSERT INTO t (b) VALUES ('123456')",
        "INSERT INTO t (a) VALUES (99999999999)",
        "INSERT INTO t (b) VALUES ('a'), (_binary x'ff')",
        "INSERT INTO t (c) VALUES ('2026-02-31')",
        "INSERT INTO t (d) VALUES ('{')",
        "INSERT INTO t (a) VALUES (-5)",
        "INSERT INTO t (b, e) VALUES ('a', NULL)",
    ],
)
async def test_what_the_data_is_to_blame_for(mysql: AsyncEngine, statement: str) -> None:
    fields = "a INT UNIQUE CHECK (a > 0), b VARCHAR(5), c DATETIME, d JSON, e INT NOT NULL DEFAULT 0"
    await ask(mysql, "DROP TABLE IF EXISTS t", f"CREATE TABLE t ({fields}) CHARSET utf8mb4")
    with pytest.raises(EventFault, match=r"^error \d+: "):
        await ask(mysql, statement)
    assert await ask(mysql, "SELECT COUNT(*) FROM t") == 0


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELECT * FROM nowhere", "error 1146: .*nowhere"),
        ("SELECT nothing", "error 1054"),
        ("SELEC 1", "error 1064"),
        ("KILL CONNECTION_ID()", r"error (1317|1927|2013)"),
        ("SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'deadlock'", "error 1213: deadlock"),
        ("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205, MESSAGE_TEXT = 'lock wait'", "error 1205: lock wait"),
        ("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021, MESSAGE_TEXT = 'disk full'", "error 1021: disk full"),
        ("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'table full'", "error 1114: table full"),
    ],
)
async def test_what_may_be_better_later(mysql: AsyncEngine, statement: str, reason: str) -> None:
    with pytest.raises(Unavailable, match=r"database mysql\+aiomysql://millstream:\*\*\*@127.*" + reason):
        await ask(mysql, statement)
    assert await ask(mysql, "SELECT 1") == 1


async def test_two_that_lock_each_other_out_are_a_matter_of_later(mysql: AsyncEngine) -> None:
    await ask(mysql, "DROP TABLE IF EXISTS t", "CREATE TABLE t (a INT PRIMARY KEY, b INT)")
    await ask(mysql, "INSERT INTO t VALUES (1, 0), (2, 0)")
    both = asyncio.Barrier(2)

    async def change(first: int, then: int) -> None:
        async with transaction(mysql) as connection:
            await connection.exec_driver_sql("UPDATE t SET b = b + 1 WHERE a = %s", (first,))
            await both.wait()
            await connection.exec_driver_sql("UPDATE t SET b = b + 1 WHERE a = %s", (then,))

    results = await asyncio.gather(change(1, 2), change(2, 1), return_exceptions=True)
    assert [type(result) for result in results if result] == [Unavailable]


async def test_no_answer_in_time(mysql: AsyncEngine) -> None:
    with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
        async with transaction(mysql, patience=0.2) as connection:
            await connection.exec_driver_sql("SELECT SLEEP(20)")
    assert await ask(mysql, "SELECT 1") == 1


async def test_too_many_connections(mariadb: MariaDB, mysql: AsyncEngine) -> None:
    limit = mariadb.execute("SELECT @@max_connections")[0][0]
    mariadb.execute("SET GLOBAL max_connections = 10")
    engines = [open_database(mysql.url.render_as_string(hide_password=False)) for _ in range(12)]
    opened = await asyncio.gather(*(engine.connect() for engine in engines), return_exceptions=True)
    try:
        with pytest.raises(Unavailable, match="error 1040: Too many connections"):
            await ask(mysql, "SELECT 1")
    finally:
        await asyncio.gather(*(one.close() for one in opened if not isinstance(one, BaseException)))
        await asyncio.gather(*(engine.dispose() for engine in engines))
        mariadb.execute(f"SET GLOBAL max_connections = {limit}")


async def test_nobody_listens() -> None:
    engine = open_database(f"mysql://u:secret@127.0.0.1:{free_port()}/x")
    with pytest.raises(Unavailable, match="error 2003") as fault:
        await ask(engine, "SELECT 1")
    assert "secret" not in str(fault.value)
    await engine.dispose()


async def test_a_locked_file(tmp_path: Path, sqlite: AsyncEngine) -> None:
    await ask(sqlite, "CREATE TABLE t (a INT)")
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="database is locked"):
        await ask(writing_engine(sqlite), "INSERT INTO t VALUES (1)")
    other.execute("ROLLBACK")
    other.close()
    await ask(writing_engine(sqlite), "INSERT INTO t VALUES (1)")


async def test_a_full_disk(sqlite: AsyncEngine) -> None:
    await ask(sqlite, "CREATE TABLE t (a BLOB)")
    async with sqlite.connect() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 10")
    with pytest.raises(Unavailable, match="database or disk is full"):
        await ask(sqlite, "INSERT INTO t VALUES (zeroblob(1000000))")


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'no' / 'test.db'}")
    with pytest.raises(Unavailable, match="unable to open database file"):
        await ask(engine, "SELECT 1")
    await engine.dispose()
    await asyncio.to_thread(wait_until, no_thread_speaks_to_the_loop, "aiosqlite's thread to end")


def no_thread_speaks_to_the_loop() -> bool:
    return not any("_connection_worker_thread" in thread.name for thread in threading.enumerate())


async def test_values_of_ours_are_bound_on_both(sqlite: AsyncEngine, mysql: AsyncEngine) -> None:
    for engine in (sqlite, mysql):
        async with transaction(engine) as connection:
            values = {"a": b"\x00'\\%s", "b": "'; DROP TABLE t -- %s :a"}
            row = (await connection.execute(sa.text("SELECT :a, :b"), values)).one()
        assert tuple(row) == tuple(values.values())
