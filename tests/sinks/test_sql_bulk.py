"""The sql sink's quick way leaves the same rows and dead letters as its careful one, and its lookups are few."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from engine.database import open_database
from engine.errors import Unavailable
from engine.event import Event
from engine.tables import create
from tests.process import wait_until
from tests.services import MariaDB
from tests.sinks.sql_case import NASTY, World, event, readings

NAN, INF = float("nan"), float("inf")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOSTILE: dict[str, list[Any]] = {
    "device": [*NASTY, "\\N", "\t", "x" * 50, "x" * 51, "Ā" * 50, "🚗" * 50, "🚗" * 51, 5, True, 1.5, [], {}, "\ud800", b"x"],
    "note": ["x" * 65_535, "x" * 65_536, "ü" * 32_767, "ü" * 32_768, "'" * 20_000, "\\" * 20_000],
    "car_id": [0, -1, 2**63 - 1, -(2**63), 2**63, 3.0, -0.0, 1.5, 1e19, NAN, INF, True, "7", []],
    "score": [0.0, -0.0, 0.1, 1e308, 5e-324, 1e22, 123456.789e-7, NAN, INF, -INF, 10**400, 2**53 + 1, 7, True, "1"],
    "ok": [True, False, 0, 1, 2, 1.0, "yes"],
    "day": [date(2026, 1, 31), "2026-01-31", "20260131", "2026-02-30", "9999-12-31", NOON, "", 5],
    "detail": [{}, [], "", 'a"\'\\\n', {"a": [1.5, None, True, "🚗"]}, {"\\": "\\u0000\0"}, 2**64 - 1, {1j: 2}, NAN],
    "picture": [b"", bytes(range(256)), bytearray(b"'\\"), "AAEC/w==", "no base64!", 5],
    "created_at": [
        NOON, NOON.replace(microsecond=1), datetime(2026, 1, 31, 21, tzinfo=timezone(timedelta(hours=9))),
        NOON.replace(tzinfo=None), "2026-01-31T12:00:00.5Z", "2026-01-31 12:00:00+09:00", datetime(1969, 7, 20, 20, 17, 40, 5, UTC),
        "2999-12-31T23:59:59.999999Z", "0001-01-01T00:00+05", "noon", 1769860800,
    ],
    "id": [0, -1, 1.5, "7"],
}  # fmt: skip


def hostile() -> list[Event]:
    data = [{name: value} for name, values in HOSTILE.items() for value in values]
    return [event(number, {"result": "OK", **one}) for number, one in enumerate(data)]


def attended() -> list[Event]:
    """Return events of which some collide in a unique key, some are repeated and some cannot be."""
    names = ["anna", "Anna", "bo", "anna", "x" * 51, "cy", "bo", None, None]
    events = [event(n, {"employee": name, "day": "2026-01-31"}) for n, name in enumerate(names)]
    return [*events, events[2], event(50, {"employee": "dee", "id": 3}), event(51, {"employee": "eva", "id": 3})]


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
async def worlds(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[World]]:
    """Two databases of a kind."""
    if request.param == "sqlite":
        urls = [f"sqlite:///{tmp_path / name}" for name in ("quick.db", "careful.db")]
    else:
        server = request.getfixturevalue(request.param)
        urls = [server.database(f"bulk_{uuid4().hex[:12]}") for _ in range(2)]
    found = [World(open_database(url)) for url in urls]
    for world in found:
        await create(world.database, world.metadata)
    yield found
    for world in found:
        await world.database.dispose()


@pytest.fixture
async def on_mariadb(mariadb: MariaDB) -> AsyncIterator[World]:
    world = World(open_database(mariadb.database(f"bulk_{uuid4().hex[:12]}")))
    await create(world.database, world.metadata)
    yield world
    await world.database.dispose()


async def written(world: World, events: list[Event], times: int, *, quick: bool, **options: Any) -> list[Any]:
    """Return the rows and the dead letters of events that are written so many times."""
    async with world.sink(**options) as writer:
        if not quick:
            writer._bulk = None
        for _ in range(times):
            await writer.write(events)
    table = world.metadata.tables[options["table"]]
    async with world.database.connect() as connection:
        chosen = sa.select(*(column for column in table.columns if column.name != "id")).order_by(table.c._event)
        rows = [tuple(row) for row in await connection.execute(chosen)]
    return [rows, sorted((one.id, reason, repr(values)) for _, one, reason, values in world.letters)]


@pytest.mark.parametrize("batch", [3, 1000])
@pytest.mark.parametrize("times", [1, 2])
async def test_hostile_values(worlds: list[World], batch: int, times: int) -> None:
    quick, careful = worlds
    found = await written(quick, hostile(), times, quick=True, table="sensor_result", batch=batch)
    assert found == await written(careful, hostile(), times, quick=False, table="sensor_result", batch=batch)
    assert len(found[0]) > 60
    assert len(found[1]) > 30 * times


@pytest.mark.parametrize("batch", [1, 4, 1000])
async def test_repeats_and_taken_keys(worlds: list[World], batch: int) -> None:
    quick, careful = worlds
    found = await written(quick, attended(), 2, quick=True, table="attendance", batch=batch)
    assert found == await written(careful, attended(), 2, quick=False, table="attendance", batch=batch)
    free = batch == 1000 and quick.database.dialect.name == "postgresql"  # it counts on from the 3 that is given
    assert [row[0] for row in found[0]] == ["anna", "Anna", "bo", "cy", None, None] + ["dee"] * free
    reasons = [
        "duplicate employee, day (anna, 2026-01-31)",
        "duplicate employee, day (bo, 2026-01-31)",
        "duplicate id 3",
    ]
    assert {one: sum(one in reason for _, reason, _ in found[1]) for one in reasons} == dict.fromkeys(reasons, 2) | {
        "duplicate id 3": 2 if free else 4
    }


async def test_what_only_the_database_refuses(worlds: list[World]) -> None:
    for world in worlds:
        if world.database.dialect.name != "sqlite":
            await world.run("ALTER TABLE sensor_result ADD CONSTRAINT known CHECK (result <> 'TIMEOUT')")
        else:
            await world.run(
                "CREATE TRIGGER known BEFORE INSERT ON sensor_result WHEN new.result = 'TIMEOUT' "
                "BEGIN SELECT RAISE(ABORT, 'known'); END"
            )
    events = readings(50)
    for at in (0, 20, 21, 49):
        events[at] = event(at, {"result": "TIMEOUT"})
    quick, careful = worlds
    found = await written(quick, events, 1, quick=True, table="sensor_result", batch=15)
    rows, letters = await written(careful, events, 1, quick=False, table="sensor_result", batch=15)
    assert found[0] == rows
    assert [(one, "known" in reason) for one, reason, _ in found[1]] == [(one, True) for one, _, _ in letters]
    assert len(letters) == 4
    in_order = await quick.rows("SELECT device FROM sensor_result ORDER BY id")
    assert in_order == [(one.data["device"],) for one in events if "device" in one.data]


async def test_serials_follow_the_events_without_gaps(worlds: list[World]) -> None:
    for world in worlds:
        events = [event(n, {"car_id": float(n) if n % 3 else n, "device": f"d{n % 5}"}) for n in range(2500)]
        await world.write(events, table="sensor_result")
        found = await world.rows("SELECT id, car_id FROM sensor_result ORDER BY id")
        assert found == [(n + 1, n) for n in range(2500)]


async def test_rows_that_sqlite_takes_in_several_statements(tmp_path: Path) -> None:
    world = World(open_database(f"sqlite:///{tmp_path / 'test.db'}"))
    await create(world.database, world.metadata)
    async with world.sink(table="sensor_result", batch=10_000) as writer:
        await writer.write(readings(9000))
        await writer.write(readings(9000))
    assert await world.rows("SELECT COUNT(*), MAX(id) FROM sensor_result") == [(9000, 9000)]
    assert world.letters == []
    await world.database.dispose()


@contextmanager
def general_log(mariadb: MariaDB) -> Iterator[list[str]]:
    mariadb.execute("TRUNCATE mysql.general_log", "SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1")
    statements: list[str] = []
    yield statements
    mariadb.execute("SET GLOBAL general_log = 0")
    log = mariadb.execute("SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type = 'Query'")
    words = (str(row[0]).split(" ", 2) for row in log)
    statements += [" ".join(found[:2]) for found in words if found[0] in ("INSERT", "SELECT") and len(found) > 2]


async def test_repeats_are_looked_up_until_something_new_comes(on_mariadb: World, mariadb: MariaDB) -> None:
    async with on_mariadb.sink(table="sensor_result", batch=100) as writer:
        await writer.write(readings(300))
        with general_log(mariadb) as statements:
            await writer.write(readings(500))
    insert, count = "INSERT INTO", "SELECT COUNT(*)"
    assert [one for one in statements if one in (insert, count)] == [insert, *[count] * 4, insert, insert]
    assert await on_mariadb.rows("SELECT COUNT(*) FROM sensor_result") == [(500,)]


async def test_a_batch_that_is_there_in_part(worlds: list[World]) -> None:
    for world in worlds:
        async with world.sink(table="sensor_result", batch=100) as writer:
            await writer.write(readings(260))
            for _ in range(2):
                await writer.write(readings(400)[::2])
            await writer.write(readings(400))
        assert await world.rows("SELECT COUNT(*), COUNT(DISTINCT car_id) FROM sensor_result") == [(400, 40)]


async def test_a_deadlock_is_tried_again(on_mariadb: World) -> None:
    await on_mariadb.run(
        "CREATE TRIGGER locked BEFORE INSERT ON sensor_result FOR EACH ROW "
        "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'deadlock'"
    )
    async with on_mariadb.sink(table="sensor_result", batch=10) as writer:
        with pytest.raises(Unavailable, match="1213"):
            await writer.write(readings(30))
        await on_mariadb.run("DROP TRIGGER locked")
        await writer.write(readings(30))
    assert await on_mariadb.rows("SELECT COUNT(*) FROM sensor_result") == [(30,)]
    assert on_mariadb.letters == []


async def test_a_locked_file_is_tried_again(tmp_path: Path) -> None:
    world = World(open_database(f"sqlite:///{tmp_path / 'test.db'}"))
    await create(world.database, world.metadata)
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    async with world.sink(table="sensor_result") as writer:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            await writer.write(readings(10))
        other.execute("COMMIT")
        await writer.write(readings(10))
    other.close()
    assert await world.rows("SELECT COUNT(*) FROM sensor_result") == [(10,)]
    await world.database.dispose()


async def test_a_write_can_be_given_up(on_mariadb: World, mariadb: MariaDB) -> None:
    """The lock is somebody else's; what was given up leaves no task behind and may be written later."""
    async with on_mariadb.sink(table="sensor_result", batch=10) as writer:
        async with on_mariadb.database.connect() as other:
            await other.exec_driver_sql("LOCK TABLES sensor_result WRITE")
            writing = asyncio.create_task(writer.write(readings(30)))
            waits = "SELECT 1 FROM information_schema.processlist WHERE state LIKE 'Waiting for table%'"
            await asyncio.to_thread(wait_until, lambda: mariadb.execute(waits), "the write waits")
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            await other.exec_driver_sql("UNLOCK TABLES")
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await writer.write(readings(30))
    assert await on_mariadb.rows("SELECT COUNT(*) FROM sensor_result") == [(30,)]
