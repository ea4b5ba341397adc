"""What changed in a table is found on SQLite and MariaDB, whoever changed it, and what did not change is not read."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from engine import table_reading, table_sums
from engine.database import open_database
from engine.live_table import Changes, LiveTables
from engine.table import Table
from engine.table_reading import SqliteReading, TableReading, TooLarge
from engine.table_sums import SummedReading
from engine.tables import create, to_sqlalchemy
from tests.process import wait_until
from tests.services import MariaDB

SPECS: dict[str, dict[str, Any]] = {
    "device": {"id": "text(20)", "n": "int", "unique": [["id"]], "live": True},
    "every": {
        "i": "int", "f": "number", "b": "bool", "t": "text(50)", "at": "time", "d": "date", "j": "json", "raw": "bytes",
        "unique": [["i", "t"]], "live": {"by": ["i", "t"]},
    },
}  # fmt: skip
READINGS: dict[str, Callable[..., TableReading]] = {"sqlite": SqliteReading, "mysql": SummedReading}
DEVICE, EVERY = "device(id)", "every(i, t)"


class Database:
    """Both tables in a database, changed by another program and looked at by us."""

    def __init__(self, engine: AsyncEngine, execute: Callable[..., Any]) -> None:
        self.engine, self.execute = engine, execute
        tables = {name: Table.parse(name, spec) for name, spec in SPECS.items()}
        self.metadata, self._live = to_sqlalchemy(tables, ()), LiveTables(tables).tables
        self.kind = engine.dialect.name

    def reading(self, known: Changes | None = None) -> TableReading:
        """Return a new reading."""
        tables = {live: self.metadata.tables[name] for name, live in self._live.items()}
        return READINGS[self.kind](self.engine, tables, known or {})


@pytest.fixture(params=["sqlite", "mariadb"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "sqlite":
        found = Database(
            open_database(f"sqlite:///{tmp_path}/x.db"), lambda *statements: on_sqlite(tmp_path, *statements)
        )
    else:
        server: MariaDB = request.getfixturevalue("mariadb")
        url = server.database("reading")
        found = Database(open_database(url), lambda *statements: server.execute("USE reading", *statements, "COMMIT"))
    await create(found.engine, found.metadata)
    found.execute("DELETE FROM device", "DELETE FROM `every`")
    yield found
    await found.engine.dispose()


def on_sqlite(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "x.db", timeout=20)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def test_each_change_is_found_once(database: Database) -> None:
    reading = database.reading()
    assert not any((await reading.look()).values())
    database.execute("INSERT INTO device VALUES ('a', 1), ('b', 2), ('c', 3)")
    assert (await reading.look())[DEVICE] == {name: {"id": name, "n": n} for name, n in (("a", 1), ("b", 2), ("c", 3))}
    assert not any((await reading.look()).values())
    database.execute("UPDATE device SET n = 9 WHERE id = 'b'", "DELETE FROM device WHERE id = 'c'")
    assert (await reading.look())[DEVICE] == {"b": {"id": "b", "n": 9}, "c": None}
    database.execute("UPDATE device SET id = 'B' WHERE id = 'b'")
    assert (await reading.look())[DEVICE] == {"b": None, "B": {"id": "B", "n": 9}}
    database.execute("UPDATE device SET n = NULL WHERE id = 'a'", "DELETE FROM device WHERE id = 'B'")
    assert (await reading.look())[DEVICE] == {"B": None, "a": {"id": "a", "n": None}}
    database.execute("DELETE FROM device")
    assert (await reading.look())[DEVICE] == {"a": None}
    await reading.close()


async def test_only_what_differs_from_the_log_is_a_change_at_first(database: Database) -> None:
    database.execute("INSERT INTO device VALUES ('a', 1), ('b', 2)")
    known: Changes = {DEVICE: {"a": {"id": "a", "n": 1}, "b": {"id": "b", "n": 1}, "c": {"id": "c", "n": 3}}}
    reading = database.reading(known)
    assert (await reading.look())[DEVICE] == {"b": {"id": "b", "n": 2}, "c": None}
    await reading.close()


async def test_values_of_all_types_are_those_of_expressions(database: Database) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    values = {"i": 1, "f": 2.5, "b": True, "t": "x'ä", "at": at, "d": at.date(), "j": {"a": [1]}, "raw": b"\0\1"}
    async with database.engine.begin() as connection:
        await connection.execute(sa.insert(database.metadata.tables["every"]), [values])
        await connection.execute(sa.insert(database.metadata.tables["every"]), [{"i": 2, "t": "empty"}])
    reading = database.reading()
    found = (await reading.look())[EVERY]
    assert found[1, "x'ä"] == {"i": 1, "f": 2.5, "b": True, "t": "x'ä", "at": at, "d": "2026-01-02", "j": {"a": [1]}}
    assert found[2, "empty"] == dict.fromkeys(("f", "b", "at", "d", "j")) | {"i": 2, "t": "empty"}
    database.execute("INSERT INTO `every` (i) VALUES (3)")
    assert not any((await reading.look()).values()), "a row whose key is NULL is found by nothing"
    await reading.close()


async def test_equal_changes_do_not_cancel_out(database: Database) -> None:
    rows = ", ".join(f"('d{number:04}', 11111111)" for number in range(1000))
    database.execute(f"INSERT INTO device VALUES {rows}")  # noqa: S608 - our own numbers
    reading = database.reading()
    assert len((await reading.look())[DEVICE]) == 1000
    for value in (11111112, 11111113, 21111113):
        database.execute(f"UPDATE device SET n = {value}")  # noqa: S608 - our own numbers
        assert len((await reading.look())[DEVICE]) == 1000
    await reading.close()


async def test_a_table_that_is_too_large_is_said_to_be_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (table_reading, table_sums):
        monkeypatch.setattr(module, "MOST_ROWS", 2)
    database.execute("INSERT INTO device VALUES ('a', 1), ('b', 2), ('c', 3)")
    reading = database.reading()
    with pytest.raises(TooLarge, match="rows in a live table; 'device' has more"):
        await reading.look()
    await reading.close()


async def test_without_a_change_mariadb_is_asked_for_no_sums(mariadb: MariaDB) -> None:
    url = mariadb.database("signs")
    database = Database(open_database(url), lambda *statements: mariadb.execute("USE signs", *statements, "COMMIT"))
    await create(database.engine, database.metadata)
    database.execute("DELETE FROM device", "INSERT INTO device VALUES ('a', 1)")
    statements: list[str] = []
    sa.event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    reading = database.reading()
    old = "SELECT MAX(UPDATE_TIME) < NOW() - INTERVAL 2 SECOND FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'signs'"
    wait_until(lambda: mariadb.execute(old)[0][0] == 1, "the last change is two seconds old", 20)
    await reading.look()
    statements.clear()
    await reading.look()
    assert [("crc32" in statement) for statement in statements] == [False]
    database.execute("UPDATE device SET n = 2")
    assert (await reading.look())[DEVICE] == {"a": {"id": "a", "n": 2}}
    database.execute("UPDATE device SET n = 3")
    assert (await reading.look())[DEVICE] == {"a": {"id": "a", "n": 3}}, "within the same second"
    await reading.close()
    await database.engine.dispose()
