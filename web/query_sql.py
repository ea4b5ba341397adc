"""Answer a declared SQL statement: bound parameters only, cached reads, writes in a transaction."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, Boolean, CursorResult, Date, Double, MetaData, String, TextClause, bindparam, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.types import TypeEngine

from engine.parameters import ScalarType
from engine.paths import path_parameters
from engine.queries import INSERTED, SqlQuery, hidden
from engine.refusal import Refusal
from engine.rows import UtcTime
from engine.sql_text import SqlText
from web.accounts import Account
from web.answer_cache import AnswerCache
from web.answers import Answer, Faults, Given, events_of, read_parameter, to_json, to_rows
from web.database_faults import is_conflict

TYPES: dict[ScalarType, TypeEngine[Any]] = {
    "int": BigInteger(), "number": Double(), "text": String(), "bool": Boolean(), "time": UtcTime(), "date": Date(),
}  # fmt: skip
_BOUND: dict[str, ScalarType] = {"account.name": "text", "account.role": "text", "now": "time", "today": "date"}
CUT = "Millstream-Cut"


class SqlAnswer:
    """One SQL query, ready to be asked."""

    def __init__(
        self,
        query: SqlQuery,
        metadata: MetaData,
        engine: AsyncEngine,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._query = query
        self._engine = engine.execution_options(begin="IMMEDIATE") if query.writes else engine
        self._now = now
        statement = query.statement()
        self._statement, self._names = self._clause(statement), statement.parameters
        after = query.returning()
        self._returns = (self._clause(after), after.parameters) if after else None
        self._kinds = _kinds(metadata) | dict(query.columns)
        self._cache = AnswerCache(query.cache / 1e6) if query.cache else None

    async def answer(self, given: Given, account: Account | None) -> Answer:
        """Return what the statement finds, or did; raises Refusal."""
        values = self._values(given, account)
        if self._cache is None:
            return await self._in_time(values)
        key = tuple((name, value) for name, value in sorted(values.items()) if self._query.set.get(name) != "now")
        return await self._cache.get(key, lambda: self._in_time(values))

    def _clause(self, sql: SqlText) -> TextClause:
        kinds = {name: parameter.type for name, parameter in self._query.params.items()}
        kinds |= {name: _BOUND[bound] for name, bound in self._query.set.items()} | {INSERTED: "int"}
        return text(sql.text).bindparams(*(bindparam(name, type_=TYPES[kinds[name]]) for name in sql.parameters))

    def _values(self, given: Given, account: Account | None) -> dict[str, Any]:
        faults, now = Faults(), self._now()
        faults.unknown([*given.text, *given.values], list(self._query.params))
        values: dict[str, Any] = {}
        for name, parameter in self._query.params.items():
            value = read_parameter(faults, name, parameter, given)
            values[name] = (
                self._bound(str(value), now, account) if parameter.moment and value == parameter.default else value
            )
        faults.raise_any()
        return values | {name: self._bound(bound, now, account) for name, bound in self._query.set.items()}

    def _bound(self, bound: str, now: datetime, account: Account | None) -> Any:
        if bound.startswith("account."):
            return getattr(account, bound.removeprefix("account."), None)
        return now if bound == "now" else now.astimezone(ZoneInfo(self._query.zone)).date()

    async def _in_time(self, values: dict[str, Any]) -> Answer:
        seconds = self._query.timeout / 1e6
        try:
            async with asyncio.timeout(seconds):
                return await (self._write(values) if self._query.writes else self._read(values))
        except TimeoutError:
            raise Refusal(504, "timeout", f"the database took longer than {seconds:g} s") from None
        except IntegrityError as error:
            if is_conflict(error):
                raise Refusal(409, "conflict", self._query.conflict) from None
            raise

    async def _read(self, values: dict[str, Any]) -> Answer:
        async with (
            self._engine.connect() as connection,
            connection.stream(self._statement, self._used(values)) as result,
        ):
            columns = list(result.keys())
            rows = await result.fetchmany(self._query.most + 1)
        return self._shown(columns, rows)

    async def _write(self, values: dict[str, Any]) -> Answer:
        async with self._engine.begin() as connection:
            result = await connection.execute(self._statement, self._used(values))
            if result.returns_rows:
                return self._shown(list(result.keys()), result.fetchmany(self._query.most + 1))
            if not result.rowcount and self._query.missing is not None:
                raise self._missing()
            if self._returns is None:
                return Answer(to_json({"changed": max(result.rowcount, 0)}), self._query.status)
            number = await self._inserted(connection, result) if INSERTED in self._returns[1] else None
            inserted = {name: number if name == INSERTED else values[name] for name in self._returns[1]}
            after = await connection.execute(self._returns[0], inserted)
            return self._shown(list(after.keys()), after.fetchmany(self._query.most + 1))

    async def _inserted(self, connection: AsyncConnection, result: CursorResult[Any]) -> Any:
        """Return the serial of the row that was inserted."""
        if self._engine.dialect.name == "postgresql":
            return (await connection.execute(text("SELECT lastval()"))).scalar()
        return result.lastrowid

    def _used(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: values[name] for name in self._names}

    def _shown(self, columns: list[str], rows: Any) -> Answer:
        cut, rows = len(rows) > self._query.most, rows[: self._query.most]
        found = [{k: v for k, v in row.items() if not hidden(k)} for row in to_rows(columns, rows, self._kinds)]
        one = self._query.writes if self._query.one is None else self._query.one
        if one and not found:
            raise self._missing()
        headers = {CUT: str(self._query.most)} if cut and not one else {}
        shown = to_json(found[0] if one else found)
        return Answer(shown, self._query.status, headers, events_of(columns, rows))

    def _missing(self) -> Refusal:
        """Return 404 where the path or a read names one thing, else 409: the state does not allow the change."""
        named = bool(path_parameters(self._query.path)) or not self._query.writes
        message = self._query.missing or "there is no such row"
        return Refusal(404, "not_found", message) if named else Refusal(409, "conflict", message)


def _kinds(metadata: MetaData) -> dict[str, str]:
    """Return the columns that are times or JSON wherever the flow has a column of that name."""
    found: dict[str, set[str]] = {}
    for table in metadata.tables.values():
        for column in table.columns:
            if "column" in column.info:
                found.setdefault(column.name, set()).add(column.info["column"].type)
    return {name: kinds.pop() for name, kinds in found.items() if len(kinds) == 1 and kinds <= {"time", "json"}}
