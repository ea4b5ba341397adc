"""The table of results as somebody sees it who looks every few milliseconds: which message was visible when."""

import threading
import time
from types import TracebackType

import pymysql

from bench.rivals.stream import PER_CAR, Expected
from tests.process import LOCALHOST

LOOK, PATIENCE = 0.005, 60.0
NEWEST = "SELECT n FROM sensor_result ORDER BY id DESC LIMIT 1"
SUMS = f"""
SELECT COUNT(*), COALESCE(SUM(n), 0), COALESCE(SUM(result = 'DEFECT'), 0),
  COALESCE(SUM(car_id <> n DIV {PER_CAR} + 1 OR device NOT LIKE 'LED_'), 0), (SELECT COUNT(*) FROM car)
FROM sensor_result
"""  # noqa: S608 - of our own constants
PASSWORD = "secret"  # noqa: S105 - of a server that lives for the bench


class Watch:
    """Looks at the newest row from entering to leaving; `looks` has (monotonic seconds, number of the message)."""

    def __init__(self, port: int, database: str) -> None:
        self._connection = pymysql.connect(
            host=LOCALHOST, port=port, user="millstream", password=PASSWORD, database=database, autocommit=True
        )
        self.looks: list[tuple[float, int]] = []
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def query(self, text: str) -> tuple[int, ...]:
        """Return the only row of a query."""
        with self._lock, self._connection.cursor() as cursor:
            cursor.execute(text)
            row = cursor.fetchone()
        return tuple(map(int, row)) if row else ()

    def _look(self) -> None:
        highest = -1
        while not self._ended.is_set():
            newest = self._newest()
            if newest > highest:
                highest = newest
                self.looks.append((time.monotonic(), newest))
            time.sleep(LOOK)

    def _newest(self) -> int:
        try:
            return next(iter(self.query(NEWEST)), -1)
        except pymysql.err.ProgrammingError:  # the table is not there yet
            return -1

    def until(self, wanted: Expected, within: float = PATIENCE) -> float:
        """Wait for the last row, then check every row; return when it was there, in monotonic seconds."""
        end, seen = time.monotonic() + within, 0
        while time.monotonic() < end:
            if len(self.looks) > seen or self._ended.wait(0.05):
                seen = len(self.looks)
            if self.looks and self.looks[-1][1] >= wanted.last:
                break
        when = self.looks[-1][0] if self.looks else end
        full = (wanted.rows, wanted.numbers, wanted.defects, 0, wanted.cars)
        while (found := self.query(SUMS)) != full and found[0] <= wanted.rows and time.monotonic() < end:
            when = time.monotonic()
        assert found == full, f"rows, sum of numbers, defects, wrong ones, cars: {found}; expected {full}"
        return when

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()
