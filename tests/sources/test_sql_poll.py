"""`sql_poll`: rows by a column that grows, from SQLite and MariaDB, over restarts and outages."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from engine.arrival import Reader
from engine.load import load_text
from sources.sql_poll import SqlPoll
from tests.millstream_process import Millstream
from tests.process import wait_until
from tests.services import MariaDB

NOW = 1_700_000_000_000_000


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/other.db"
    database: MariaDB = request.getfixturevalue("mariadb")
    return database.database("polled")


class Table:
    """A table of another system."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url.replace("aiomysql", "pymysql"))
        self.execute("drop table if exists orders")
        self.execute("create table orders (id bigint primary key, at datetime(6), price decimal(10, 2), note text)")

    def execute(self, sql: str, **given: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(sql), given)

    def add(self, *numbers: int, at: datetime = datetime(2026, 3, 1, 8, tzinfo=UTC)) -> None:
        for number in numbers:
            self.execute(
                "insert into orders values (:id, :at, :price, :note)",
                id=number, at=at.replace(tzinfo=None), price=number / 4, note=f"n{number}",
            )  # fmt: skip


@pytest.fixture
def table(url: str) -> Iterator[Table]:
    found = Table(url)
    yield found
    found.engine.dispose()


class Reading:
    """A reader and where it is."""

    def __init__(self, position: Any, **options: Any) -> None:
        self.reader: Reader = SqlPoll(**{"table": "orders", "by": "id", "every": "100ms", **options}).open()
        self.position = position
        self.rows: list[dict[str, Any]] = []

    def step(self) -> int:
        pull = self.reader.read(self.position, NOW, 7)
        self.position = msgspec.msgpack.decode(msgspec.msgpack.encode(pull.position))
        self.rows += [msgspec.json.decode(arrival.payload) for _, arrival in pull.arrivals]
        return len(self.rows)

    def until(self, count: int) -> list[int]:
        wait_until(lambda: self.step() >= count, f"{count} rows", within=20)
        return [row["id"] for row in self.rows]

    def begun(self) -> None:
        wait_until(lambda: self.step() or self.position is not None, "it knows where it begins", within=20)

    def close(self) -> Any:
        self.reader.close()
        return self.position


def test_rows_come_once_in_order_and_go_on_after_a_restart(url: str, table: Table) -> None:
    table.add(3, 1, 2)
    first = Reading(None, url=url, start="beginning", batch=2)
    assert first.until(3) == [1, 2, 3]
    table.add(*range(4, 20))
    assert first.until(19) == list(range(1, 20))
    position = first.close()
    table.add(20, 21)
    second = Reading(position, url=url, start="beginning")
    assert second.until(2) == [20, 21]
    assert {key: second.rows[0][key] for key in ("id", "price", "note")} == {"id": 20, "price": 5, "note": "n20"}
    assert str(second.rows[1]["price"]) == "5.25"
    second.close()


def test_where_a_first_deploy_begins(url: str, table: Table) -> None:
    empty = Reading(None, url=url)
    empty.begun()
    table.add(1, 2)
    assert empty.until(2) == [1, 2]
    empty.close()
    late, after = Reading(None, url=url), Reading(None, url=url, start=1)
    late.begun()
    table.add(3)
    assert late.until(1) == [3]
    assert after.until(2) == [2, 3]
    late.close()
    after.close()


def test_a_query_of_its_own_and_a_position_that_is_a_time(url: str, table: Table) -> None:
    for number in range(1, 6):
        table.add(number, at=datetime(2026, 3, 1, 8, 0, number, 500, tzinfo=UTC))
    query = "select id, at, upper(note) as note from orders where at > :after order by at limit :limit"
    first = Reading(None, table=None, sql=query, url=url, by="at", start="2026-03-01 08:00:01.000500", batch=2)
    first.until(4)
    assert [row["note"] for row in first.rows] == ["N2", "N3", "N4", "N5"]
    position = first.close()
    table.add(6, at=datetime(2026, 3, 1, 9, tzinfo=UTC))
    assert Reading(position, table=None, sql=query, url=url, by="at", start="2026").until(1) == [6]


def test_rows_that_are_too_young_wait(url: str, table: Table) -> None:
    table.add(1, 2)
    table.add(3, at=datetime.now(UTC) + timedelta(hours=1))
    table.add(4)
    reading = Reading(None, url=url, start="beginning", time="at", behind="2s")
    assert reading.until(2) == [1, 2]
    table.execute("update orders set at = :at where id = 3", at=datetime(2026, 3, 1))
    assert reading.until(4) == [1, 2, 3, 4]
    reading.close()


def test_what_the_database_refuses_now_is_asked_again(url: str, table: Table) -> None:
    table.execute("drop table if exists later")
    reading = Reading(None, url=url, table="later", start="beginning")
    wait_until(lambda: reading.step() or reading.reader._away, "it waits", within=20)  # type: ignore[attr-defined]
    table.execute("create table later (id int)")
    table.execute("insert into later values (7)")
    assert reading.until(1) == [7]
    table.execute("drop table later")
    reading.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{by: id}", "either table or sql"),
        ("{table: a, by: id, behind: 2s}", "time, by which behind tells how old a row is"),
        ("{sql: select 1, by: id, start: 0}", "a query with :after"),
        ("{sql: select :after :limit, by: id}", "with sql the first value of 'id', such as 0"),
        ("{table: car, by: number}", "a column of table 'car' (id, at); got 'number'"),
    ],
)
def test_what_is_no_poll(options: str, message: str) -> None:
    flow = load_text(
        f"flow: f\ntables: {{car: {{id: serial, at: time}}}}\nsources: {{a: {{sql_poll: {options}}}}}\n"
        "sinks: {z: {from: a, log: x}}\n"
    )
    assert message in str(flow.document.findings[0])


FLOW = """\
flow: polled
tables: {copy: {id: serial, order_id: int, note: text}}
sources: {orders: {sql_poll: {url: "${url}", table: orders, by: id, every: 100ms, start: beginning}}}
settings: {url: {env: OTHER}}
sinks: {stored: {from: orders, sql: {table: copy, columns: {order_id: id}}}}
"""


def test_after_kill_9_every_row_is_there_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/other.db"
    table = Table(url)
    table.execute("pragma journal_mode = wal")
    file = tmp_path / "polled.yaml"
    file.write_text(FLOW)
    with Millstream(tmp_path, file, env={"OTHER": url}) as process:
        for number in range(1, 301, 3):
            table.add(number, number + 1, number + 2)
            if number in (100, 199):
                wait_until(process.worker_pids, "a worker is there")
                os.kill(process.worker_pids()[0], signal.SIGKILL)

        def copied() -> list[int]:
            with sqlite3.connect(process.data / "millstream.db") as connection:
                return [row[0] for row in connection.execute("select order_id from copy order by id")]

        wait_until(lambda: len(copied()) >= 300, "all are copied", within=30)
        assert copied() == list(range(1, 301))
    table.engine.dispose()
