"""What the file sink knows of its files, in one SQLite file: how long each is, and what was written last.

Both change in one commit after the bytes are on the disk. So what stands in a file beyond its length was never
committed and is overwritten, and what comes again after a crash is known by its digest.
"""

import sqlite3
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec

KNOWN = 100_000
"""How many digests are kept: more than can come again after a crash, which is what came since the last snapshot."""
DIGEST = 16  # bytes
SCHEMA = """
create table file (path text primary key, part integer, length integer, began integer, touched integer);
create table written (number integer primary key, digests blob);
"""
APPLICATION, VERSION = 0x4D53464A, 1  # "MSFJ"


class Place(msgspec.Struct):
    """Where the next bytes of a path go: which part of it, at which length, and when that part began (microseconds)."""

    part: int = 1
    length: int = 0
    began: int = 0


class Journal:
    """Opened by one writer; its calls block. Raises sqlite3.Error. `places` has those last that were written last."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise
        self.places = {
            path: Place(*values)
            for path, *values in self._connection.execute("select path, part, length, began from file order by touched")
        }
        self._touched = self._one("select coalesce(max(touched), 0) from file")
        self._number = self._one("select coalesce(max(number), 0) from written")
        self._batches: deque[tuple[int, list[bytes]]] = deque()
        self._known: set[bytes] = set()
        for number, digests in self._connection.execute("select number, digests from written order by number"):
            self._learn(number, [digests[at : at + DIGEST] for at in range(0, len(digests), DIGEST)])

    def _prepare(self) -> None:
        self._connection.execute("pragma journal_mode=wal")
        self._connection.execute("pragma synchronous=full")
        if not self._one("select count(*) from sqlite_master"):
            pragmas = f"pragma application_id={APPLICATION}; pragma user_version={VERSION}"
            self._connection.executescript(f"begin; {SCHEMA}; {pragmas}; commit")
        found = self._one("pragma application_id"), self._one("pragma user_version")
        if found != (APPLICATION, VERSION):
            raise sqlite3.DatabaseError(f"a file of another kind or version ({found[0]:#x}, {found[1]})")

    def _one(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])

    def _learn(self, number: int, digests: list[bytes]) -> int:
        """Know these digests; return up to which number older ones are forgotten."""
        self._batches.append((number, digests))
        self._known.update(digests)
        gone = 0
        while len(self._known) - len(self._batches[0][1]) >= KNOWN:
            gone, old = self._batches.popleft()
            self._known.difference_update(old)
        return gone

    def known(self, digest: bytes) -> bool:
        """Tell whether this was written."""
        return digest in self._known

    def commit(self, places: dict[str, Place], digests: Iterable[bytes] = ()) -> None:
        """Note how long files are now, and what was written to them."""
        written = list(digests)
        self._touched += 1
        number = self._number + 1
        self._connection.execute("begin immediate")
        with self._connection:
            rows = [(path, *msgspec.structs.astuple(place), self._touched) for path, place in places.items()]
            self._connection.executemany("insert or replace into file values (?, ?, ?, ?, ?)", rows)
            if written:
                self._connection.execute("insert into written values (?, ?)", [number, b"".join(written)])
        for path, place in places.items():
            self.places.pop(path, None)
            self.places[path] = place
        if written:
            self._number = number
            self._connection.execute("delete from written where number <= ?", [self._learn(number, written)])

    def forget(self, paths: Iterable[str]) -> None:
        """Know nothing of these files any more: they are as long as they are."""
        for path in paths:
            self._connection.execute("delete from file where path = ?", [path])
            self.places.pop(path, None)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
