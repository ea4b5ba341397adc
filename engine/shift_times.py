"""When shifts begin and end: times of day in a time zone, each shift until the next one begins."""

from bisect import bisect_right
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from engine.event import microseconds, moment


class ShiftTimes:
    """Shifts by name, each with the time of day, `HH:MM`, at which it begins."""

    def __init__(self, begins: Mapping[str, str], zone: ZoneInfo) -> None:
        self._begins = [(time.fromisoformat(text), name) for name, text in begins.items()]
        self._zone = zone
        self._day = lru_cache(4)(self._around)

    def _around(self, day: date) -> tuple[list[int], list[str]]:
        """Return the beginnings on a day and on its neighbours, in order, and the names."""
        found = sorted(
            (microseconds(datetime.combine(day + timedelta(days), begins, self._zone)), name)
            for days in (-1, 0, 1)
            for begins, name in self._begins
        )
        return [start for start, _ in found], [name for _, name in found]

    def at(self, now: int) -> tuple[int, int, str]:
        """Return start, end (microseconds since 1970) and name of the shift at a time."""
        starts, names = self._day(moment(now).astimezone(self._zone).date())
        index = bisect_right(starts, now)
        return starts[index - 1], starts[index], names[index - 1]
