"""Tables of a new version: what is to change is said with what it costs, and what is done can be done again."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.database import open_database
from engine.errors import EnvironmentFault, Unavailable
from engine.table import Table
from engine.table_changes import TableChange, apply_changes, table_changes
from engine.tables import create, to_sqlalchemy
from tests.services import MariaDB, PostgreSQL

CAR = {"id": "serial", "plate": "text(20)", "speed": "int", "at": "time"}
RESULT = {
    "id": "serial",
    "car_id": "car.id",
    "device": "text(10)",
    "unique": [["car_id", "device"]],
    "index": [["device"]],
}


def tables(appended: tuple[str, ...] = (), **specs: Any) -> sa.MetaData:
    parsed = {name: Table.parse(name, spec) for name, spec in specs.items()}
    return to_sqlalchemy(parsed, appended)


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.db'}"
    else:
        url = request.getfixturevalue(request.param).database(f"changes_{uuid4().hex[:12]}")
    engine = open_database(url)
    yield engine
    await engine.dispose()


async def run(engine: AsyncEngine, *statements: str) -> list[Any]:
    async with engine.begin() as connection:
        for statement in statements:
            result = await connection.exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []


async def columns(engine: AsyncEngine, table: str) -> list[str]:
    async with engine.connect() as connection:
        return [c["name"] for c in await connection.run_sync(lambda sync: sa.inspect(sync).get_columns(table))]


async def change(
    engine: AsyncEngine, before: sa.MetaData, after: sa.MetaData, *, destructive: bool = True
) -> list[TableChange]:
    """Make the changes, and see that nothing is left to do and that the new version starts."""
    found = await table_changes(engine, after, {}, before)
    await apply_changes(engine, after, {}, found, destructive=destructive)
    left = await table_changes(engine, after, {}, before)
    assert [c for c in left if destructive or not c.optional] == []
    assert await create(engine, after) == []
    return found


def texts(changes: list[TableChange]) -> list[str]:
    return [str(one) for one in changes]


async def test_a_first_version_and_an_equal_one(database: AsyncEngine) -> None:
    flow = tables(("sensor_result",), car=CAR, sensor_result=RESULT)
    assert texts(await change(database, sa.MetaData(), flow)) == ["table car: new", "table sensor_result: new"]
    assert await table_changes(database, flow, {}, flow) == []
    assert await table_changes(database, flow, {}, None) == []


async def test_what_adds_and_widens_needs_no_flag(database: AsyncEngine) -> None:
    before = tables(car=CAR, sensor_result=RESULT)
    await create(database, before)
    await run(database, "INSERT INTO car (plate, speed) VALUES ('HH-1', 7), ('HH-2', NULL)")
    await run(database, "INSERT INTO sensor_result (car_id, device) VALUES (1, 'led'), (2, 'led')")
    after = tables(
        ("sensor_result",),
        car=CAR | {"plate": "text(50)", "speed": "number", "line": "int", "unique": [["plate"]]},
        sensor_result=RESULT | {"device": "text(16)", "index": []},
        shift={"id": "serial", "car_id": "car.id"},
    )
    found = await change(database, before, after, destructive=False)
    assert texts(found) == [
        "table shift: new",
        "column car.line: new, int",
        "column sensor_result._event: new, for the sink that appends",
        "unique index of sensor_result on _event: new",
        "index of sensor_result on device: dropped",
        "column car.plate: text(20) becomes text(50)",
        "column car.speed: int becomes number",
        "column sensor_result.device: text(10) becomes text(16)",
        "unique index of car on plate: new",
    ]
    assert not any(one.destructive for one in found)
    assert [one.early for one in found] == [True, True, True, False, False, False, False, False, False]
    assert await run(database, "SELECT plate, speed, line FROM car ORDER BY id") == [
        ("HH-1", 7.0, None), ("HH-2", None, None),
    ]  # fmt: skip
    assert await columns(database, "car") == ["id", "plate", "speed", "at", "line"]
    with pytest.raises(sa.exc.IntegrityError):
        await run(database, "INSERT INTO sensor_result (car_id, device) VALUES (1, 'led')")


async def test_what_takes_away_needs_the_flag_and_says_what_goes(database: AsyncEngine) -> None:
    before = tables(("sensor_result",), car=CAR, sensor_result=RESULT)
    await create(database, before)
    await run(database, "INSERT INTO car (plate, speed) VALUES ('HH-1', 7), ('HH-2', NULL)")
    await run(database, "CREATE TABLE people (id INT)", "ALTER TABLE car ADD COLUMN theirs INT")
    after = tables(car={"id": "serial", "plate": "text(20)", "at": "time"})
    found = await table_changes(database, after, {}, before)
    assert [(str(one), one.destructive, one.optional) for one in found] == [
        ("column car.speed: dropped: 1 values are deleted", True, True),
        ("table sensor_result: dropped: 0 rows are deleted", True, True),
    ]
    assert await apply_changes(database, after, {}, found, destructive=False) == []
    assert "speed" in await columns(database, "car")
    await change(database, before, after)
    assert await columns(database, "car") == ["id", "plate", "at", "theirs"]
    assert await columns(database, "people") == ["id"]
    async with database.connect() as connection:
        assert await connection.run_sync(lambda sync: sorted(sa.inspect(sync).get_table_names())) == ["car", "people"]


async def test_what_another_flow_declares_is_not_dropped(database: AsyncEngine) -> None:
    before = tables(car=CAR, sensor_result=RESULT)
    await create(database, before)
    after = tables(shift={"id": "serial"}, car={"id": "serial", "plate": "text(30)"})
    other = tables(car=CAR, sensor_result=RESULT)
    found = await table_changes(database, after, {}, before, [other])
    assert texts(found) == [
        "table shift: new",
        "column car.plate: text(20) becomes text(30): another flow on this database declares it as text(20)",
    ]
    with pytest.raises(EnvironmentFault, match=r"another flow on this database declares it as text\(20\)"):
        await apply_changes(database, after, {}, found, destructive=True)


MOMENT = "2026-01-31 12:00:00.5"
EMPTIED = "cannot be converted and would be emptied"


@pytest.mark.parametrize(
    ("old", "new", "given", "left", "lossy"),
    [
        ("text(20)", "text(3)", ["abc", "abcd", "äöüß"], ["abc", "abc", "äöü"], "2 values are longer and would be cut"),
        ("text", "text(3)", ["abc", "abcd"], ["abc", "abc"], "1 values are longer and would be cut"),
        ("text(20)", "int", ["12", "-3", "1.5", "x", ""], [12, -3, None, None, None], f"3 values {EMPTIED}"),
        ("text(20)", "number", ["12", "-1.5e3", "x", "1x"], [12.0, -1500.0, None, None], f"2 values {EMPTIED}"),
        ("text(20)", "bool", ["1", "0", "yes"], [1, 0, None], f"1 values {EMPTIED}"),
        ("text(20)", "date", ["2026-01-31", "2026-02-30", "x"], ["2026-01-31", None, None], f"2 values {EMPTIED}"),
        ("text(40)", "time", ["2026-01-31T12:00:00Z", MOMENT, "2026-13-01 12:00:00", "x"],
         ["2026-01-31 12:00:00.000000", "2026-01-31 12:00:00.500000", None, None], f"2 values {EMPTIED}"),
        ("text", "json", ["[1]", "{"], ["[1]", None], f"1 values {EMPTIED}"),
        ("json", "text(5)", ["[1]", "[1, 2, 3]"], ["[1]", None], f"1 values {EMPTIED}"),
        ("number", "int", [2.0, 2.6, 1e30], [2, 3, None], "2 values would be rounded"),
        ("number", "text(4)", [1.5, 123.456], ["1.5", None], f"1 values {EMPTIED}"),
        ("int", "number", [7, 2**60], [7.0, float(2**60)], "1 values are beyond 2^53 and would be rounded"),
        ("int", "number", [7], [7.0], ""),
        ("int", "bool", [0, 1, 2], [0, 1, None], f"1 values {EMPTIED}"),
        ("int", "text", [7, -8], ["7", "-8"], ""),
        ("int", "text(1)", [7, -8], ["7", None], f"1 values {EMPTIED}"),
        ("bool", "int", [1, 0], [1, 0], ""),
        ("date", "time", ["2026-01-31"], ["2026-01-31 00:00:00.000000"], ""),
        ("time", "date", ["2026-01-31 00:00:00.000000", "2026-01-31 12:00:00.000000"], ["2026-01-31", "2026-01-31"],
         "1 values would lose their time of day"),
        ("time", "text(30)", ["2026-01-31 12:00:00.000000"], ["2026-01-31 12:00:00.000000"], "nothing"),
        ("date", "bool", ["2026-01-31"], [None], f"1 values {EMPTIED}"),
        ("bytes", "int", ["x"], [None], f"1 values {EMPTIED}"),
    ],
)  # fmt: skip
async def test_values_of_a_changed_type(
    database: AsyncEngine, old: str, new: str, given: list[Any], left: list[Any], lossy: str
) -> None:
    before, after = tables(t={"n": "int", "x": old, "z": "int"}), tables(t={"n": "int", "x": new, "z": "int"})
    await create(database, before)
    given = [bool(value) for value in given] if old == "bool" else given
    values = ", ".join(f"({n}, {value!r}, {n})" for n, value in enumerate(given))
    await run(database, f"INSERT INTO t VALUES {values}, (99, NULL, 99)")  # noqa: S608
    found = await table_changes(database, after, {}, before)
    assert [(one.kind, one.destructive, one.lossy) for one in found] == [("type", bool(lossy), lossy)]
    if lossy:
        with pytest.raises(EnvironmentFault, match=r"only when told to: column t\.x"):
            await apply_changes(database, after, {}, found, destructive=False)
    await change(database, before, after)
    got = await run(database, "SELECT x, z FROM t ORDER BY n")
    kind = type(left[0])
    shown = [(str(x) if kind is str and x is not None else x, z) for x, z in got]
    shown = [(x + ".000000" if len(str(x)) == 19 and new == "time" else x, z) for x, z in shown]
    assert shown == [*((value, n) for n, value in enumerate(left)), (None, 99)]
    assert [type(x) for x, _ in got] == [type(x) for x, _ in got if x is None or kind is str or isinstance(x, kind)]
    assert await columns(database, "t") == ["n", "x", "z"]


async def test_a_unique_index_over_what_is_there_twice_is_refused(database: AsyncEngine) -> None:
    before, after = (
        tables(t={"a": "int", "b": "int"}),
        tables(t={"a": "int", "b": "int", "c": "int", "unique": [["a", "b"]]}),
    )
    await create(database, before)
    await run(database, "INSERT INTO t VALUES (1, 1), (1, 1), (1, 1), (2, 2), (2, 2), (3, NULL), (3, NULL)")
    found = await table_changes(database, after, {}, before)
    assert texts(found)[-1] == "unique index of t on a, b: new: 2 values are there more than once"
    with pytest.raises(EnvironmentFault, match="2 values are there more than once"):
        await apply_changes(database, after, {}, found, destructive=True)
    assert await columns(database, "t") == ["a", "b"]
    await run(database, "DELETE FROM t WHERE a < 3")
    await change(database, before, after)


async def test_an_index_waits_for_the_type_that_it_needs(database: AsyncEngine) -> None:
    before, after = tables(t={"a": "text", "b": "int"}), tables(t={"a": "text(9)", "b": "int", "index": [["a"], ["b"]]})
    await create(database, before)
    found = await change(database, before, after)
    assert [(str(one).split(":")[0], one.early) for one in found] == [
        ("index of t on b", True), ("column t.a", False), ("index of t on a", False),
    ]  # fmt: skip


async def test_cut_texts_that_collide_leave_the_table_alone(database: AsyncEngine) -> None:
    before, after = (tables(t={"a": f"text({n})", "unique": [["a"]]}) for n in (9, 3))
    await create(database, before)
    await run(database, "INSERT INTO t VALUES ('abcd'), ('abce')")
    found = await table_changes(database, after, {}, before)
    with pytest.raises(EnvironmentFault, match="tables cannot be changed"):
        await apply_changes(database, after, {}, found, destructive=True)
    assert len(await run(database, "SELECT DISTINCT a FROM t")) == 2
    assert texts(await table_changes(database, after, {}, before))[0].startswith("column t.a: text(9) becomes text(3)")


async def test_references_and_their_types_change(database: AsyncEngine) -> None:
    before = tables(
        car={"id": "serial", "plate": "text(20)", "unique": [["plate"]]},
        visit={"car": "car.plate", "n": "int", "unique": [["car"]]},
        bill={"car_id": "car.id"},
    )
    await create(database, before)
    await run(database, "INSERT INTO car (plate) VALUES ('A')", "INSERT INTO visit VALUES ('A', 1)")
    await run(database, "INSERT INTO bill VALUES (1)")
    after = tables(
        car={"id": "serial", "plate": "text(30)", "unique": [["plate"]]},
        visit={"car": "car.plate", "n": "car.id", "index": [["car"]]},
        bill={"car_id": "int"},
    )
    await change(database, before, after, destructive=False)
    if database.dialect.name == "mysql":
        keys = "SELECT TABLE_NAME, COLUMN_NAME, REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE"
        keys += " WHERE REFERENCED_TABLE_NAME IS NOT NULL AND TABLE_SCHEMA = DATABASE() ORDER BY 2"
        assert await run(database, keys) == [("visit", "car", "plate"), ("visit", "n", "id")]
    await run(database, "INSERT INTO visit VALUES ('A', 1)")


async def test_serials_stay_and_are_never_given_again(database: AsyncEngine) -> None:
    before, after = tables(car=CAR), tables(car=CAR | {"plate": "text(10)"})
    await create(database, before)
    await run(database, "INSERT INTO car (plate) VALUES ('a'), ('b'), ('c')", "DELETE FROM car WHERE id > 1")
    await change(database, before, after)
    await run(database, "INSERT INTO car (plate) VALUES ('d')")
    assert await run(database, "SELECT id, plate FROM car ORDER BY id") == [(1, "a"), (4, "d")]
    for other, reason in [
        (tables(car={"plate": "text(10)"}), "rows are told by their serial"),
        (tables(car=CAR | {"id": "int"}), "a serial stays one"),
        (tables(car=CAR | {"id": "int", "speed": "serial"}), "nothing else becomes one"),
    ]:
        found = await table_changes(database, other, {}, after)
        with pytest.raises(EnvironmentFault, match=reason):
            await apply_changes(database, other, {}, found, destructive=True)


INSERTED = "INSERT INTO log VALUES (NEW.id)"
TRIGGERS = {
    "sqlite": [f"CREATE TRIGGER tr AFTER INSERT ON t BEGIN {INSERTED}; END"],
    "mysql": [f"CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW {INSERTED}"],
    "postgresql": [
        f"CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {INSERTED}; RETURN NEW; END'",
        "CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION logged()",
    ],
}


async def test_what_hangs_on_a_table_outlives_a_change(database: AsyncEngine) -> None:
    before = tables(("t",), t={"id": "serial", "a": "text(9)", "b": "int", "c": "int", "index": [["c"], ["b", "c"]]})
    await create(database, before)
    seen = "id, a" if database.dialect.name != "postgresql" else "id"  # what a view shows, it does not change
    await run(database, f"CREATE VIEW v AS SELECT {seen} FROM t", "CREATE TABLE log (a INT)")  # noqa: S608
    await run(database, "CREATE INDEX theirs ON t (a)", *TRIGGERS[database.dialect.name])
    await run(database, "INSERT INTO t (a, b, _event) VALUES ('abcdef', 1, 'aaaaaaaaaaaaaaaa')")
    after = tables(("t",), t={"id": "serial", "a": "text(3)", "c": "int", "index": [["c"]]})
    await change(database, before, after)
    await run(database, "INSERT INTO t (a, _event) VALUES ('x', 'bbbbbbbbbbbbbbbb')")
    assert await run(database, "SELECT * FROM v ORDER BY id") == [
        (1, "abc")[: seen.count(",") + 1],
        (2, "x")[: seen.count(",") + 1],
    ]
    assert await run(database, "SELECT a FROM log") == [(1,), (2,)]
    async with database.connect() as connection:
        names = await connection.run_sync(lambda sync: {i["name"] for i in sa.inspect(sync).get_indexes("t")})
    assert names == {"u_t__event", "i_t_c", "theirs"}
    with pytest.raises(sa.exc.IntegrityError):
        await run(database, "INSERT INTO t (a, _event) VALUES ('x', 'bbbbbbbbbbbbbbbb')")


async def test_postgresql_changes_no_column_that_a_view_shows(postgresql: PostgreSQL) -> None:
    database = open_database(postgresql.database(f"changes_{uuid4().hex[:12]}"))
    before = tables(t={"n": "int", "a": "text(9)", "b": "int"})
    await create(database, before)
    await run(database, "CREATE VIEW seen AS SELECT a, b AS other FROM t")
    found = await table_changes(database, tables(t={"n": "int", "a": "text(20)"}), {}, before)
    assert [one.refused for one in found] == ["PostgreSQL changes no column that a view shows; drop seen first"] * 2
    await database.dispose()


async def test_what_the_deployed_flow_did_not_declare_is_not_changed(database: AsyncEngine) -> None:
    await run(database, "CREATE TABLE t (a VARCHAR(5), b DECIMAL(5, 2))")
    after = tables(t={"a": "text(9)", "b": "number"})
    for before, reason in [(None, "did not declare this column"), (after, "a type that cannot be changed")]:
        found = await table_changes(database, after, {}, before)
        with pytest.raises(EnvironmentFault, match=reason):
            await apply_changes(database, after, {}, found, destructive=True)


async def test_views_come_and_go(database: AsyncEngine) -> None:
    await run(
        database, "CREATE TABLE accounts (id INT, username TEXT, password_hash TEXT, role TEXT, created_at TIMESTAMP)"
    )
    before = tables(staff={"view": "accounts"})
    await create(database, before)
    after = tables(employees={"view": "accounts"})
    assert texts(await change(database, before, after)) == ["view staff: dropped", "view employees: new"]
    await run(database, "SELECT * FROM employees", "CREATE TABLE people (id INT)")
    found = await table_changes(database, after, {"people": "accounts"}, before)
    assert texts(found) == ["view people: new: a table of this name is there"]


async def test_changes_go_on_where_a_crash_ended_them(mariadb: MariaDB) -> None:
    """MySQL commits each statement: after any number of them, the same changes are planned on and made."""
    engine = open_database(mariadb.database(f"changes_{uuid4().hex[:12]}"))
    before = tables(
        car=CAR | {"unique": [["plate"]]},
        visit={"car": "car.plate", "x": "int"},
        old={"a": "int"},
        sensor_result=RESULT,
    )
    after = tables(
        ("sensor_result",), car=CAR | {"plate": "text(9)", "unique": [["plate"]], "speed": "text(9)"},
        visit={"car": "car.plate"}, sensor_result=RESULT | {"index": [], "unique": [["device"]]}, new={"car_id": "car.id"},
    )  # fmt: skip
    allowed = finished = 0
    while not finished:
        await run(engine, "SET foreign_key_checks = 0", *(f"DROP TABLE IF EXISTS {t}" for t in (*before.tables, "new")))
        await engine.dispose()
        await create(engine, before)
        await run(engine, "INSERT INTO car (plate, speed) VALUES ('HH-1', 7)", "INSERT INTO visit VALUES ('HH-1', 1)")
        finished = await _crash_after(engine, before, after, allowed)
        found = await table_changes(engine, after, {}, before)
        assert (found == []) is bool(finished)
        await change(engine, before, after)
        assert await run(engine, "SELECT plate, speed FROM car") == [("HH-1", "7")]
        [key] = await run(engine, "SELECT COUNT(*) FROM information_schema.KEY_COLUMN_USAGE"
                          " WHERE TABLE_SCHEMA = DATABASE() AND REFERENCED_TABLE_NAME IS NOT NULL")  # fmt: skip
        assert key == (3,), allowed
        allowed += 1
    assert allowed > 12
    await engine.dispose()


class Crash(BaseException):
    """The process is gone."""


async def _crash_after(engine: AsyncEngine, before: sa.MetaData, after: sa.MetaData, allowed: int) -> int:
    found = await table_changes(engine, after, {}, before)
    left = [allowed]

    def limit(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.split()[0] in ("ALTER", "CREATE", "DROP", "UPDATE"):
            if left[0] == 0:
                raise Crash
            left[0] -= 1

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", limit)
    try:
        await apply_changes(engine, after, {}, found, destructive=True)
    except (Crash, Unavailable):
        return 0
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", limit)
    return 1


async def test_a_large_table_is_changed_inside_the_database(database: AsyncEngine) -> None:
    before, after = (tables(t={"id": "serial", "a": f"text({n})", "b": "int"}) for n in (20, 3))
    await create(database, before)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
    if database.dialect.name == "mysql":
        await run(database, f"INSERT INTO t (a, b) {numbers} SELECT x.i, y.i FROM n x, n y WHERE y.i <= 200")  # noqa: S608
    else:
        await run(database, f"{numbers} INSERT INTO t (a, b) SELECT x.i, y.i FROM n x, n y WHERE y.i <= 200")  # noqa: S608
    began = time.monotonic()
    found = await change(database, before, after)
    assert found[0].lossy == "200 values are longer and would be cut"
    assert await run(database, "SELECT COUNT(*), SUM(b) FROM t") == [(200_000, 20_100_000)]
    assert time.monotonic() - began < 60
