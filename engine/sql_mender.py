"""Bring back the rows that a table lacks, from events that are read again."""

from collections import Counter

from engine.database import transaction
from engine.event import Event
from engine.outside import Outside
from engine.row_store import Key, Row
from engine.sql_writer import SqlWriter, Writing
from engine.upsert import Absent


class AppendMender(SqlWriter):
    """Adds the rows whose event the table does not have."""

    whole = False

    def __init__(self, name: str, sink: Writing, outside: Outside) -> None:
        super().__init__(name, sink, outside)
        self.there = self.added = 0
        self.refused: Counter[str] = Counter()

    async def write(self, events: list[Event]) -> None:
        """Add what is not there, in one transaction unless the database refuses some of it."""
        rows, dead = self._rows(events)
        new = await self._lacking(rows)
        refused = (await self._commit(new)).refused if new else []
        self.there += len(rows) - len(new)
        self.added += len(new) - len(refused)
        self.refused.update(fault.reason for _, fault in [*dead, *refused])

    async def _lacking(self, rows: list[Row]) -> list[Row]:
        async with transaction(self._outside.database) as connection:
            stored = await self._store.stored(connection, rows)
        return [row for row in {row.event.id: row for row in rows}.values() if row.event.id not in stored]

    async def finish(self, *, from_the_first: bool) -> None:
        """Do nothing: each write was complete."""


class UpsertMender(AppendMender):
    """Adds the rows whose key the table does not have, as their events left them; what is there may be newer.

    What rows lack is known only after the last event, so memory grows with the rows that are missing.
    """

    whole = True

    def __init__(self, name: str, sink: Writing, outside: Outside) -> None:
        super().__init__(name, sink, outside)
        table = outside.metadata.tables[sink.table]
        keys = [column.name for column in table.primary_key.columns]
        self._columns = {column.name for column in table.columns} - {"_event", *keys}
        self._store: Absent = Absent(table, self._engine.dialect, sink.by or keys)
        self._known: set[Key] = set()
        self._missing: dict[Key, Row] = {}

    async def write(self, events: list[Event]) -> None:
        """Remember the state of each row that is not there."""
        rows, dead = self._rows(events)
        keyed = [(key, row) for row in rows if (key := self._store.key(row)) is not None]
        await self._look({key for key, _ in keyed} - self._known - self._missing.keys())
        for key, row in keyed:
            if key not in self._known:
                before = self._missing.get(key)
                self._missing[key] = Row(row.event, {**before.values, **row.values} if before else row.values)
        self.refused.update(fault.reason for _, fault in dead)
        self.refused["a column of the key has no value"] += len(rows) - len(keyed)

    async def _look(self, keys: set[Key]) -> None:
        async with transaction(self._outside.database) as connection:
            known = await self._store.there(connection, list(keys))
        self._known |= known
        self.there += len(known)

    async def finish(self, *, from_the_first: bool) -> None:
        """Add what is missing; a row that older events may have had a part in is not added without them."""
        rows = list(self._missing.values())
        complete = [row for row in rows if from_the_first or row.values.keys() >= self._columns]
        self.refused["earlier events that made this row are trimmed"] += len(rows) - len(complete)
        for begin in range(0, len(complete), self._batch):
            part = complete[begin : begin + self._batch]
            refused = (await self._commit(part)).refused
            self.added += len(part) - len(refused)
            self.refused.update(fault.reason for _, fault in refused)
