"""The dead letters of a flow: a SQLite file that the worker writes while others read it."""

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from engine import letter_file
from engine.cause import cause_of
from engine.errors import EnvironmentFault, Unavailable
from engine.letter import ALL, CHANGES, Cause, Letter, Selection
from engine.snapshot import storable

MOST_LETTERS, MOST_BYTES = 1_000_000, 1 << 30
AT_ONCE, STEP = 500, 100
_COLUMNS = tuple(name for name in Letter.__struct_fields__ if name != "number")
_ADD = f"""
INSERT INTO dead ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))})
ON CONFLICT (id, node) DO UPDATE SET
    time = excluded.time, reason = excluded.reason, cause = excluded.cause, details = excluded.details,
    version = excluded.version, state = 'new', attempt = attempt + 1, changed_at = 0, changed_by = '',
    exact = iif(coalesce(fixed, payload) = excluded.payload, exact, excluded.exact),
    payload = iif(coalesce(fixed, payload) = excluded.payload, payload, excluded.payload),
    fixed = iif(coalesce(fixed, payload) = excluded.payload, fixed, NULL)
WHERE excluded.time > time"""  # noqa: S608 - names of ours

_CHANGE = "UPDATE dead SET {} = ?, changed_at = ?, changed_by = ? WHERE number = ? AND time = ?"


class DeadLetterStore:
    """Keeps dead letters by event and node. Every call may come from any thread; a file that is not there is empty.

    It holds `most` letters and `most_bytes` of file. When more come, those that were dropped or retried give way, the
    ones first that were so longest; where only new ones are left, `add` raises Unavailable until somebody retries or
    drops some. So the flow waits, its inbox fills, and the senders are told: an event that was acknowledged is never
    thrown away silently, and who would rather lose bad events than wait says `on_error: drop` at the node.

    A writer waits `patience` seconds for another. Raises Unavailable when the disk is full or the file locked,
    EnvironmentFault when it is no such store.
    """

    def __init__(
        self, path: Path | str, patience: float = 10, most: int = MOST_LETTERS, most_bytes: int = MOST_BYTES
    ) -> None:
        self.path, self._patience = Path(path), patience
        self._most, self._most_bytes = most, most_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def add(self, letters: Iterable[Letter]) -> int:
        """Keep letters and return how many were not known; they are on the disk on return.

        One of an event that failed at this node before stays as it is when it comes again from a replay; when it
        arrived later than that one, it was retried: it is `new` again, with the new reason and one attempt more.
        """
        rows, added = [_row(letter) for letter in letters], 0
        for start in range(0, len(rows), AT_ONCE):
            added += self._add(rows[start : start + AT_ONCE])
        return added

    def _add(self, rows: list[list[Any]]) -> int:
        with self._writing() as connection:
            connection.execute("SAVEPOINT letters")
            added = connection.executemany(_ADD, rows).rowcount
            room = self._make_room(connection)
            if room:
                connection.execute("DELETE FROM waiting")
            else:
                connection.execute("ROLLBACK TO letters")
                connection.execute("INSERT INTO waiting SELECT ? WHERE NOT EXISTS (SELECT 1 FROM waiting)", [_now()])
        if not room:
            raise Unavailable(f"{self.path}: full of dead letters that are new: retry or drop some")
        return added

    def _make_room(self, connection: sqlite3.Connection) -> bool:
        """Let what is done give way; False where that is not enough."""
        while self._full(connection):
            old = "SELECT number FROM dead WHERE state != 'new' ORDER BY changed_at LIMIT ?"
            over = sum(letter_file.held(connection).values()) - self._most
            found = connection.execute(f"DELETE FROM dead WHERE number IN ({old})", [over if over > 0 else STEP])  # noqa: S608
            if not found.rowcount:
                return False
        return True

    def _full(self, connection: sqlite3.Connection) -> bool:
        many = sum(letter_file.held(connection).values())
        return many > self._most or letter_file.size(connection) > self._most_bytes

    def rows(self, chosen: Selection = ALL, limit: int = 100, before: int | None = None) -> list[Letter]:
        """Return letters, newest first; `before` is the number of the last one of the page before."""
        where, values = _where(chosen, ("number < ?", before))
        return self._letters(f"{where} ORDER BY number DESC LIMIT ?", [*values, limit])

    def after(self, chosen: Selection, number: int, limit: int) -> list[Letter]:
        """Return letters, oldest first, from the one after this number on."""
        where, values = _where(chosen, ("number > ?", number))
        return self._letters(f"{where} ORDER BY number LIMIT ?", [*values, limit])

    def find(self, text: str, limit: int = 20) -> list[Letter]:
        """Return the letters that a text names: their number, their event's id in hex, or how that begins."""
        if text.isascii() and text.isdigit() and len(text) < 10:
            return self._letters(" WHERE number = ?", [int(text)])
        try:
            low, high = (bytes.fromhex(text.ljust(32, pad)) for pad in "0f")
        except ValueError:
            return []
        return self._letters(" WHERE id BETWEEN ? AND ? ORDER BY number LIMIT ?", [low, high, limit])

    def get(self, event_id: bytes, node: str) -> Letter | None:
        """Return one letter."""
        found = self._letters(" WHERE id = ? AND node = ?", [event_id, node])
        return found[0] if found else None

    def count(self, chosen: Selection = ALL) -> int:
        """Return how many there are."""
        if chosen == ALL:
            return sum(self.counts().values())
        where, values = _where(chosen)
        found = self._read(f"SELECT COUNT(*) AS many FROM dead{where}", values)  # noqa: S608
        return int(found[0]["many"]) if found else 0

    def counts(self) -> dict[str, int]:
        """Return how many there are in each state; costs the same for one as for a million."""
        return {row["state"]: row["many"] for row in self._read("SELECT state, many FROM held WHERE many > 0", [])}

    def full_since(self) -> int | None:
        """Return since when (microseconds) letters wait for room here; None where none does."""
        found = self._read("SELECT since FROM waiting", [])
        return int(found[0]["since"]) if found else None

    def causes(self, chosen: Selection = ALL, limit: int = 1000) -> list[Cause]:
        """Return the letters grouped by node and cause, the most frequent first."""
        where, values = _where(chosen)
        sql = f"SELECT node, cause, COUNT(*) AS many, MAX(time) AS latest, MAX(number) AS last FROM dead{where}"  # noqa: S608
        sql = f"SELECT g.*, reason FROM ({sql} GROUP BY node, cause) g JOIN dead ON number = last"  # noqa: S608
        rows = self._read(f"{sql} ORDER BY many DESC, g.node, g.cause LIMIT ?", [*values, limit])
        return [Cause(row["node"], row["cause"], row["many"], row["latest"], row["reason"]) for row in rows]

    def mark(self, letters: Sequence[Letter], state: str, by: str) -> int:
        """Set the state of letters as they were read, and return of how many.

        One that was retried stays so, and one that failed again meanwhile stays new.
        """
        if state not in CHANGES:
            raise ValueError(f"one of {', '.join(CHANGES)}; got '{state}'")
        marks = ", ".join("?" * len(CHANGES[state]))
        sql = f"{_CHANGE.format('state')} AND state IN ({marks})"
        values = [(state, _now(), by, letter.number, letter.time, *CHANGES[state]) for letter in letters]
        return self._change(sql, values)

    def fix(self, fixes: Sequence[tuple[Letter, bytes | None]], by: str) -> int:
        """Store edited data (JSON) beside the original, or forget it (None); return of how many letters."""
        sql = _CHANGE.format("fixed") + " AND state != 'retried'"
        return self._change(sql, [(data, _now(), by, letter.number, letter.time) for letter, data in fixes])

    def _change(self, sql: str, values: Sequence[Sequence[Any]]) -> int:
        if not values or not self.path.exists():
            return 0
        with self._writing() as connection:
            return connection.executemany(sql, values).rowcount

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _letters(self, rest: str, values: Sequence[Any]) -> list[Letter]:
        return [_letter(row) for row in self._read(f"SELECT * FROM dead{rest}", values)]  # noqa: S608

    def _read(self, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        if not self.path.exists():
            return []
        with self._open() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                yield connection

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = letter_file.connect(self.path, self._patience)
                yield self._connection
            except (sqlite3.OperationalError, OSError) as fault:
                raise Unavailable(f"dead letters {self.path}: {fault}") from fault
            except sqlite3.DatabaseError as fault:
                raise EnvironmentFault(f"dead letters {self.path}: {fault}") from fault


def _now() -> int:
    return time.time_ns() // 1000


def _where(chosen: Selection, *more: tuple[str, Any]) -> tuple[str, list[Any]]:
    """Return a WHERE and its values; `more` is what bounds a page."""
    given = [*chosen.conditions(in_order=bool(more)), *((text, [value]) for text, value in more if value is not None)]
    where = " AND ".join(text for text, _ in given)
    return (f" WHERE {where}" if where else ""), [value for _, values in given for value in values]


def _row(letter: Letter) -> list[Any]:
    """Return a letter as it is stored; text that is no UTF-8 keeps all but what cannot be written."""
    fields: dict[str, Any] = {name: getattr(letter, name) for name in _COLUMNS}
    fields |= {"cause": cause_of(letter.reason), "details": _json(letter.details), "meta": packed(letter.meta)}
    return [v.encode(errors="replace").decode() if isinstance(v, str) else v for v in fields.values()]


def packed(value: Any) -> bytes:
    """Return a value as MessagePack, as near as that can hold it."""
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, TypeError, ValueError, RecursionError):
        return msgspec.msgpack.encode(storable(value))


def _json(details: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(details, enc_hook=repr).decode()
    except (TypeError, ValueError, RecursionError):
        return msgspec.json.encode({"text": ascii(details)}).decode()


def _letter(row: sqlite3.Row) -> Letter:
    fields = {name: row[name] for name in Letter.__struct_fields__}
    read = {"details": msgspec.json.decode(fields["details"]), "meta": msgspec.msgpack.decode(fields["meta"])}
    return Letter(**fields | read)
