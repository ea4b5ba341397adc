"""What the tests of the sql sink share: tables, events, and surroundings with a real database."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.event import Event, microseconds
from engine.sql_writer import SqlWriter
from engine.table import Table
from engine.tables import to_sqlalchemy
from engine.tallies import Tallies
from sinks.sql import Sql

START = microseconds(datetime(2026, 1, 31, 12, 0, 0, 123456, UTC))
TABLES = {
    name: Table.parse(name, spec)
    for name, spec in {
        "car": {"id": "serial", "created_at": "time"},
        "sensor_result": {
            "id": "serial", "car_id": "car.id", "device": "text(50)", "result": "text(10)", "note": "text",
            "score": "number", "ok": "bool", "day": "date", "detail": "json", "picture": "bytes", "created_at": "time",
        },
        "attendance": {"id": "serial", "employee": "text(50)", "day": "date", "unique": [["employee", "day"]]},
        "device_state": {
            "device": "text(50)", "slot": "int", "state": "text(20)", "temperature": "number",
            "unique": [["device"], ["slot"]],
        },
    }.items()
}  # fmt: skip
NASTY = [
    "🚗👩‍🔧 자동차", "it's", 'say "hi"', "100 % %s %(x)s ?", "back\\slash \\' \\n", "a\0b", "line\r\nend\x1a", "",
    " padded ", "'); DROP TABLE sensor_result; --", "x' OR '1'='1", ":name $1 {0} ${jndi}", "\ufeff\u202e",
]  # fmt: skip


class World:
    """What a sink sees of its surroundings, with a real database; keeps the dead letters and the answers."""

    def __init__(self, database: AsyncEngine) -> None:
        self.database = database
        self.metadata = to_sqlalchemy(TABLES, {"car", "sensor_result", "attendance"})
        self.answer_rows = frozenset({"by_hand"})
        self.letters: list[tuple[str, Event, str, dict[str, Any]]] = []
        self.answers: dict[bytes, tuple[int, Any]] = {}
        self.counts: Counter[str] = Counter()
        self.tallies = Tallies()

    def dead(self, node: str, event: Event, reason: str, values: dict[str, Any]) -> None:
        self.letters.append((node, event, reason, values))

    def count(self, node: str, counts: dict[str, int]) -> None:
        self.counts.update(counts)

    async def answer(self, event_id: bytes, status: int, body: bytes) -> None:
        self.answers[event_id] = (status, msgspec.json.decode(body))

    @property
    def reasons(self) -> list[str]:
        return [reason for _, _, reason, _ in self.letters]

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        async with self.database.connect() as connection:
            return [tuple(row) for row in await connection.execute(sa.text(sql))]

    async def run(self, *statements: str) -> None:
        async with self.database.begin() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)

    @asynccontextmanager
    async def sink(self, **options: Any) -> AsyncIterator[SqlWriter]:
        writer = await Sql(**options).open(SimpleNamespace(name="results"), self)  # type: ignore[arg-type]
        try:
            yield writer
        finally:
            await writer.close()

    async def write(self, events: list[Event], **options: Any) -> None:
        async with self.sink(**options) as writer:
            await writer.write(events)


def event(number: int, data: dict[str, Any], source: str = "station", time: int = START) -> Event:
    return Event(number.to_bytes(16, "big"), time + number, "", source, "sensor/result", data)


def readings(count: int) -> list[Event]:
    return [event(n, {"car_id": n // 10, "device": f"LED{n % 7}", "result": "OK", "more": [1]}) for n in range(count)]
