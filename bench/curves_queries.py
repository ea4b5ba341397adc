"""What the pack's queries cost over tables of up to ten million rows, and whether each of them finds an index."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import MetaData, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.result import Curve, Figure, Section, at_most
from engine.appended import appended_tables
from engine.database import open_database, writing_engine
from engine.flow import Flow
from engine.load import load
from engine.queries import SqlQuery, TableQuery
from engine.statistics import take_statistics
from engine.tables import create, to_sqlalchemy
from tests.services import MariaDB
from web.accounts import Account
from web.answers import Given
from web.query_sql import SqlAnswer
from web.query_table import TableAnswer

PACK = Path(__file__).parent.parent / "flows" / "car_inspection"
SIZES = {"SQLite": (10_000, 100_000, 1_000_000, 10_000_000), "MariaDB": (10_000, 100_000, 1_000_000)}
SHORT_SIZES, RUNS, PART, DRAWN, SMALL = (10_000, 100_000), 3, 250_000, 10.0, 10_000
TABLES = {
    "car": (20, {"id": "i", "created_at": "{time}"}),
    "sensor_result": (1, {"id": "i",
        "car_id": "i {div} 20 + 1", "device": "substr('ABCDEFGHIJKLMNOP', i % 16 + 1, 1)",
        "result": "case when i % 33 = 0 then 'DEFECT' else 'OK' end", "created_at": "{time}", "_event": "{event}",
    }),
    "camera_result": (20, {"id": "i",
        "car_id": "i", "result": "case when i % 33 = 0 then 'DEFECT' else 'OK' end", "created_at": "{time}",
        "_event": "{event}",
    }),
    "defect_image": (200, {
        "id": "i", "camera_result_id": "i * 33", "car_id": "i * 33", "image_path": "'x'", "_event": "{event}",
    }),
    "chat_message": (10, {
        "id": "i", "room": "cast(i % 50 as char)", "author": "'kim'", "text": "'hello'", "created_at": "{time}",
        "_event": "{event}",
    }),
    "attendance": (10, {"employee": "cast(i % 500 as char)", "day": "{day}", "check_in": "{time}"}),
}  # fmt: skip
BEGIN = 1_735_689_600
DIALECTS = {
    "sqlite": {
        "div": "/",
        "time": f"datetime({BEGIN} + i, 'unixepoch') || '.000000'",
        "event": "cast(printf('%016d', i) as blob)",
        "day": "date('2020-01-01', '+' || (i / 500) || ' days')",
        "numbers": "with recursive n(i) as (select {first} union all select i + 1 from n where i < {last}) "
        "select {columns} from n",
    },
    "mysql": {
        "div": "div",
        "time": f"from_unixtime({BEGIN} + i)",
        "event": "cast(lpad(i, 16, '0') as binary(16))",
        "day": "date_add('2020-01-01', interval i div 500 day)",
        "numbers": "select {columns} from (select seq as i from seq_{first}_to_{last}) n",
    },
}
HOUR = {"since": "2025-01-01T01:00:00Z", "until": "2025-01-01T02:00:00Z"}
ALL, OLD, RECENT = {"since": "2025-01-01T00:00:00Z"}, {"until": "2025-01-01T02:00:00Z"}, {"since": "the last 50 s"}
ASKED: dict[str, list[dict[str, str]]] = {
    "sensor_results": [
        {}, {"before_id": "5000"}, {"car_id": "77"}, {"device": "C"}, {"result": "DEFECT"}, {"result": "OK"}, HOUR, ALL,
        OLD, RECENT, {"device": "C"} | RECENT, {"device": "C"} | OLD, {"device": "C", "result": "DEFECT"},
        {"device": "C"} | HOUR, {"device": "Z"}, {"result": "DEFECT"} | ALL,
        {"device": "C"} | ALL,
    ],
    "sensor_defects": [{}, {"device": "C"}, {"car_id": "77"}, HOUR, ALL, OLD, RECENT],
    "camera_results": [{}, {"car_id": "77"}, {"result": "DEFECT"}, HOUR, ALL, OLD, RECENT],
    "defect_images": [{}, {"car_id": "330"}, {"camera_result_id": "330"}],
    "cars": [{}, HOUR, ALL, OLD, RECENT],
    "chat_history": [{"room": "7"}],
    "attendance": [{"date": "2020-01-05"}],
    "check_in": [{}],
    "check_out": [{}],
}  # fmt: skip


class Found(msgspec.Struct):
    """What one call of a query cost (milliseconds) and how the database went about it."""

    query: str
    ms: float
    plan: str
    indexed: bool


class Pack:
    """The pack's tables in one database, and its queries over them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine, self.dialect, self._writing = engine, engine.dialect.name, writing_engine(engine)
        self.flows: list[Flow] = [load(PACK / name).raise_findings() for name in ("car_inspection.yaml", "office.yaml")]
        self._rows = dict.fromkeys(TABLES, 0)
        self._statements: list[tuple[str, Any]] = []
        event.listen(engine.sync_engine, "before_cursor_execute", self._heard)

    def _heard(self, connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        self._statements.append((statement, parameters))

    def metadata(self, flow: Flow) -> MetaData:
        """Return the tables of a flow that are no views."""
        tables = {name: table for name, table in flow.tables.items() if not table.view}
        return to_sqlalchemy(tables, appended_tables(flow))

    async def close(self) -> None:
        """Let go of the database."""
        await self._writing.dispose()
        await self.engine.dispose()

    async def make(self) -> None:
        """Make the tables."""
        for flow in self.flows:
            await create(self.engine, self.metadata(flow))

    async def grow(self, size: int) -> None:
        """Fill the tables as if so many results had come: ids, times and event ids grow."""
        for table, (share, columns) in TABLES.items():
            first, last = self._rows[table] + 1, max(1, size // share)
            for begin in range(first, last + 1, PART):
                await self._fill(table, columns, begin, min(begin + PART - 1, last))
            self._rows[table] = last

    async def _fill(self, table: str, columns: dict[str, str], first: int, last: int) -> None:
        words = DIALECTS[self.dialect]
        chosen = ", ".join(value.format(**words) for value in columns.values())
        rows = words["numbers"].format(first=first, last=last, columns=chosen)
        async with self._writing.begin() as connection:
            await connection.execute(text(f"insert into {table} ({', '.join(columns)}) {rows}"))

    async def ask(self) -> list[Found]:
        """Ask each query, each way."""
        found = []
        for flow in self.flows:
            for name, query in flow.queries.items():
                for given in ASKED.get(name, []):
                    answering = self._answering(flow, query)
                    found.append(await self._asked(f"{name} {_words(given)}".strip(), answering, self._given(given)))
        return found

    def _given(self, given: dict[str, str]) -> Given:
        recent = datetime.fromtimestamp(BEGIN + self._rows["sensor_result"] - 50, UTC).isoformat()
        return Given({name: recent if value == RECENT["since"] else value for name, value in given.items()})

    def _answering(self, flow: Flow, query: Any) -> TableAnswer | SqlAnswer:
        assert isinstance(query, TableQuery | SqlQuery)
        kind = TableAnswer if isinstance(query, TableQuery) else SqlAnswer
        return kind(query, self.metadata(flow), self.engine)  # type: ignore[arg-type]

    async def _asked(self, name: str, answering: TableAnswer | SqlAnswer, given: Given) -> Found:
        best = float("inf")
        for _ in range(1 if name.startswith("check") else RUNS):
            self._statements.clear()
            begun = time.perf_counter()
            await answering.answer(given, Account(1, f"{sum(self._rows.values())}", "employee", datetime.now(UTC)))
            best = min(best, time.perf_counter() - begun)
            if best > 1.0:
                break
        statement, parameters = next(s for s in self._statements if not s[0].startswith(("BEGIN", "PRAGMA")))
        plan = await self._plan(statement, parameters)
        return Found(name, best * 1e3, "; ".join(plan), not any(_scans(line, statement) for line in plan))

    async def _plan(self, statement: str, parameters: Any) -> list[str]:
        if statement.lower().startswith("insert"):
            return []
        head = "EXPLAIN QUERY PLAN" if self.dialect == "sqlite" else "EXPLAIN"
        async with self.engine.connect() as connection:
            rows = (await connection.exec_driver_sql(f"{head} {statement}", parameters)).mappings().all()
        if self.dialect == "sqlite":
            return [str(row["detail"]) for row in rows]
        return [f"{row['table']} {row['type']} {row['key']} {row['rows']} {row['Extra']}" for row in rows]


def _words(given: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in given.items())


def _scans(line: str, statement: str) -> bool:
    """Tell whether a line of a plan reads a whole table, one that is not small, to find rows in it."""
    if line.startswith("SCAN"):
        return "WHERE" in statement.upper() and not line.startswith("SCAN latest")
    table, kind, key, rows, extra = [*line.split(" ", 4), *[""] * 5][:5]
    walks = kind == "ALL" or (kind == "index" and key == "PRIMARY" and "Using where" in extra)
    return walks and not table.startswith("<") and int(rows) > SMALL


async def _curve(address: str, sizes: Iterable[int]) -> list[tuple[int, list[Found]]]:
    engine = open_database(address)
    pack, found = Pack(engine), []
    try:
        await pack.make()
        for size in sizes:
            await pack.grow(size)
            await take_statistics(engine)
            found.append((size, await pack.ask()))
    finally:
        await pack.close()
    return found


def on_sqlite(folder: Path, sizes: Iterable[int]) -> list[tuple[int, list[Found]]]:
    """Ask over the embedded database."""
    return asyncio.run(_curve(f"sqlite+aiosqlite:///{folder}/pack.db", sizes))


def on_mariadb(folder: Path, sizes: Iterable[int]) -> list[tuple[int, list[Found]]]:
    """Ask over a MariaDB that is started for it."""
    (folder / "mariadb").mkdir()
    server = MariaDB(folder / "mariadb")
    server.install()
    server.start()
    try:
        server.execute(
            "SET GLOBAL innodb_flush_log_at_trx_commit = 0", "SET GLOBAL innodb_buffer_pool_size = 536870912"
        )
        return asyncio.run(_curve(server.url, sizes))
    finally:
        server.stop()


def _figures(label: str, found: list[tuple[int, list[Found]]]) -> Iterator[Figure]:
    size, last = found[-1]
    scanning = [one.query for one in last if not one.indexed]
    yield at_most(f"{label}: queries without an index, {size:,} rows", len(scanning), "", 0, "; ".join(scanning))
    slowest = max(last, key=lambda one: one.ms)
    yield Figure(f"{label}: the slowest query, {size:,} rows", slowest.ms, "ms", note=slowest.query)
    yield from (Figure(f"{label}: {one.query}", one.ms, "ms", note=one.plan) for one in last)


def _lines(label: str, found: list[tuple[int, list[Found]]]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    for at, one in enumerate(found[-1][1]):
        if max(asked[at].ms for _, asked in found) > DRAWN:
            yield f"{label}: {one.query}", [(size, asked[at].ms) for size, asked in found]


def measure(short: bool) -> Section:
    """Return milliseconds and plan of each query, and how they grow with the table."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        asked = {"SQLite": on_sqlite, "MariaDB": on_mariadb}
        found = {label: ask(Path(name), SHORT_SIZES if short else SIZES[label]) for label, ask in asked.items()}
    figures = [figure for label, one in found.items() for figure in _figures(label, one)]
    lines = dict(line for label, one in found.items() for line in _lines(label, one))
    curve = Curve("Queries over a growing table", "rows", "ms", lines, log_x=True, log_y=True)
    return Section("Queries over ten million rows", figures, [curve], NOTES)


NOTES = [
    "Filled by the database itself, a row a second; limit 100 as usual. Only what takes more than 10 ms is drawn.",
    "What grows: on SQLite, a device or a result together with a time goes by the index of the former and sorts all of "
    "its rows; MariaDB goes by time. An index [device, created_at] ends it, for some 0.7 µs more a row written.",
]


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(measure("short" in sys.argv))).decode())
