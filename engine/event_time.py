"""The event's own time, where its source names the field that carries it."""

from datetime import datetime
from typing import Any

from engine.errors import EventFault
from engine.event import MICROSECONDS, microseconds

AHEAD = 60 * MICROSECONDS


def event_time(value: Any, field: str, arrival: int) -> int:
    """Return a time as microseconds: ISO 8601 text (UTC where it names no zone), read or not, or a number since 1970.

    A number is one of seconds, milliseconds or microseconds, by its size.

    A time more than a minute after the arrival is refused: one wrong clock would make all that follows late; so is one
    before 1970, where windows begin.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        time = round(min(value, 1e30) * (MICROSECONDS if value < 1e11 else 1000 if value < 1e14 else 1))
    elif isinstance(value, datetime):
        time = microseconds(value)
    elif isinstance(value, str):
        try:
            time = microseconds(datetime.fromisoformat(value))
        except ValueError:
            raise EventFault(f"{field}: an ISO 8601 time; got '{value[:40]}'", {field: value}) from None
    else:
        raise EventFault(f"{field}: a time; got {value!r}"[:200], {field: value})
    if time < 0:
        raise EventFault(f"{field}: a time since 1970; got {value}"[:200], {field: value})
    if time > arrival + AHEAD:
        raise EventFault(f"{field}: a time at most a minute after the arrival; got {value}"[:200], {field: value})
    return time
