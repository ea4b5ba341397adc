"""Looks into the event table from outside, twenty times a second: when it grew, and how new its last rows are."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import pymysql

INTERVAL = 0.05
VIAS = ("devices", "posted")
NEWEST = "SELECT id, t FROM event WHERE via = %s ORDER BY id DESC LIMIT 1"


class Table:
    """Queries of the flow's database; a connection that is lost is made again by the next query."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._connection: pymysql.Connection[pymysql.cursors.Cursor] | None = None

    def rows(self, sql: str, *values: object) -> Sequence[Sequence[object]]:
        """Return the rows of a statement; raises pymysql.err.MySQLError while the database is away."""
        try:
            with self._connected().cursor() as cursor:
                cursor.execute(sql, values or None)
                return list(cursor.fetchall())
        except pymysql.err.MySQLError:
            self.close()
            raise

    def number(self, sql: str, *values: object) -> int:
        """Return the one number that a statement finds."""
        return int(str(self.rows(sql, *values)[0][0] or 0))

    def _connected(self) -> pymysql.Connection[pymysql.cursors.Cursor]:
        if self._connection is None:
            url = self._url
            self._connection = pymysql.connect(
                host=url.hostname, port=url.port or 3306, user=url.username, password=url.password or "",
                database=url.path[1:], autocommit=True, connect_timeout=2, read_timeout=60,
            )  # fmt: skip
        return self._connection

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None and self._connection.open:
            self._connection.close()
        self._connection = None


class Watch(threading.Thread):
    """`longest_gap` is the longest time in seconds without a new row; `newest` the send time of the last row by source.

    Times of sending are Unix times in seconds.
    """

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._table = Table(url)
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._ids = dict.fromkeys(VIAS, 0)
        self._newest = dict.fromkeys(VIAS, 0.0)
        self._grew = 0.0
        self.longest_gap = 0.0

    def run(self) -> None:
        while not self._ending.wait(INTERVAL):
            try:
                found = {via: self._table.rows(NEWEST, via) for via in VIAS}
            except pymysql.err.MySQLError:
                continue
            self._note({via: (int(str(rows[0][0])), float(str(rows[0][1]))) for via, rows in found.items() if rows})
        self._table.close()

    def _note(self, found: dict[str, tuple[int, float]]) -> None:
        now = time.monotonic()
        with self._lock:
            grew = [via for via, (number, _) in found.items() if number > self._ids[via]]
            for via in grew:
                self._ids[via], self._newest[via] = found[via][0], found[via][1] / 1000
            if grew:
                self.longest_gap = max(self.longest_gap, now - self._grew) if self._grew else 0.0
                self._grew = now

    def fresh(self, since: float) -> bool:
        """Tell whether every source has a row of what was sent after that time."""
        with self._lock:
            return all(newest > since for newest in self._newest.values())

    def stop(self) -> None:
        """End the thread; the time up to now is no gap."""
        self._ending.set()
        self.join(10)
