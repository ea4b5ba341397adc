"""The sql sink against SQLite and a real MariaDB: exactly once as seen in the table."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from engine.database import open_database, transaction
from engine.errors import Unavailable
from engine.table import Table
from engine.tables import create
from sinks.sql import Sql
from tests.services import MariaDB
from tests.sinks.sql_case import NASTY, TABLES, World, event, readings


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.db'}"
    else:
        url = request.getfixturevalue(request.param).database(f"sink_{uuid4().hex[:12]}")
    world = World(open_database(url))
    await create(world.database, world.metadata)
    yield world
    await world.database.dispose()


@pytest.fixture
async def on_mariadb(mariadb: MariaDB) -> AsyncIterator[World]:
    world = World(open_database(mariadb.database(f"sink_{uuid4().hex[:12]}")))
    await create(world.database, world.metadata)
    yield world
    await world.database.dispose()


async def test_five_thousand_rows_appended_twice_are_five_thousand(world: World) -> None:
    async with world.sink(table="sensor_result") as writer:
        await writer.write(readings(5000))
        await writer.write(readings(5000)[::-1])
    assert await world.rows("SELECT COUNT(*), COUNT(DISTINCT _event), MIN(id) FROM sensor_result") == [(5000, 5000, 1)]
    assert world.letters == []


@contextmanager
def general_log(mariadb: MariaDB) -> Iterator[list[str]]:
    mariadb.execute("TRUNCATE mysql.general_log", "SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1")
    statements: list[str] = []
    yield statements
    mariadb.execute("SET GLOBAL general_log = 0")
    log = mariadb.execute("SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type = 'Query'")
    statements += [str(row[0]) for row in log]


async def test_a_batch_is_one_statement(on_mariadb: World, mariadb: MariaDB) -> None:
    with general_log(mariadb) as statements:
        await on_mariadb.write(readings(2500), table="sensor_result")
    inserts = [statement for statement in statements if statement.startswith("INSERT INTO")]
    assert [statement.count("),(") + 1 for statement in inserts] == [1000, 1000, 500]


async def test_a_text_that_is_too_long_costs_itself(world: World) -> None:
    events = readings(1000)
    events[333] = event(333, {"device": "x" * 51, "result": "OK"})
    await world.write(events, table="sensor_result")
    assert await world.rows("SELECT COUNT(*) FROM sensor_result") == [(999,)]
    [(node, bad, reason, values)] = world.letters
    assert (node, bad.id) == ("results", events[333].id)
    assert reason == "column device: text of at most 50 characters; got 51"
    fields = [{"field": "device", "expected": "text of at most 50 characters", "got": "51"}]
    assert values == {"column": "device", "limit": 50, "length": 51, "fields": fields}


async def test_text_arrives_as_it_is(world: World) -> None:
    postgresql = world.database.dialect.name == "postgresql"
    nasty = [text for text in NASTY if "\0" not in text or not postgresql]  # which refuses NUL: see test_database
    events = [event(n, {"device": text, "note": text, "detail": {text: [text]}}) for n, text in enumerate(nasty)]
    await world.write([*events, event(99, {"note": "🚗" * 16_383})], table="sensor_result")
    assert world.letters == []
    table = world.metadata.tables["sensor_result"]
    async with world.database.connect() as connection:
        rows = (await connection.execute(sa.select(table).order_by(table.c.id))).mappings().all()
    assert [(row["device"], row["note"], row["detail"]) for row in rows[:-1]] == [(t, t, {t: [t]}) for t in nasty]
    assert len(rows[-1]["note"]) == 16_383


async def test_every_byte_arrives(world: World) -> None:
    picture = bytes(range(256)) * 3
    await world.write([event(1, {"picture": picture}), event(2, {"picture": "AAEC/w=="})], table="sensor_result")
    assert await world.rows("SELECT picture FROM sensor_result ORDER BY id") == [(picture,), (b"\0\1\2\xff",)]


@pytest.mark.parametrize("zone", ["+00:00", "+09:00"])
async def test_times_keep_their_microseconds_in_any_zone(mariadb: MariaDB, zone: str, on_mariadb: World) -> None:
    mariadb.execute(f"SET GLOBAL time_zone = '{zone}'")
    try:
        await _check_times(on_mariadb)
    finally:
        mariadb.execute("SET GLOBAL time_zone = 'SYSTEM'")


async def test_times_keep_their_microseconds(world: World) -> None:
    await _check_times(world)


async def _check_times(world: World) -> None:
    seoul = datetime(2026, 1, 31, 21, 0, 0, 999999, timezone(timedelta(hours=9)))
    given = [None, "2026-01-31T12:00:00.000001Z", "2026-01-31 12:00:00", "2026-01-31T21:00:00+09:00", seoul]
    events = [event(n, {"created_at": time} if time else {}, "by_hand") for n, time in enumerate(given)]
    await world.write(events, table="sensor_result")
    kept = [world.answers[one.id][1]["created_at"] for one in events]
    assert kept == [f"2026-01-31T12:00:00{fraction}Z" for fraction in (".123456", ".000001", "", "", ".999999")]
    stored = await world.rows("SELECT created_at FROM sensor_result ORDER BY id LIMIT 1")
    assert str(stored[0][0]) == "2026-01-31 12:00:00.123456"


async def test_the_stored_row_is_the_answer_also_to_a_repeat(world: World) -> None:
    data = {"car_id": 4, "device": "LED", "ok": True, "score": 0.5, "day": "2026-01-31", "detail": {"a": [1, None]}}
    asked = event(1, data, "by_hand")
    await world.write([event(0, {}), asked], table="sensor_result")
    status, row = world.answers.pop(asked.id)
    assert status == 201
    assert list(row) == list(TABLES["sensor_result"].columns)
    assert row == {
        "id": 2, **data, "result": None, "note": None, "picture": None, "created_at": "2026-01-31T12:00:00.123457Z",
    }  # fmt: skip
    await world.write([asked], table="sensor_result")
    assert world.answers == {asked.id: (201, row)}


async def test_a_taken_id_goes_to_the_dead_letters(world: World) -> None:
    await world.write([event(1, {"id": 7, "device": "LED"})], table="sensor_result")
    again = event(2, {"id": 7, "device": "WHEEL"}, "by_hand")
    await world.write([event(1, {"id": 7, "device": "LED"}), again, event(3, {})], table="sensor_result")
    assert world.reasons == ["duplicate id 7 in sensor_result"]
    assert await world.rows("SELECT id, device FROM sensor_result ORDER BY id") == [(7, "LED"), (8, None)]
    assert world.answers[again.id][0] == 409
    assert world.answers[again.id][1]["error"]["message"] == "duplicate id 7 in sensor_result"


async def test_a_unique_key_that_is_taken_within_a_batch(world: World) -> None:
    events = [event(n, {"employee": "anna", "day": "2026-01-31"}) for n in range(3)]
    await world.write([*events, event(9, {"employee": "Anna", "day": "2026-01-31"})], table="attendance")
    assert world.reasons == ["duplicate employee, day (anna, 2026-01-31) in attendance"] * 2
    assert await world.rows("SELECT employee FROM attendance ORDER BY id") == [("anna",), ("Anna",)]


async def test_what_only_the_database_refuses_is_narrowed_down(world: World) -> None:
    if world.database.dialect.name != "sqlite":
        await world.run("ALTER TABLE sensor_result ADD CONSTRAINT known CHECK (result <> 'TIMEOUT')")
    else:
        await world.run(
            "CREATE TRIGGER known BEFORE INSERT ON sensor_result WHEN new.result = 'TIMEOUT' "
            "BEGIN SELECT RAISE(ABORT, 'known'); END"
        )
    events = readings(1000)
    for at in (0, 500, 501, 999):
        events[at] = event(at, {"result": "TIMEOUT"})
    await world.write(events, table="sensor_result")
    assert await world.rows("SELECT COUNT(*) FROM sensor_result") == [(996,)]
    assert [letter[1].id for letter in world.letters] == [events[at].id for at in (0, 500, 501, 999)]
    assert all("known" in reason for reason in world.reasons)


A_TIME = "a time like 2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"car_id": True}, "column car_id: a whole number; got True"),
        ({"car_id": 1.5}, "column car_id: a whole number; got 1.5"),
        ({"car_id": "7"}, "column car_id: a whole number; got '7'"),
        ({"car_id": 2**63}, "column car_id: a whole number of 64 bits; got 9223372036854775808"),
        ({"id": 0}, "column id: a whole number from 1 on; got 0"),
        ({"score": float("nan")}, "column score: a finite number; got nan"),
        ({"score": True}, "column score: a number; got True"),
        ({"score": 10**400}, f"column score: a number below 1.8e308; got 1{'0' * 58}…"),
        ({"ok": "yes"}, "column ok: true or false; got 'yes'"),
        ({"device": ["LED"]}, "column device: text; got ['LED']"),
        ({"device": "\ud800"}, "column device: text that can be written as UTF-8; got '\\ud800'"),
        ({"note": "ü" * 32_768}, "column note: text of at most 65535 bytes; got 65536"),
        ({"day": "31.1.2026"}, "column day: a date like 2026-01-31; got '31.1.2026'"),
        ({"created_at": 1769860800}, f"column created_at: {A_TIME}; got 1769860800"),
        ({"created_at": "0001-01-01T00:00+05"}, f"column created_at: {A_TIME}; got '0001-01-01T00:00+05'"),
        ({"detail": {1j: 2}}, "column detail: a value that can be written as JSON; got {1j: 2}"),
        ({"picture": "no base64!"}, "column picture: bytes, or text in base64; got 'no base64!'"),
        ({"ok": 2, "car_id": "x"}, "column car_id: a whole number; got 'x'; column ok: true or false; got 2"),
    ],
)  # fmt: skip
async def test_values_are_checked_before_the_database(tmp_path: Path, data: dict[str, Any], reason: str) -> None:
    world = World(open_database(f"sqlite:///{tmp_path / 'never.db'}"))
    await world.write([event(1, data)], table="sensor_result")
    assert world.reasons == [reason]
    assert not (tmp_path / "never.db").exists()


async def test_columns_take_expressions(world: World) -> None:
    columns = {"car_id": "number", "created_at": "meta.time", "note": "meta.topic", "score": "1 / zero"}
    good, bad = event(1, {"number": 3, "zero": 4}, "by_hand"), event(2, {"number": 3, "zero": 0})
    await world.write([good, bad], table="sensor_result", columns=columns)
    row = world.answers[good.id][1]
    assert (row["car_id"], row["note"], row["score"]) == (3, "sensor/result", 0.25)
    assert row["created_at"] == "2026-01-31T12:00:00.123457Z"
    assert [letter[3] for letter in world.letters] == [{"column": "score", "expression": "1 / zero"}]


async def test_upsert_keeps_the_last_state_of_each_key(world: World) -> None:
    states = [("LED", "OK"), ("WHEEL", "OK"), ("LED", "DEFECT")]
    events = [event(n, {"device": device, "state": state}) for n, (device, state) in enumerate(states)]
    asked = event(9, {"device": "LED", "temperature": 21.5}, "by_hand")
    for _ in range(2):
        batch = [*events, asked, event(10, {"state": "OK"})]
        await world.write(batch, table="device_state", mode="upsert", by=["device"])
    rows = await world.rows("SELECT device, state, temperature FROM device_state ORDER BY device")
    assert rows == [("LED", "DEFECT", 21.5), ("WHEEL", "OK", None)]
    assert world.answers[asked.id] == (201, {"device": "LED", "slot": None, "state": "DEFECT", "temperature": 21.5})
    assert world.reasons == ["column device: a value, for rows are told by it; got none"] * 2


async def test_upsert_never_writes_over_the_row_of_another_key(world: World) -> None:
    first = [event(1, {"device": "LED", "slot": 1, "state": "OK"}), event(2, {"device": "WHEEL", "slot": 2})]
    await world.write(first, table="device_state", mode="upsert", by=["device"])
    events = [event(3, {"device": "BUZZER", "slot": 1, "state": "BAD"}), event(4, {"device": "WHEEL", "state": "OK"})]
    await world.write(events, table="device_state", mode="upsert", by=["device"])
    rows = await world.rows("SELECT device, slot, state FROM device_state ORDER BY device")
    assert rows == [("LED", 1, "OK"), ("WHEEL", 2, "OK")]
    assert [letter[1].id for letter in world.letters] == [events[0].id]


async def test_upsert_goes_by_the_serial_where_no_other_key_is_given(world: World) -> None:
    await world.write([event(1, {"id": 5, "device": "LED"})], table="sensor_result", mode="upsert")
    await world.write([event(2, {"id": 5, "result": "OK"})], table="sensor_result", mode="upsert")
    assert await world.rows("SELECT id, device, result FROM sensor_result") == [(5, "LED", "OK")]


async def test_a_server_that_goes_away_costs_nothing(on_mariadb: World, mariadb: MariaDB) -> None:
    async with on_mariadb.sink(table="sensor_result") as writer:
        await writer.write(readings(100))
        mariadb.stop()
        events = [*readings(200), event(999, {"device": 1.5})]
        for _ in range(2):
            with pytest.raises(Unavailable, match="error 20"):
                await writer.write(events)
        assert on_mariadb.letters == []
        mariadb.start()
        await writer.write(events)
    assert await on_mariadb.rows("SELECT COUNT(*) FROM sensor_result") == [(200,)]
    assert len(on_mariadb.letters) == 1


async def test_a_connection_that_is_killed_costs_nothing(on_mariadb: World, mariadb: MariaDB) -> None:
    async with on_mariadb.sink(table="sensor_result") as writer:
        await writer.write(readings(10))
        for (number,) in mariadb.execute("SELECT id FROM information_schema.processlist WHERE db LIKE 'sink_%'"):
            mariadb.execute(f"KILL {number}")
        await writer.write(readings(20))
    assert await on_mariadb.rows("SELECT COUNT(*) FROM sensor_result") == [(20,)]


async def test_rows_that_no_packet_takes(on_mariadb: World) -> None:
    six, twenty = b"'" * 6_000_000, b"x" * 20_000_000
    events = [event(n, {"picture": picture}) for n, picture in enumerate([six, six, six, twenty, b"small"])]
    async with on_mariadb.sink(table="sensor_result") as writer:
        await writer.write(events)
        await writer.write([event(9, {"picture": twenty})])
    assert await on_mariadb.rows("SELECT LENGTH(picture) FROM sensor_result ORDER BY id") == [(6_000_000,)] * 3 + [(5,)]
    assert [bad.id for _, bad, _, _ in on_mariadb.letters] == [events[3].id, event(9, {}).id]
    for _, _, reason, values in on_mariadb.letters:
        assert reason.startswith("a row of at most 16711680 bytes; got 40000")
        assert values["limit"] == 16_711_680


async def test_a_table_that_is_not_there_is_waited_for(world: World) -> None:
    await world.run("DROP TABLE attendance")
    with pytest.raises(Unavailable, match="attendance"):
        await world.write([event(1, {"employee": "anna"})], table="attendance")
    await create(world.database, world.metadata)
    await world.write([event(1, {"employee": "anna"})], table="attendance")
    assert await world.rows("SELECT employee FROM attendance") == [("anna",)]


async def test_only_the_sinks_own_connections_leave_references_unchecked(on_mariadb: World) -> None:
    await on_mariadb.write([event(1, {"car_id": 4711})], table="sensor_result")
    assert await on_mariadb.rows("SELECT car_id FROM sensor_result") == [(4711,)]
    with pytest.raises(sa.exc.IntegrityError):
        await on_mariadb.run("INSERT INTO sensor_result (car_id) VALUES (4712)")


async def test_two_writers_of_one_sqlite_file_wait_for_each_other(tmp_path: Path) -> None:
    world = World(open_database(f"sqlite:///{tmp_path / 'test.db'}"))
    await create(world.database, world.metadata)
    async with world.sink(table="sensor_result") as one, transaction(world.database) as reading:
        assert (await reading.execute(sa.text("SELECT COUNT(*) FROM sensor_result"))).scalar() == 0
        await one.write(readings(10))
        assert (await reading.execute(sa.text("SELECT COUNT(*) FROM sensor_result"))).scalar() == 0
    assert await world.rows("SELECT COUNT(*) FROM sensor_result") == [(10,)]
    await world.database.dispose()


def found(**options: Any) -> list[tuple[str, str, str, str]]:
    tables = TABLES | {"employees": Table.parse("employees", {"view": "accounts"})}
    flow: Any = SimpleNamespace(tables=tables)
    return [(p.code, p.option, p.message, p.hint) for p in Sql(**options).check(flow, SimpleNamespace(name="results"))]  # type: ignore[arg-type]


def test_check_finds_nothing_in_what_is_right() -> None:
    assert found(table="car") == []
    assert found(table="car", mode="upsert") == []
    assert found(table="attendance", mode="upsert", by=["day", "employee"], columns={"employee": "name"}) == []


def test_check_names_what_is_wrong() -> None:
    known = "a table of the flow (car, sensor_result, attendance, device_state)"
    assert found(table="sensor_results") == [
        ("unknown-table", "table", f"{known}; got 'sensor_results'", "did you mean 'sensor_result'?")
    ]
    assert found(table="employees") == [("unknown-table", "table", f"{known}; got view 'employees'", "")]
    columns = "a column of table 'car' (id, created_at); got"
    assert found(table="car", columns={"idd": "1"}, by=["created"]) == [
        ("unknown-column", "columns.idd", f"{columns} 'idd'", "did you mean 'id'?"),
        ("unknown-column", "by.0", f"{columns} 'created'", "did you mean 'created_at'?"),
        ("option-value", "by", "mode upsert with it; got append", "mode: upsert"),
    ]
    assert found(table="device_state", mode="upsert") == [
        ("option-value", "by", "the columns that tell rows apart: table 'device_state' has no serial", "")
    ]
    unique = "columns that are unique in table 'attendance' together"
    assert found(table="attendance", mode="upsert", by=["day"]) == [
        ("option-value", "by", unique, "attendance: {unique: [[day]]}")
    ]
