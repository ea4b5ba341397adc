"""Measure the sql sink: events into MariaDB beside a plain LOAD DATA script, and into SQLite beside `executemany`."""

import asyncio
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.result import Curve, Figure, Section, at_least
from engine.database import open_database, transaction
from engine.event import Event, moment, stream_prefix
from engine.lane import BATCH
from engine.sql_writer import SqlWriter
from engine.table import Table
from engine.tables import create, to_sqlalchemy
from engine.tallies import Tallies
from sinks.sql import Sql
from tests.process import LOCALHOST
from tests.services import MariaDB

SPEC = {
    "id": "serial", "car_id": "int", "device": "text(50)", "result": "text(10)", "created_at": "time",
    "index": [["car_id"], ["device"], ["result"], ["created_at"]],
}  # fmt: skip
TABLES = {"sensor_result": Table.parse("sensor_result", SPEC)}
NAMES = "id, car_id, device, result, created_at, _event"
COLUMNS = "id BIGINT, car_id BIGINT, device VARCHAR(50), result VARCHAR(10), created_at DATETIME(6), _event BINARY(16)"
START = 1_769_860_800_000_000
SIZES, STANDARD = (100, 1_000, 5_000), 1_000
Rates = tuple[float, float]


class Contender(Protocol):
    """Writes events into an empty table; `batch` rows in a transaction."""

    async def write(self, events: list[Event]) -> None:
        """Return when each event is a row."""


class Outside:
    """What the sink sees of a worker."""

    answer_rows: frozenset[str] = frozenset()

    def __init__(self, database: AsyncEngine) -> None:
        self.database, self.metadata = database, to_sqlalchemy(TABLES, TABLES)
        self.tallies = Tallies()

    def count(self, node: str, counts: Mapping[str, int]) -> None:
        """Take what an upsert tells."""

    def dead(self, node: str, event: Event, reason: str, values: dict[str, Any]) -> None:
        raise AssertionError(reason)


class Script:
    """What a script by hand does: a file in memory, LOAD DATA into a table of the session, INSERT from there."""

    def __init__(self, connection: Any, batch: int) -> None:
        self._connection, self._batch = connection, batch
        self._file = tempfile.NamedTemporaryFile("w", dir="/dev/shm", encoding="utf-8")  # noqa: SIM115 - for all batches
        self._run(f"CREATE TEMPORARY TABLE load_here ({COLUMNS}) ENGINE=MEMORY CHARSET utf8mb4 COLLATE utf8mb4_bin")

    async def write(self, events: list[Event]) -> None:
        for begin in range(0, len(events), self._batch):
            self._write(events[begin : begin + self._batch])

    def _write(self, events: list[Event]) -> None:
        self._file.seek(0)
        self._file.truncate()
        for event in events:
            row = event.data
            at = row["created_at"].isoformat(" ", "microseconds")[:26]
            line = f"{row['id']}\t{row['car_id']}\t{row['device']}\t{row['result']}\t{at}\t{event.id.hex()}\n"
            self._file.write(line)
        self._file.flush()
        self._run("DELETE FROM load_here")
        columns = "(id, car_id, device, result, created_at, @event) SET _event = UNHEX(@event)"
        self._run(f"LOAD DATA LOCAL INFILE '{self._file.name}' INTO TABLE load_here CHARACTER SET utf8mb4 {columns}")
        self._run(
            f"INSERT INTO sensor_result ({NAMES}) SELECT {NAMES} FROM load_here "  # noqa: S608 - constants
            "ON DUPLICATE KEY UPDATE sensor_result._event = sensor_result._event"
        )
        self._connection.commit()

    def _run(self, statement: str) -> None:
        cursor = self._connection.cursor()
        cursor.execute(statement)
        cursor.close()


class ExecuteMany:
    """The plain way into SQLite."""

    def __init__(self, path: Path, batch: int) -> None:
        self._batch = batch
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA synchronous = FULL")

    async def write(self, events: list[Event]) -> None:
        for begin in range(0, len(events), self._batch):
            self.connection.execute("BEGIN IMMEDIATE")
            rows = [self._row(event) for event in events[begin : begin + self._batch]]
            statement = f"INSERT INTO sensor_result ({NAMES}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608
            self.connection.executemany(statement, rows)
            self.connection.execute("COMMIT")

    def _row(self, event: Event) -> tuple[Any, ...]:
        row = event.data
        at = row["created_at"].isoformat(" ", "microseconds")[:26]
        return row["id"], row["car_id"], row["device"], row["result"], at, event.id


class Side(NamedTuple):
    """A contender with the database that it alone writes to."""

    contender: Contender
    database: AsyncEngine

    async def clear(self) -> None:
        """Empty the table, without rows that are left to be cleared away later."""
        verb = "TRUNCATE" if self.database.dialect.name == "mysql" else "DELETE FROM"
        async with transaction(self.database) as connection:
            await connection.exec_driver_sql(f"{verb} sensor_result")

    async def rows(self) -> int:
        """Return how many rows there are."""
        async with transaction(self.database) as connection:
            return int(await connection.scalar(sa.text("SELECT COUNT(*) FROM sensor_result")) or 0)


def results(count: int) -> list[Event]:
    """Return events as the car inspection's flow hands them to its sink."""
    prefix, found = stream_prefix("bench"), []
    for n in range(count):
        time = START + n * 1000
        verdict = {"device": f"LED{n % 40}", "result": "OK" if n % 10 else "DEFECT"}
        data = verdict | {"car_id": n // 20 + 1, "created_at": moment(time), "id": n + 1}
        found.append(Event(prefix + n.to_bytes(8, "big"), time, "", "station", "sensor/result", data))
    return found


@contextmanager
def mariadb() -> Iterator[MariaDB]:
    """Run a MariaDB."""
    with tempfile.TemporaryDirectory() as folder:
        server = MariaDB(Path(folder))
        server.install()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@asynccontextmanager
async def our_sink(database: AsyncEngine, batch: int) -> AsyncIterator[SqlWriter]:
    """Open the sink as a worker does."""
    writer = await Sql(table="sensor_result", batch=batch).open(SimpleNamespace(name="results"), Outside(database))  # type: ignore[arg-type]
    try:
        yield writer
    finally:
        await writer.close()


async def rates(sides: Sequence[Side], events: list[Event], batch: int) -> list[Rates]:
    """Return each side's rows/s into its empty table, and of the same again.

    They take turns with every hand that a lane would give, so that what else the machine does costs all the same.
    """
    hand, found = max(BATCH, batch), []
    for side in sides:
        await side.clear()
    for _ in range(2):
        taken = [0.0] * len(sides)
        for at in range(0, len(events), hand):
            for number, side in enumerate(sides):
                begin = time.perf_counter()
                await side.contender.write(events[at : at + hand])
                taken[number] += time.perf_counter() - begin
        found.append([len(events) / seconds for seconds in taken])
    for side in sides:
        assert await side.rows() == len(events)
    return list(zip(*found, strict=True))


async def against(sides: Sequence[Side], events: list[Event], batch: int, runs: int) -> list[Rates]:
    """Return the median rates of each side; the first run warms up and does not count."""
    await rates(sides, events[:BATCH], batch)
    found = [await rates(sides, events, batch) for _ in range(runs)]
    return [(median(new for new, _ in side), median(again for _, again in side)) for side in zip(*found, strict=True)]


async def beside_load_data(server: MariaDB, batch: int, events: list[Event], runs: int) -> list[Rates]:
    """Return the rates of the sink and of the script."""
    import MySQLdb

    names = f"sink_{batch}", f"script_{batch}"
    databases = [open_database(server.database(name)) for name in names]
    for database in databases:
        await create(database, to_sqlalchemy(TABLES, TABLES))
    arguments = {"host": LOCALHOST, "port": server.port, "user": "millstream", "passwd": "secret", "db": names[1]}
    connection = MySQLdb.connect(**arguments, charset="utf8mb4", local_infile=1)
    async with our_sink(databases[0], batch) as sink:
        sides = [Side(sink, databases[0]), Side(Script(connection, batch), databases[1])]
        found = await against(sides, events, batch, runs)
    connection.close()
    for database in databases:
        await database.dispose()
    return found


async def beside_execute_many(events: list[Event], runs: int) -> list[Rates]:
    """Return the rates of the sink and of `executemany`, each on a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("sink.db", "plain.db")]
        databases = [open_database(f"sqlite:///{path}") for path in paths]
        for database in databases:
            await create(database, to_sqlalchemy(TABLES, TABLES))
        plain = ExecuteMany(paths[1], STANDARD)
        async with our_sink(databases[0], STANDARD) as sink:
            found = await against([Side(sink, databases[0]), Side(plain, databases[1])], events, STANDARD, runs)
        plain.connection.close()
        for database in databases:
            await database.dispose()
    return found


@contextmanager
def busy_thread() -> Iterator[None]:
    """Compute beside, as a worker's dataflow does."""
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sqlite_figures(count: int, runs: int) -> Iterator[Figure]:
    events = results(count)
    ours, plain = asyncio.run(beside_execute_many(events, runs))
    yield at_least("SQLite, new rows, to executemany", ours[0] / plain[0], "", 0.6, f"{ours[0]:,.0f} rows/s")
    yield Figure("SQLite, repeated rows", ours[1], "rows/s", note=f"executemany {plain[1]:,.0f}")
    with busy_thread():
        ours, plain = asyncio.run(beside_execute_many(events[: 2 * BATCH], 1))
    name = "SQLite, new rows beside a thread that computes"
    yield Figure(name, ours[0], "rows/s", note=f"executemany {plain[0]:,.0f}")


def _mysql_figures(found: dict[int, list[Rates]]) -> Iterator[Figure]:
    ours, script = found[STANDARD]
    for at, kind in enumerate(("new", "repeated")):
        note = f"{ours[at]:,.0f} rows/s against {script[at]:,.0f}"
        yield at_least(f"SQL sink, {kind} rows, to LOAD DATA by hand", ours[at] / script[at], "", 0.6, note)
        yield Figure(f"SQL sink, {kind} rows", ours[at], "rows/s")


def _curve(found: dict[int, list[Rates]]) -> Curve:
    lines = {
        f"{who}, {kind}": [(float(size), found[size][place][at]) for size in found]
        for place, who in enumerate(("sink", "LOAD DATA"))
        for at, kind in enumerate(("new", "repeated"))
    }
    return Curve("SQL sink: rows in a transaction", "rows in a transaction", "rows/s", lines, log_x=True)


def measure(short: bool) -> Section:
    """Measure both databases; the car inspection's results, with all their indexes."""
    count, runs = (4_000, 1) if short else (20_000, 5)
    events = results(count)
    with mariadb() as server:
        found = {size: asyncio.run(beside_load_data(server, size, events, runs)) for size in SIZES}
    notes = [
        "Both sides make their rows from the same events, in the same table, in turns; the median counts.",
        "Repeated rows are looked up by their event's id, once most of a batch was there already.",
    ]
    figures = [*_mysql_figures(found), *_sqlite_figures(count, runs)]
    return Section("SQL sink", figures, [_curve(found)], notes)


if __name__ == "__main__":
    section = measure("--short" in sys.argv)
    for figure in section.figures:
        print(f"{figure.name:<50} {figure.value:>12,.2f} {figure.unit:<7} {figure.target:<10} {figure.note}")
    for label, points in section.curves[0].lines.items():
        print(f"{label:<30}", *(f"{x:,.0f}: {y:,.0f}" for x, y in points))
