"""Functions of the expression language for times; where one is taken, its ISO 8601 text is too."""

import functools
import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from engine.event import microseconds
from engine.expression_values import in_utc
from engine.function_registry import Number, function
from engine.quantities import parse_duration

DIRECTIVES = re.compile(r"(?:[^%]|%[YymdHIMSfpjaAbBuVGzZ%])*")


@functools.lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name; raise ValueError."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name[:40]!r}; a name is like 'Europe/Berlin'") from None


def as_moment(value: datetime | str) -> datetime:
    """Return a time in UTC; raise ValueError for a text that is none."""
    if isinstance(value, datetime):
        return in_utc(value)
    try:
        return in_utc(datetime.fromisoformat(value.strip()))
    except (ValueError, OverflowError):
        raise ValueError(f"not a time in ISO 8601: {value[:40]!r}") from None


def as_local(value: datetime | str, zone: str) -> datetime:
    """Return a time by the clock of a zone; raise ValueError."""
    return as_moment(value).astimezone(zone_of(zone))


@function()
def time(value: datetime | str | int | float) -> datetime:
    """Read a time from ISO 8601 text (UTC where it has no zone) or from seconds since 1970.

    >>> time("2024-05-01T10:00:00+09:00")
    time("2024-05-01T01:00:00Z")
    """
    if isinstance(value, datetime | str):
        return as_moment(value)
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"not a time in seconds since 1970: {value:g}") from None


@function()
def iso(value: datetime | str) -> str:
    """Write a time as ISO 8601 in UTC.

    >>> iso(time(1714525200))
    "2024-05-01T01:00:00Z"
    """
    return as_moment(value).isoformat().replace("+00:00", "Z")


@function()
def unix(value: datetime | str) -> float:
    """Give a time as seconds since 1970; the difference of two is the time between.

    >>> unix("1970-01-01T00:01:00.5Z")
    60.5
    """
    return as_moment(value).timestamp()


@function()
def unix_ms(value: datetime | str) -> int:
    """Give a time as whole milliseconds since 1970.

    >>> unix_ms("1970-01-01T00:01:00.5Z")
    60500
    """
    return microseconds(as_moment(value)) // 1000


@function()
def hour(value: datetime | str, zone: str = "UTC") -> int:
    """Give the hour of a time (0 to 23), in UTC or a named zone.

    >>> hour("2024-05-01T23:30:00Z", "Asia/Seoul")
    8
    """
    return as_local(value, zone).hour


@function()
def minute(value: datetime | str, zone: str = "UTC") -> int:
    """Give the minute of a time (0 to 59), in UTC or a named zone.

    >>> minute("2024-05-01T23:30:00Z")
    30
    """
    return as_local(value, zone).minute


@function()
def weekday(value: datetime | str, zone: str = "UTC") -> int:
    """Give the day of the week of a time, from 1 for Monday to 7 for Sunday, in UTC or a named zone.

    >>> weekday("2024-05-01T23:30:00Z")
    3
    """
    return as_local(value, zone).isoweekday()


@function()
def date(value: datetime | str, zone: str = "UTC") -> str:
    """Give the day of a time as text, in UTC or a named zone.

    >>> date("2024-05-01T23:30:00Z", "Asia/Seoul")
    "2024-05-02"
    """
    return as_local(value, zone).date().isoformat()


@function()
def format_time(value: datetime | str, layout: str, zone: str = "UTC") -> str:
    """Write a time by a layout of %Y %m %d %H %M %S and the like, in UTC or a named zone.

    >>> format_time("2024-05-01T23:30:00Z", "%d.%m. %H:%M")
    "01.05. 23:30"
    """
    if len(layout) > 200 or not DIRECTIVES.fullmatch(layout):
        raise ValueError("format_time: a layout has %Y %m %d %H %M %S %f %j %a %b %p %z %Z and up to 200 characters")
    return as_local(value, zone).strftime(layout)


@function()
def seconds(duration: str | int | float) -> Number:
    """Read a duration (30s, 5m, 2h, 7d, 1h30m) as seconds; a number is taken as seconds.

    >>> seconds("1h30m")
    5400.0
    """
    if not isinstance(duration, str):
        return duration
    try:
        return parse_duration(duration[:100]) / 1_000_000
    except (ValueError, OverflowError):
        raise ValueError(f"seconds: not a duration like 30s, 5m or 1h30m: {duration[:40]!r}") from None
