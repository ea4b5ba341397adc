"""Keep one row for each value of a key, and tell of each event what it did: inserted, updated, or left unchanged.

What is there is read first, in the same transaction. So only rows that differ are written, the outcome of each event is
known on every database, and events of one key in a batch are told apart.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.errors import EventFault
from engine.row_code import literals
from engine.row_store import AS_IT_IS, Key, Row, RowStore, Stored, portions, unique_keys
from engine.rows import time_text

INSERTED, UPDATED, UNCHANGED = "inserted", "updated", "unchanged"
State = dict[str, Any]


class Upsert(RowStore):
    """One row for each value of the natural key; the columns that an event has are written over it.

    With `newest`, a row is only written over by an event whose value of that column is larger. `filled` are the times
    that are the event's own where its data has none: a row that differs in nothing else is unchanged.
    """

    def __init__(
        self, table: sa.Table, dialect: Dialect, on: Sequence[str], newest: str = "", filled: Iterable[str] = ()
    ) -> None:
        super().__init__(table, dialect)
        self._on, self._newest, self._filled = tuple(on), newest, frozenset(filled)
        self._others = [names for names in unique_keys(table) if set(names) != set(on)]
        self._kinds = {column.name: column.info["column"].type for column in self._declared}

    async def store(self, connection: AsyncConnection, rows: Sequence[Row]) -> Stored:
        """Write the last state of each key; MySQL may have matched another key, then the row is not touched."""
        keyed = [(row, self._key(row)) for row in rows]
        refused = [(row, _keyless(row, self._missing(row))) for row, key in keyed if None in key]
        refused += await self._too_large(connection, [row for row, key in keyed if None not in key])
        bad = {id(row) for row, _ in refused}
        keyed = [(row, key) for row, key in keyed if id(row) not in bad]
        changed, became = self._changes(keyed, await self._there(connection, keyed))
        groups: dict[tuple[str, ...], list[Key]] = {}
        for state in changed.values():
            groups.setdefault(tuple(state), []).append(tuple(state.values()))
        for names, values in groups.items():
            await self._run(connection, names, self._end(names), values)
        lost = await self._lost(connection, list(changed)) if self._mysql and self._others and changed else set()
        refused += [(row, await self._duplicate(connection, row)) for row, key in keyed if key in lost]
        return Stored(refused, [(row, what) for (row, key), what in zip(keyed, became, strict=True) if key not in lost])

    def _changes(self, keyed: Sequence[tuple[Row, Key]], there: dict[Key, State]) -> tuple[dict[Key, State], list[str]]:
        """Return what is to be written of each key, and what becomes of each row."""
        changed: dict[Key, State] = {}
        became: list[str] = []
        for row, key in keyed:
            before = there.get(key)
            if before is None:
                there[key] = dict(row.values)
                became.append(INSERTED)
            elif self._leaves(row, before):
                became.append(UNCHANGED)
                continue
            else:
                before.update(row.values)
                became.append(UPDATED)
            changed.setdefault(key, {}).update(row.values)
        return changed, became

    def _leaves(self, row: Row, before: State) -> bool:
        """Tell whether a row stays as it is: what the event says is older, or there already."""
        if self._newest and before.get(self._newest) is not None:
            value = row.values.get(self._newest)
            if value is None or value <= before[self._newest]:
                return True
        own = row.event.data
        return all(
            _same(self._kinds[name], value, before.get(name))
            for name, value in row.values.items()
            if name not in self._filled or own.get(name) is not None
        )

    async def _there(self, connection: AsyncConnection, keyed: Sequence[tuple[Row, Key]]) -> dict[Key, State]:
        """Return what the table has of the keys, of the columns that the rows name."""
        keys = list(dict.fromkeys(key for _, key in keyed))
        names = [*self._on, *sorted({name for row, _ in keyed for name in row.values} - {*self._on})]
        convert = [_AS_WRITTEN.get(self._kinds[name], _as_it_is) for name in names]
        found: dict[Key, State] = {}
        for part in portions(keys, len(self._on)) if keys else ():
            for values in await self._rows_of(connection, names, part):
                state = {
                    name: None if value is None else as_written(value)
                    for name, as_written, value in zip(names, convert, values, strict=True)
                }
                found[tuple(state[name] for name in self._on)] = state
        return found

    async def _rows_of(self, connection: AsyncConnection, names: Sequence[str], keys: Sequence[Key]) -> Iterable[Any]:
        quoted = ", ".join(map(self._quote, names))
        text = (
            f"SELECT {quoted} FROM {self._quote(self.table.name)} WHERE ({', '.join(map(self._quote, self._on))}) IN "  # noqa: S608
        )
        if self._mysql:
            text += f"({','.join(map(literals, keys))}) FOR UPDATE"
            return (await connection.exec_driver_sql(text, execution_options=AS_IT_IS)).all()
        if self._arrays is not None:
            text += f"({self._arrays.rows_of(self._on)}) FOR UPDATE"
            return (await connection.exec_driver_sql(text, tuple(map(list, zip(*keys, strict=True))))).all()
        mark = f"({','.join('?' * len(self._on))})"
        text += f"(VALUES {','.join([mark] * len(keys))})"
        return (await connection.exec_driver_sql(text, tuple(value for key in keys for value in key))).all()

    async def stored(self, connection: AsyncConnection, rows: Sequence[Row]) -> dict[bytes, Mapping[str, Any]]:
        """Return the rows by their key, one at a time."""
        found: dict[bytes, Mapping[str, Any]] = {}
        for row in rows:
            same = (self.table.c[n] == self._literal(n, v) for n, v in zip(self._on, self._key(row), strict=True))
            there = (await connection.execute(sa.select(*self._declared).where(*same))).mappings().first()
            if there is not None:
                found[row.event.id] = dict(there)
        return found

    def _key(self, row: Row) -> Key:
        return tuple([row.values.get(name) for name in self._on])

    def _missing(self, row: Row) -> str:
        return next((name for name in self._on if row.values.get(name) is None), "")

    def _end(self, names: Iterable[str]) -> str:
        """Return what happens to a row that is there; its `newest` is looked at again, for others may write too."""
        columns = [self._quote(name) for name in names if name not in (*self._on, self._newest)]
        on = [self._quote(name) for name in self._on]
        newest = self._quote(self._newest) if self._newest in names else ""
        columns += [newest] if newest and self._newest not in self._on else []
        if not self._mysql:
            change = ", ".join(f"{c} = excluded.{c}" for c in columns)
            table = self._quote(self.table.name)
            newer = f" WHERE {table}.{newest} IS NULL OR excluded.{newest} > {table}.{newest}" if newest else ""
            return f"ON CONFLICT ({', '.join(on)}) DO " + (f"UPDATE SET {change}{newer}" if change else "NOTHING")
        same = " AND ".join(f"{key} <=> VALUES({key})" for key in on) if self._others else "1"
        same += f" AND ({newest} IS NULL OR VALUES({newest}) > {newest})" if newest else ""
        changes = [f"{c} = IF({same}, VALUES({c}), {c})" for c in columns] or [f"{on[0]} = {on[0]}"]
        return f"ON DUPLICATE KEY UPDATE {', '.join(changes)}"

    async def _lost(self, connection: AsyncConnection, keys: Sequence[Key]) -> set[Key]:
        """Return the keys that are not in the table."""
        columns = sa.tuple_(*(self.table.c[name] for name in self._on))
        wanted = [sa.tuple_(*map(self._literal, self._on, key)) for key in keys]
        count = await connection.scalar(sa.select(sa.func.count()).select_from(self.table).where(columns.in_(wanted)))
        if count == len(keys):
            return set()
        return {key for key in keys if not await self._exists(connection, self._on, key)}


class Absent(Upsert):
    """One row for each value of the natural key that has none; what is there stays as it is, for it may be newer."""

    def key(self, row: Row) -> Key | None:
        """Return what tells a row apart; None where a part of it is missing."""
        return None if self._missing(row) else self._key(row)

    async def there(self, connection: AsyncConnection, keys: Sequence[Key]) -> set[Key]:
        """Return the keys that the table has a row of; counted, since a value may come back in another form."""
        if not keys:
            return set()
        columns, wanted = (
            sa.tuple_(*(self.table.c[name] for name in self._on)),
            [sa.tuple_(*map(self._literal, self._on, k)) for k in keys],
        )
        count = await connection.scalar(sa.select(sa.func.count()).select_from(self.table).where(columns.in_(wanted)))
        if count in (0, len(keys)):
            return set(keys) if count else set()
        middle = len(keys) // 2
        return await self.there(connection, keys[:middle]) | await self.there(connection, keys[middle:])

    def _end(self, names: Iterable[str]) -> str:
        on = [self._quote(name) for name in self._on]
        if self._mysql:
            return f"ON DUPLICATE KEY UPDATE {on[0]} = {on[0]}"
        return f"ON CONFLICT ({', '.join(on)}) DO NOTHING"


def _keyless(row: Row, name: str) -> EventFault:
    return EventFault(f"column {name}: a value, for rows are told by it; got none", {"column": name, **row.values})


def _as_it_is(value: Any) -> Any:
    return value


_AS_WRITTEN: dict[str, Callable[[Any], Any]] = {
    "time": lambda value: value if isinstance(value, str) else time_text(value),
    "date": lambda value: value if isinstance(value, str) else value.isoformat(),
    "bool": int, "number": float, "bytes": bytes,
}  # fmt: skip
"""What a driver gives for a column, as `engine.rows` writes it."""


def _same(kind: str, value: Any, there: Any) -> bool:
    if value == there or kind != "json" or value is None or there is None:
        return bool(value == there)
    return bool(msgspec.json.decode(value) == msgspec.json.decode(there))  # MySQL writes it in an order of its own
