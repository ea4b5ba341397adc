"""Live tables: rows of the database that expressions and `lookup` see, each event as they were when it arrived.

The gateway notices what changes in the database, keeps it with a version in the flow's table log (engine/table_log.py)
and puts the version into the inbox. So a change has its place among the events: a worker that reads them again, a
replay and a repair see the rows that the first run saw.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from typing import Any, Protocol

import msgspec

from engine.block import Block
from engine.event import MICROSECONDS, Event
from engine.expression_check import Type
from engine.expression_values import in_utc, kind_of
from engine.expressions import Expression, parse
from engine.outputs import COUNTS, DEAD
from engine.table import Table

TABLES = "!tables"
"""The source of the inbox's records that say: from here on, this version of the tables."""
KEPT, READS = 60 * MICROSECONDS, 64
Key = Any
Row = dict[str, Any]
Changes = dict[str, dict[Key, Row | None]]
"""Table → key → its row, None where there is none any more."""
Run = tuple[str, list[Any]]
TYPES = {
    "serial": Type("number"), "int": Type("number", null=True), "number": Type("float", null=True),
    "bool": Type("boolean", null=True), "text": Type("text", null=True), "time": Type("time", null=True),
    "date": Type("text", null=True), "json": Type("any", null=True),
}  # fmt: skip
"""What a column gives to an expression; bytes are not read into memory."""


class TableLog(Protocol):
    """Where the rows of each version are kept."""

    def rows(self, version: int) -> Changes:
        """Return all rows as they were at a version; of a table that was not live then, the first that are known."""

    def changes(self, after: int, version: int) -> Changes:
        """Return what changed after a version up to another."""

    def first(self, table: str) -> int:
        """Return the version with which a table became live; 0 where it is not."""

    def mark(self, version: int, offset: int, at: int = 0) -> None:
        """Remember where in the inbox a version begins to hold, and when that was committed."""

    def late(self, version: int, span: int) -> list[tuple[int, int]]:
        """Return the versions up to one, with their times, that began to hold in this span before it, in order."""


class LiveTable:
    """The rows of one table in memory: `rows` is a mapping of key (a tuple where it has several columns) → row.

    Generated code is bound to `get`, so `rows` is one dict for good, and what stands in it is never changed in place.
    """

    def __init__(self, table: Table) -> None:
        self.name, self.by = table.name, table.live
        self.types = {name: TYPES[column.type] for name, column in table.columns.items() if column.type in TYPES}
        self.hidden = frozenset(table.columns) - self.types.keys()
        self.rows: dict[Key, Row] = {}
        self.get = self.rows.get

    @property
    def shape(self) -> str:
        """Return its name with what its rows are found by: what a log knows its rows under."""
        return f"{self.name}({', '.join(self.by)})"

    def row(self, by: list[str], settings: Mapping[str, object]) -> Expression:
        """Return the expression that is the row which is found by these; raises ExpressionFault."""
        return parse(f"table.{self.name}[{', '.join(f'({text})' for text in by)}]", settings, {self.name: self})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LiveTable) and (self.shape, self.types) == (other.shape, other.types)

    def __hash__(self) -> int:
        return hash(self.shape)

    def key(self, row: Mapping[str, Any]) -> Key:
        """Return the key of a row."""
        values = tuple(row[name] for name in self.by)
        return values[0] if len(values) == 1 else values

    def problems(self, row: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield what is wrong with a row that is written down, each with the column where it is one."""
        missing = [name for name in self.by if row.get(name) is None]
        if missing:
            yield f"a value for {', '.join(missing)}, which rows of '{self.name}' are found by", ()
        for name, value in row.items():
            if name not in self.types:
                yield f"a column of table '{self.name}' ({', '.join(self.types)}); got '{name}'", (name,)
            elif not _fits(self.types[name].shown, value):
                yield f"{self.types[name].shown}, as column '{name}' has; got {value!r}", (name,)

    def typed(self, row: Mapping[str, Any]) -> Row:
        """Return a row that is written as JSON or YAML has it, with the values that a database gives."""
        return {name: _typed(self.types[name].kind, value) for name, value in row.items() if name in self.types}


class Change(msgspec.Struct):
    """What changed in one table at a time: the rows before and after, by key."""

    at: int
    table: LiveTable
    before: dict[Key, Row | None]
    after: dict[Key, Row | None]


class LiveTables:
    """All live tables of one flow in one process, and the changes of late, so that an event sees the rows of its time.

    One thread only. Times are arrival times in microseconds.
    """

    def __init__(self, tables: Mapping[str, Table] | None = None) -> None:
        self.tables = {name: LiveTable(table) for name, table in (tables or {}).items() if table.live}
        self.version = 0
        self._log: TableLog | None = None
        self.clear()

    def __bool__(self) -> bool:
        return bool(self.tables)

    def clear(self) -> None:
        """Forget all rows."""
        for table in self.tables.values():
            table.rows.clear()
        self._forget()

    def _forget(self) -> None:
        self._changes: list[Change] = []
        self._times: list[int] = []
        self._place = 0
        self._begins: deque[int] = deque(maxlen=READS)

    def load(self, log: TableLog, version: int) -> None:
        """Take the rows of a version, with the changes of late, and go on with those of this log."""
        late = log.late(version, KEPT)
        self._log, self.version = log, max(late[0][0] - 1, 1) if late else version
        self.clear()
        for name, rows in self._ours(log.rows(self.version)).items():
            self.tables[name].rows.update({key: row for key, row in rows.items() if row is not None})
        for number, at in late:
            self._follow(at, number)

    def put(self, at: int, table: str, row: Mapping[str, Any]) -> None:
        """Let a row change: the columns that are named, where there is one with this key."""
        live = self.tables[table]
        given = live.typed(row)
        before = live.rows.get(live.key(given)) or dict.fromkeys(live.types)
        self.learn(at, {table: {live.key(given): {**before, **given}}})

    def _ours(self, changes: Changes) -> Changes:
        """Return what is known by shape under the names of the tables."""
        shapes = {table.shape: name for name, table in self.tables.items()}
        return {shapes[shape]: rows for shape, rows in changes.items() if shape in shapes}

    def heed(self, blocks: list[Block]) -> list[Block]:
        """Take note of the versions among what is read from an inbox, and return the rest."""
        if not self and not any(TABLES in block.sources for block in blocks):
            return blocks
        if blocks:
            self._begins.append(blocks[0].time)
            self._drop(min(self._begins[0], blocks[0].time - KEPT))
        return [part for block in blocks for part in (self._parts(block) if TABLES in block.sources else (block,))]

    def _parts(self, block: Block) -> Iterator[Block]:
        ours, start = block.sources.index(TABLES), 0
        for index, group in groupby(block.source_index):
            part = block.slice(start, start + len(list(group)))
            start += len(part.payloads)
            if index != ours:
                yield part
            else:
                for offset, payload in enumerate(part.payloads, part.first):
                    if self._log is not None:
                        self._log.mark(int(payload), offset, block.time)
                    self._follow(block.time, int(payload))

    def _follow(self, at: int, version: int) -> None:
        """Learn a version of the log; a table that was not live before has had its first rows all the time."""
        if self._log is None or version <= self.version:
            return
        found = self._ours(self._log.changes(self.version, version))
        first = {name for name in found if self._log.first(self.tables[name].shape) > self.version}
        self.learn(0, {name: rows for name, rows in found.items() if name in first})
        self.learn(at, {name: rows for name, rows in found.items() if name not in first})
        self.version = version

    def learn(self, at: int, changes: Changes) -> None:
        """Let rows change at a time, not before any earlier change; 0: let them have been so all the time."""
        self._go(len(self._changes))
        for name, after in changes.items():
            table = self.tables[name]
            before = {key: table.rows.get(key) for key in after}
            if at:
                self._changes.append(Change(at, table, before, after))
                self._times.append(at)
                self._place += 1
            _apply(table, after)

    def at(self, time: int) -> None:
        """Let the tables be as they were at a time."""
        if self._times:
            self._go(bisect_right(self._times, time))

    def _go(self, place: int) -> None:
        while self._place < place:
            _apply(self._changes[self._place].table, self._changes[self._place].after)
            self._place += 1
        while self._place > place:
            self._place -= 1
            _apply(self._changes[self._place].table, self._changes[self._place].before)

    def _drop(self, before: int) -> None:
        """Forget the changes up to a time: no event of that time comes any more."""
        count = bisect_right(self._times, before)
        if count:
            self._go(len(self._changes))
            del self._changes[:count], self._times[:count]
            self._place -= count

    def events(self, events: list[Event]) -> Iterator[list[Event]]:
        """Yield events in runs, the tables as they were when those of a run arrived."""
        if not self._times:
            yield events
            return
        for place, group in groupby(events, key=lambda event: bisect_right(self._times, event.arrival)):
            self._go(place)
            yield list(group)

    def runs(self, runs: Iterable[Run]) -> Iterator[list[Run]]:
        """Yield runs of a stage in parts, the tables as they were when the events of a part arrived."""
        if not self._times:
            yield list(runs)
            return
        for name, items in runs:
            if name in (COUNTS, DEAD):
                yield [(name, items)]
            else:
                yield from ([(name, part)] for part in self.events(items))

    def blocks(self, blocks: list[Block]) -> Iterator[list[Block]]:
        """Yield blocks in parts, the tables as they were when those of a part arrived."""
        for place, group in groupby(blocks, key=lambda block: bisect_right(self._times, block.time)):
            self._go(place)
            yield list(group)


def _apply(table: LiveTable, changes: Mapping[Key, Row | None]) -> None:
    rows = table.rows
    for key, row in changes.items():
        if row is None:
            rows.pop(key, None)
        else:
            rows[key] = row


def _fits(kind: str, value: Any) -> bool:
    """Tell whether a value that is written in YAML can be one of this kind."""
    found = kind_of(value)
    if kind == "time" and isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
        return True
    return found in (kind, "none") or kind == "any"


def _typed(kind: str, value: Any) -> Any:
    if kind == "float" and isinstance(value, int):
        return float(value)
    if kind == "time" and isinstance(value, str):
        return in_utc(datetime.fromisoformat(value))
    return value
