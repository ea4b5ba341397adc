"""Answer a declared table: filters, times and pages, newest first.

Where a call asks by time, the rows come in its order: an index on the time column then ends the search after a page,
whereas going back through the whole table for few rows would take seconds where there are millions.
"""

from typing import Any

from sqlalchemy import Column, ColumnElement, MetaData, Select, select
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.parameters import ScalarType, from_json
from engine.queries import PAGING, SCALARS, TableQuery, hidden
from web.accounts import Account
from web.answers import Answer, Faults, Given, events_of, read_scalar, to_json, to_rows


class TableAnswer:
    """One table query, ready to be asked."""

    def __init__(self, query: TableQuery, metadata: MetaData, engine: AsyncEngine) -> None:
        self._query = query
        self._engine = engine
        table = metadata.tables[query.table]
        self._columns = {column.name: column for column in table.columns if not hidden(column.name)}
        time = query.time_column(self._columns)
        self._time = self._columns[time] if time else None
        times = ("since", "until") if time else ()
        self._known = ("limit", "before_id", *times, *query.filters)
        events = [table.columns["_event"]] if "_event" in table.columns else []
        self._newest = self._columns[query.newest]
        self._select = select(*self._columns.values(), *events)
        for name, value in query.where.items():
            self._select = self._select.where(_equals(self._columns[name], value))

    async def answer(self, given: Given, account: Account | None) -> Answer:
        """Return a page of rows as a JSON array."""
        async with self._engine.connect() as connection:
            result = await connection.execute(self._page(given))
            columns, rows = list(result.keys()), result.all()
        names = list(self._columns)
        shown = to_rows(names, (row[: len(names)] for row in rows), {})
        return Answer(to_json(shown), events=events_of(columns, rows))

    def _page(self, given: Given) -> Select[Any]:
        faults = Faults()
        faults.unknown(given.text, self._known)
        chosen, by = self._select, self._time if "since" in given.text or "until" in given.text else None
        for name, text in given.text.items():
            if name in self._known and name != "limit":
                chosen = chosen.where(*self._condition(faults, name, text, by))
        limit = self._limit(faults, given)
        faults.raise_any()
        order = [self._newest] if by is None else [by, self._newest]
        return chosen.order_by(*(column.desc() for column in order)).limit(limit)

    def _limit(self, faults: Faults, given: Given) -> int:
        text = given.text.get("limit")
        if text is None:
            return self._query.limit
        if text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= self._query.most:
            return int(text)
        faults.add("limit", f"1..{self._query.most}", text)
        return 1

    def _condition(self, faults: Faults, name: str, text: str, by: Column[Any] | None) -> list[ColumnElement[bool]]:
        column = self._column(name)
        kind: ScalarType = "int" if name == "before_id" else "time" if name in PAGING else _kind(column)
        value: Any = read_scalar(faults, name, kind, text)
        if value is None:
            return []
        if name == "before_id" and by is not None:
            return self._after(by, value)
        if name in ("since", "until") and _kind(column) == "date":
            value = value.date()
        return [
            column < value
            if name in ("before_id", "until")
            else column >= value
            if name == "since"
            else column == value
        ]

    def _after(self, time: Column[Any], newest: int) -> list[ColumnElement[bool]]:
        """Return what holds for the rows after one, or after where it was, in the order of time."""
        earlier = select(time).where(self._newest <= newest, time.is_not(None))
        bound = earlier.order_by(self._newest.desc()).limit(1).scalar_subquery()
        return [time <= bound, (time < bound) | (self._newest < newest)]

    def _column(self, name: str) -> Column[Any]:
        if name == "before_id":
            return self._columns[self._query.newest]
        return self._time if name in ("since", "until") and self._time is not None else self._columns[name]


def _kind(column: Column[Any]) -> ScalarType:
    return SCALARS[column.info["column"].type]


def _equals(column: Column[Any], value: Any) -> ColumnElement[bool]:
    allowed = value if isinstance(value, list) else [value]
    found = column.in_([from_json(_kind(column), one) for one in allowed if one is not None])
    return found | column.is_(None) if None in allowed else found
