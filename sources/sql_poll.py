"""`sql_poll`: new rows of a database, by a column that grows."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import takewhile
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.api import (
    MICROSECONDS,
    Arrival,
    Duration,
    EnvironmentFault,
    EventFault,
    Example,
    Flow,
    Node,
    Problem,
    Pull,
    PulledSource,
    Reach,
    Reader,
    Unavailable,
    component,
    did_you_mean,
    open_database,
    read_environment,
    transaction,
)

log = structlog.get_logger()
WAIT = 100_000
NOW, BEGINNING = "now", "beginning"
PLAIN, TIME = "plain", "time"
Position = list[Any]
Taken = tuple[Position, Arrival | None]


@component("sql_poll")
class SqlPoll(PulledSource):
    """Take the rows that are new in a table or a query, told by a column that only grows, such as a serial.

    The worker reads them in the order of that column and remembers the last value in its snapshot, so after a crash it
    goes on there and doubles nothing. A database that is away is waited for. Rows that change later do not come again,
    unless every change raises `by`. A row whose transaction commits after that of a higher number would be missed:
    `behind` leaves the newest rows for the next look, where a time tells their age.
    """

    url: str | SecretStr | None = None
    """The database, from a setting: `mysql://user:password@host/name`, `sqlite:///file`; default: Millstream's own."""
    table: str | None = None
    """The table or view that is read."""
    sql: str | None = None
    """A query instead; it takes `:after` (the last value) and `:limit`, and is in the order of `by`."""
    by: str
    """The column that grows: a whole number, a text or a time."""
    every: Duration = Field(5_000_000, ge=100_000)
    """How often it looks; at once where a look has found a whole batch."""
    start: str | int | float = "now"
    """Where a first deploy begins: `now` (rows that come later), `beginning`, or the value after which rows count; with
    `sql` such a value."""
    batch: int = Field(1000, ge=1, le=10_000)
    """The most rows a look takes."""
    time: str | None = None
    """The column that carries the event's own time; default: when the row was read."""
    behind: Duration = 0
    """How old a row must be, by the column in `time`, before it is taken."""

    guarantee = "exactly once: read again from the last snapshot"
    examples = (
        Example(
            about="New orders of another system's database, by their number.",
            config="sql_poll: {table: orders, by: id, every: 2s}",
            given=[{"id": 17, "article": "door"}],
            expect=[{"id": 17, "article": "door"}],
        ),
        Example(
            about="A query that joins; rows are two seconds old before they are taken.",
            config=(
                "sql_poll:\n"
                "  sql: select o.id, o.at, a.name from orders o join article a on a.id = o.article\n"
                "    where o.id > :after order by o.id limit :limit\n"
                "  by: id\n  start: 0\n  time: at\n  behind: 2s"
            ),
            given=[{"id": 17, "at": "2023-03-01T08:00:00Z", "name": "door"}],
            expect=[{"id": 17, "name": "door"}],
        ),
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> "SqlPoll":
        if (self.table is None) == (self.sql is None):
            raise PydanticCustomError("sql_poll", "either table or sql")
        if self.behind and self.time is None:
            raise PydanticCustomError("sql_poll", "time, by which behind tells how old a row is")
        return self

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a query that cannot be asked again, and a column that an own table does not have."""
        for name in (":after", ":limit"):
            if self.sql is not None and name not in self.sql:
                yield Problem("option-value", "sql", f"a query with {name}, so that it goes on where it was")
        if self.sql is not None and self.start in (NOW, BEGINNING):
            yield Problem(
                "option-value", "start", f"with sql the first value of '{self.by}', such as 0; got '{self.start}'"
            )
        own = flow.tables.get(self.table or "") if self.url is None else None
        for option, column in (("by", self.by), ("time", self.time)):
            if own and column and column not in own.columns:
                message = f"a column of table '{own.name}' ({', '.join(own.columns)}); got '{column}'"
                yield Problem("unknown-column", option, message, did_you_mean(column, own.columns))

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try to log in, and let the database explain the query; an own table may not be there yet."""
        url = self.url.get_secret_value() if isinstance(self.url, SecretStr) else self.url
        database = reach.database_at(url) if url else reach.database
        if self.table is not None:
            missing = not url and await database.missing([self.table])
            asked: sa.Executable = sa.select(sa.column(self.by)).select_from(sa.table(self.table)).where(sa.false())
            return () if missing else await database.may_ask(asked, "table")
        explained = sa.text(f"EXPLAIN {self.sql}").bindparams(after=self.start, limit=self.batch)
        return await database.may_ask(explained, "sql")

    def statement(self, after: Any) -> sa.Executable:
        """Return the query for what comes after a value; None: for all."""
        if self.sql is not None:
            return sa.text(self.sql).bindparams(after=after, limit=self.batch)
        column: sa.ColumnClause[Any] = sa.column(self.by)
        found = sa.select(sa.text("*")).select_from(sa.table(self.table or "")).order_by(column).limit(self.batch)
        return found if after is None else found.where(column > after)

    def greatest(self) -> sa.Executable:
        """Return the query for the greatest value that there is."""
        return sa.select(sa.func.max(sa.column(self.by))).select_from(sa.table(self.table or ""))

    def open(self) -> Reader:
        """Return a reader whose position is the last value of `by`."""
        return Rows(self)


class Rows:
    """Looks on a thread of its own, so that the flow never waits for the database."""

    def __init__(self, options: SqlPoll) -> None:
        self.options = options
        self._found: deque[Taken] = deque()
        self._stop, self._room = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._fault: Exception | None = None
        self._away = False

    def read(self, position: Any, now: int, limit: int) -> Pull:
        """Return what the thread has found by now; raises EnvironmentFault for what no waiting mends."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(position,), name="sql_poll", daemon=True)
            self._thread.start()
        if self._fault is not None:
            raise self._fault
        taken = [self._found.popleft() for _ in range(min(limit, len(self._found)))]
        self._room.set()
        last = taken[-1][0] if taken else position
        return Pull([(now, arrival) for _, arrival in taken if arrival], last, None if taken else now + WAIT)

    def _run(self, position: Position | None) -> None:
        try:
            asyncio.run(self._look(position))
        except Exception as fault:  # the reader tells it on the flow's thread
            self._fault = fault

    async def _look(self, position: Position | None) -> None:
        engine = open_database(self._url())
        try:
            while not self._stop.is_set():
                found, full = await self._new(engine, position)
                if found:
                    position = found[-1][0]
                    self._found.extend(found)
                await asyncio.to_thread(self._pause, full)
        finally:
            await engine.dispose()

    def _url(self) -> str:
        url = self.options.url
        return read_environment().database if url is None else url if isinstance(url, str) else url.get_secret_value()

    def _pause(self, full: bool) -> None:
        """Wait for the next look; where much was found only until it was taken."""
        if not full:
            self._stop.wait(self.options.every / MICROSECONDS)
        while len(self._found) >= self.options.batch and not self._stop.is_set():
            self._room.wait(1.0)
            self._room.clear()

    async def _new(self, engine: AsyncEngine, position: Position | None) -> tuple[list[Taken], bool]:
        """Return the new rows, and whether to look again at once; none while the database is away."""
        try:
            async with transaction(engine) as connection:
                if position is None:
                    return [(_position(await self._begin(connection)), None)], True
                asked = self.options.statement(_value(position))
                rows = (await connection.execute(asked)).mappings().all()
        except Unavailable as fault:
            self._tell(str(fault))
            return [], False
        except EventFault as fault:
            raise EnvironmentFault(f"sql_poll: {fault.reason}") from None
        self._tell("")
        taken = list(takewhile(self._old_enough, rows))
        return [(_position(row[self.options.by]), self._arrival(row)) for row in taken], len(
            taken
        ) == self.options.batch

    async def _begin(self, connection: AsyncConnection) -> Any:
        start = self.options.start
        if start == NOW:
            return (await connection.execute(self.options.greatest())).scalar()
        return None if start == BEGINNING else start

    def _old_enough(self, row: Any) -> bool:
        """Tell whether a row may be taken: no transaction that began before it is still to commit."""
        if not self.options.behind:
            return True
        moment = row[self.options.time]
        moment = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return bool(moment.timestamp() * MICROSECONDS + self.options.behind <= time.time() * MICROSECONDS)

    def _arrival(self, row: Any) -> Arrival:
        return Arrival(msgspec.json.encode({name: _plain(value) for name, value in row.items() if name != "_event"}))

    def _tell(self, reason: str) -> None:
        """Say once that the database is away, and once that it is back."""
        if reason and not self._away:
            log.warning("sql_poll waits", reason=reason)
        elif self._away and not reason:
            log.warning("sql_poll goes on")
        self._away = bool(reason)

    def close(self) -> None:
        """Let the thread end."""
        self._stop.set()
        self._room.set()


def _position(value: Any) -> Position:
    """Return a value as it can stand in a snapshot."""
    return [TIME, value.isoformat()] if isinstance(value, datetime) else [PLAIN, _plain(value)]


def _value(position: Position) -> Any:
    return datetime.fromisoformat(position[1]) if position[0] == TIME else position[1]


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: times are UTC, decimals are numbers."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
