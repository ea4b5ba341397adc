"""Declared tables: every problem is found at once, and a database gets what it lacks and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.database import open_database
from engine.errors import EnvironmentFault, SpecFault, Unavailable
from engine.table import TYPES, Column, Table
from engine.tables import check_tables, create, highest, resolved, to_sqlalchemy
from tests.services import MariaDB

PACK: dict[str, dict[str, Any]] = {
    "car": {"id": "serial", "created_at": "time"},
    "sensor_result": {
        "id": "serial", "car_id": "car.id", "device": "text(50)", "result": "text(10)", "created_at": "time",
    },
    "attendance": {
        "id": "serial", "employee": "text(50)", "day": "date", "unique": [["employee", "day"]], "index": [["day"]],
    },
}  # fmt: skip
EVERYTHING = {kind if kind != "text" else "words": kind for kind in TYPES} | {"short": "text(20)", "car_id": "car.id"}


def parsed(**specs: Any) -> dict[str, Table]:
    return {name: Table.parse(name, spec) for name, spec in specs.items()}


def problems(spec: Any, name: str = "t") -> list[tuple[tuple[str | int, ...], str, str]]:
    with pytest.raises(SpecFault) as fault:
        Table.parse(name, spec)
    return [(problem.where, problem.message, problem.hint) for problem in fault.value.problems]


def test_a_table_is_read() -> None:
    table = Table.parse("sensor_result", PACK["sensor_result"])
    assert list(table.columns) == ["id", "car_id", "device", "result", "created_at"]
    assert table.columns["device"] == Column("device", "text", 50)
    assert table.columns["car_id"] == Column("car_id", "int", None, ("car", "id"))
    assert table.serial == "id"
    assert Table.parse("attendance", PACK["attendance"]).keys == [["id"], ["employee", "day"]]
    assert {Table.parse("t", {"a": spelling}).columns["a"].length for spelling in ("text", "text()")} == {None}


def test_a_view_has_the_columns_of_what_it_shows() -> None:
    table = Table.parse("employees", {"view": "accounts"})
    assert table.view == "accounts"
    assert list(table.columns) == ["id", "username", "password_hash", "role", "created_at"]


A_TYPE = "one of serial, int, number, bool, text, time, date, json, bytes, or table.column"
A_NAME = "a column name of letters, digits and _, a letter first, at most 63"


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (None, [((), "columns like {id: serial, at: time}; got nothing", "")]),
        ([1], [((), "columns like {id: serial, at: time}; got '[1]'", "")]),
        ({"a": "varchar(5)"}, [(("a",), f"{A_TYPE}; got 'varchar(5)'", "did you mean 'text'?")]),
        ({"a": "numbr"}, [(("a",), f"{A_TYPE}; got 'numbr'", "did you mean 'number'?")]),
        ({"a": 5}, [(("a",), "a type like int or text(50), or table.column; got '5'", "")]),
        ({"a": "int(5)"}, [(("a",), "no length for int; got '5'", "")]),
        ({"a": "text(0)"}, [(("a",), "a length of 1..16000; got '0'", "text without a length takes 65,535 bytes")]),
        ({"_event": "int"}, [(("_event",), "another name: '_event' makes a repeated write harmless", "")]),
        ({"a b": "int"}, [(("a b",), f"{A_NAME}; got 'a b'", "")]),
        (
            {"a": "serial", "b": "serial"},
            [(("b",), "one serial a table, which is 'a'; got another", "did you mean 'int'?")],
        ),
        (
            {"a": "int", "A": "int"},
            [((name,), f"names that differ in more than upper and lower case; got '{name}'", "") for name in "aA"],
        ),
        ({"a": "int", "unique": [["b"]]}, [(("unique", 0, 0), "one of a; got 'b'", "")]),
        ({"dev": "int", "index": [["dew"]]}, [(("index", 0, 0), "one of dev; got 'dew'", "did you mean 'dev'?")]),
        ({"a": "int", "unique": ["a"]}, [(("unique", 0), "a list of columns; got 'a'", "unique: [[a]]")]),
        ({"a": "int", "unique": [["a", "a"]]}, [(("unique", 0, 1), "each column once; got 'a' again", "")]),
        ({"a": "text", "unique": [["a"]]}, [(("unique", 0), "texts with a length; 'a' has none", "text(100)")]),
        ({"a": "json", "index": [["a"]]}, [(("index", 0), "columns that can be compared; 'a' is json", "")]),
        (
            {"a": "text(800)", "index": [["a"]]},
            [(("index", 0), "at most 3072 bytes (4 a character) in a key; got 3200", "")],
        ),
        (
            {"a": "text(16000)", "b": "text(400)"},
            [((), "texts of at most 65000 bytes together (4 a character); got 65604", "use text")],
        ),
        (
            {"view": "acounts", "a": "int"},
            [
                (("a",), "a view has no other option; got 'a'", ""),
                (("view",), "a table of the system (accounts); got 'acounts'", "did you mean 'accounts'?"),
            ],
        ),
    ],
)
def test_what_is_wrong_is_said(spec: Any, found: list[tuple[Any, str, str]]) -> None:
    assert problems(spec) == found


def test_every_problem_is_found_at_once() -> None:
    spec = {"a": "intt", "b": "serial", "c": "serial", "d": None, "unique": [["x"]]}
    assert [where for where, _, _ in problems(spec, "Bad Name")] == [(), ("a",), ("d",), ("c",), ("unique", 0, 0)]


@pytest.mark.parametrize("name", ["accounts", "sqlite_x", "Car", "1car", "_t", "t" * 49, ""])
def test_names_that_cannot_be(name: str) -> None:
    assert [where for where, _, _ in problems({"a": "int"}, name)] == [()]


words = st.sampled_from([*TYPES, "text(5)", "car.id", "text(9", "a.b.c"])
leaves = st.one_of(st.none(), st.integers(), st.text(max_size=8), words)
specs = st.dictionaries(
    st.one_of(st.sampled_from(["id", "a", "unique", "index", "view", "_event"]), st.text(max_size=4), st.integers()),
    st.one_of(leaves, st.lists(st.lists(leaves, max_size=3), max_size=3), st.lists(leaves, max_size=2)),
    max_size=6,
)


@given(specs)
def test_any_spec_is_read_or_refused(spec: dict[Any, Any]) -> None:
    try:
        table = Table.parse("t", spec)
    except SpecFault:
        return
    if not check_tables({"t": table}):
        assert set(to_sqlalchemy({"t": table}, {"t"}).tables) == {"t"}
    assert table.view or table.columns.keys() == spec.keys() - {"unique", "index"}


def test_references_are_checked_between_tables() -> None:
    tables = parsed(
        car={"id": "serial", "plate": "text(20)"},
        a={"x": "cars.id", "y": "car.idd", "z": "car.plate", "self": "a.self"},
        b={"id": "serial", "c": "c.id", "parent": "b.id"},
        c={"id": "serial", "b": "b.id"},
    )
    assert [(p.where, p.message, p.hint) for p in check_tables(tables)] == [
        (("a", "x"), "a table of the flow (car, a, b, c); got 'cars'", "did you mean 'car'?"),
        (("a", "y"), "a column of table 'car' (id, plate); got 'idd'", "did you mean 'id'?"),
        (("a", "z"), "a column that is unique; 'car.plate' is not", "car: {unique: [[plate]]}"),
        (("a", "self"), "a column other than itself", ""),
        (("b",), "references that do not lead back to itself; got b -> c -> b", ""),
        (("c",), "references that do not lead back to itself; got c -> b -> c", ""),
    ]
    assert check_tables(parsed(**PACK)) == []


def test_a_reference_gets_the_type_of_its_target() -> None:
    tables = parsed(
        car={"plate": "text(20)", "id": "serial", "unique": [["plate"]]},
        visit={"car": "car.plate", "car_id": "car.id", "unique": [["car"]]},
        bill={"car": "visit.car"},
    )
    columns = {str(column) for table in ("visit", "bill") for column in resolved(tables)[table].columns.values()}
    assert columns == {"text(20)", "int"}


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'test.db'}"
    else:
        url = request.getfixturevalue(request.param).database(f"tables_{uuid4().hex[:12]}")
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


async def test_what_is_missing_is_made_once(database: AsyncEngine) -> None:
    metadata = to_sqlalchemy(parsed(**PACK, everything=EVERYTHING), {"sensor_result", "everything"})
    made = await create(database, metadata)
    assert made == ["table attendance", "table car", "table everything", "table sensor_result"]
    assert await create(database, metadata) == []
    assert await columns(database, "sensor_result") == ["id", "car_id", "device", "result", "created_at", "_event"]
    assert await columns(database, "car") == ["id", "created_at"]


async def test_columns_and_indexes_are_added_to_rows_that_are_there(database: AsyncEngine) -> None:
    old = parsed(car={"id": "serial"}, sensor_result={"id": "serial", "device": "text(50)"})
    await create(database, to_sqlalchemy(old, set()))
    await run(database, "INSERT INTO sensor_result (device) VALUES ('LED'), ('X')")
    wanted = PACK | {"sensor_result": PACK["sensor_result"] | {"unique": [["device"]], "index": [["result", "device"]]}}
    metadata = to_sqlalchemy(parsed(**wanted), {"sensor_result"})
    assert await create(database, metadata) == [
        "table attendance",
        "column car.created_at",
        "column sensor_result.car_id",
        "column sensor_result.result",
        "column sensor_result.created_at",
        "column sensor_result._event",
        "index i_sensor_result_car_id",
        "index i_sensor_result_result_device",
        "index u_sensor_result__event",
        "index u_sensor_result_device",
    ]
    assert await create(database, metadata) == []
    assert await run(database, "SELECT id, device, _event FROM sensor_result ORDER BY id") == [
        (1, "LED", None), (2, "X", None),
    ]  # fmt: skip


async def test_what_differs_is_refused_and_left_alone(database: AsyncEngine) -> None:
    await create(database, to_sqlalchemy(parsed(**PACK), set()))
    for column, kind, expected, found in [
        ("device", "text(60)", r"VARCHAR\(60\)", r"VARCHAR\(50\)"),
        ("created_at", "text", "TEXT", r"(DATETIME(\(6\))?|TIMESTAMP WITHOUT TIME ZONE)"),
        ("result", "bool", r"TINYINT\(1\)", r"VARCHAR\(10\)"),
    ]:
        changed = PACK | {"sensor_result": PACK["sensor_result"] | {column: kind, "more": "int"}}
        reason = f"table sensor_result, column {column}: expected {expected}; found {found}"
        with pytest.raises(EnvironmentFault, match=reason):
            await create(database, to_sqlalchemy(parsed(**changed), set()))
    assert "more" not in await columns(database, "sensor_result")


async def test_a_uniqueness_that_the_rows_do_not_have_is_refused(database: AsyncEngine) -> None:
    await create(database, to_sqlalchemy(parsed(t={"a": "int"}), set()))
    await run(database, "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1)")
    with pytest.raises(EnvironmentFault, match=r"tables cannot be made: .*(UNIQUE|Duplicate|unique index)"):
        await create(database, to_sqlalchemy(parsed(t={"a": "int", "unique": [["a"]]}), set()))
    with pytest.raises(EnvironmentFault, match="table t, column id: expected a serial; found none"):
        await create(database, to_sqlalchemy(parsed(t={"a": "int", "id": "serial"}), set()))


async def test_two_processes_make_tables_together(database: AsyncEngine) -> None:
    metadata = to_sqlalchemy(parsed(**PACK), {"sensor_result"})
    others = [open_database(database.url.render_as_string(hide_password=False)) for _ in range(4)]
    made = await asyncio.gather(*(create(engine, metadata) for engine in others))
    assert sorted(map(len, made)) == [0, 0, 0, 3]
    await asyncio.gather(*(engine.dispose() for engine in others))


async def test_ids_begin_at_one_and_are_never_given_again(database: AsyncEngine) -> None:
    metadata = to_sqlalchemy(parsed(**PACK), set())
    await create(database, metadata)
    assert await highest(database, metadata.tables["car"], "id") == 0
    await run(database, "INSERT INTO car (created_at) VALUES (NULL)", "INSERT INTO car (created_at) VALUES (NULL)")
    assert await highest(database, metadata.tables["car"], "id") == 2
    await run(database, "DELETE FROM car WHERE id = 2", "INSERT INTO car (created_at) VALUES (NULL)")
    assert await run(database, "SELECT id FROM car ORDER BY id") == [(1,), (3,)]


async def test_a_view_shows_the_accounts(database: AsyncEngine) -> None:
    metadata = to_sqlalchemy(parsed(employees={"view": "accounts"}), set())
    with pytest.raises(EnvironmentFault, match="view employees: expected table accounts; found none"):
        await create(database, metadata)
    fields = "id INT, username VARCHAR(150), password_hash VARCHAR(255), role VARCHAR(20), created_at TIMESTAMP"
    await run(database, f"CREATE TABLE accounts ({fields}, failed INT)")
    await run(database, "INSERT INTO accounts VALUES (1, 'anna', 'x', 'admin', '2026-01-31 12:00:00', 0)")
    assert await create(database, metadata, {"staff": "accounts"}) == ["view employees", "view staff"]
    assert await create(database, metadata, {"staff": "accounts"}) == []
    async with database.connect() as connection:
        [row] = (await connection.execute(sa.select(metadata.tables["employees"]))).mappings()
    assert (row["username"], str(row["created_at"])) == ("anna", "2026-01-31 12:00:00+00:00")
    await run(database, "CREATE TABLE people (id INT)")
    with pytest.raises(EnvironmentFault, match="view people: expected a view; found a table of this name"):
        await create(database, to_sqlalchemy({}, set()), {"people": "accounts"})


async def test_texts_are_told_apart_by_every_character(database: AsyncEngine) -> None:
    await create(database, to_sqlalchemy(parsed(t={"a": "text(20)", "unique": [["a"]]}), set()))
    await run(database, "INSERT INTO t VALUES ('led'), ('LED'), ('😀'), ('🚗'), ('é'), ('e')")
    assert await run(database, "SELECT COUNT(*) FROM t") == [(6,)]


async def test_a_database_that_is_away_is_told_from_one_that_differs(mariadb: MariaDB) -> None:
    engine = open_database(mariadb.database("tables_away"))
    mariadb.stop()
    with pytest.raises(Unavailable, match=r"millstream:\*\*\*@127\.0\.0\.1"):
        await create(engine, to_sqlalchemy(parsed(**PACK), set()))
    await engine.dispose()
