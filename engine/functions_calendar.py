"""Functions of the expression language for the calendar, and for computing with times and durations."""

import re
from datetime import UTC, datetime, timedelta

from engine.function_registry import function
from engine.functions_time import DIRECTIVES, as_local, as_moment, zone_of
from engine.quantities import parse_duration

START = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
UNITS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000}


def _length(name: str, duration: str | int | float) -> timedelta:
    """Return a duration, given as text or in seconds."""
    if not isinstance(duration, str):
        return timedelta(seconds=duration)
    try:
        return timedelta(microseconds=parse_duration(duration[:100]))
    except (ValueError, OverflowError):
        raise ValueError(f"{name}: not a duration like 30s, 5m or 1h30m: {duration[:40]!r}") from None


@function()
def year(value: datetime | str, zone: str = "UTC") -> int:
    """Give the year of a time, in UTC or a named zone.

    >>> year("2024-12-31T23:30:00Z", "Asia/Seoul")
    2025
    """
    return as_local(value, zone).year


@function()
def month(value: datetime | str, zone: str = "UTC") -> int:
    """Give the month of a time (1 to 12), in UTC or a named zone.

    >>> month("2024-05-01T23:30:00Z")
    5
    """
    return as_local(value, zone).month


@function()
def day(value: datetime | str, zone: str = "UTC") -> int:
    """Give the day of the month of a time (1 to 31), in UTC or a named zone.

    >>> day("2024-05-01T23:30:00Z", "Asia/Seoul")
    2
    """
    return as_local(value, zone).day


@function()
def day_of_year(value: datetime | str, zone: str = "UTC") -> int:
    """Give the day of the year of a time (1 to 366), in UTC or a named zone.

    >>> day_of_year("2024-12-31T00:00:00Z")
    366
    """
    return as_local(value, zone).timetuple().tm_yday


@function()
def week(value: datetime | str, zone: str = "UTC") -> int:
    """Give the week of a time (1 to 53, ISO 8601: the first has the year's first Thursday), in UTC or a named zone.

    >>> week("2024-12-31T00:00:00Z")
    1
    """
    return as_local(value, zone).isocalendar().week


@function()
def second(value: datetime | str) -> int:
    """Give the second of a time (0 to 59).

    >>> second("2024-05-01T23:30:15.7Z")
    15
    """
    return as_moment(value).second


@function()
def later(value: datetime | str, duration: str | int | float) -> datetime:
    """Give the time a duration later, or earlier where it is a negative number of seconds.

    >>> later("2024-05-01T23:30:00Z", "45m")
    time("2024-05-02T00:15:00Z")
    """
    return as_moment(value) + _length("later", duration)


@function()
def elapsed(start: datetime | str, end: datetime | str) -> float:
    """Give the seconds from one time to another, negative where the other is earlier.

    >>> elapsed("2024-05-01T10:00:00Z", "2024-05-01T10:01:30Z")
    90.0
    """
    return (as_moment(end) - as_moment(start)).total_seconds()


@function()
def start_of(value: datetime | str, duration: str | int | float, zone: str = "UTC") -> datetime:
    """Give the begin of the stretch that a time is in: multiples of a duration since 1970, by the clock of a zone.

    >>> start_of("2024-05-01T10:07:12Z", "15m")
    time("2024-05-01T10:00:00Z")
    """
    length = _length("start_of", duration)
    if length < MICROSECOND:
        raise ValueError("start_of: a duration above 0")
    local = as_local(value, zone).replace(tzinfo=None)
    return (local - (local - START) % length).replace(tzinfo=zone_of(zone)).astimezone(UTC)


@function()
def parse_time(text: str, layout: str, zone: str = "UTC") -> datetime:
    """Read a time by a layout of %Y %m %d %H %M %S and the like; where it says no zone, the given one counts.

    >>> parse_time("01.05.2024 10:00", "%d.%m.%Y %H:%M", "Asia/Seoul")
    time("2024-05-01T01:00:00Z")
    """
    if len(layout) > 200 or not DIRECTIVES.fullmatch(layout):
        raise ValueError("parse_time: a layout has %Y %m %d %H %M %S %f %j %a %b %p %z %Z and up to 200 characters")
    try:
        found = datetime.strptime(text[:200], layout)
    except (ValueError, re.error):
        raise ValueError(f"parse_time: not a time like {layout!r}: {text[:40]!r}") from None
    return (found if found.tzinfo else found.replace(tzinfo=zone_of(zone))).astimezone(UTC)


@function()
def duration(seconds: int | float) -> str:
    """Write seconds as a duration of days, hours, minutes and seconds.

    >>> duration(5400)
    "1h30m"
    """
    rest = round(abs(seconds) * 1_000_000)
    parts = []
    for unit, size in UNITS.items():
        whole, rest = divmod(rest, size)
        parts += [f"{whole}{unit}"] if whole else []
    if rest or not parts:
        parts.append(f"{rest / 1_000_000:.6f}".rstrip("0").rstrip(".") + "s")
    return ("-" if seconds < 0 else "") + "".join(parts)
