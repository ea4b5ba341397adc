"""Values of one type from what devices write instead: numbers and times as text, true as 1, times as numbers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.expression_values import LARGEST, SMALLEST, as_text, in_utc
from engine.functions_text import NUMBER

TRUE = frozenset(("true", "yes", "on", "1", "t", "y"))
FALSE = frozenset(("false", "no", "off", "0", "f", "n"))
LONGEST = 64
SCALES = ((1e11, 1), (1e14, 1_000), (1e17, 1_000_000), (1e20, 1_000_000_000))
"""Numbers below these are seconds, milliseconds, microseconds and nanoseconds since 1970."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_number(value: Any) -> int | float:
    """Return a number; text is read as one. Raises ValueError for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    text = value.strip() if isinstance(value, str) and len(value) <= LONGEST else ""
    if not NUMBER.fullmatch(text):
        raise ValueError("number")
    if text.lstrip("+-").isdecimal() and SMALLEST <= int(text) <= LARGEST:
        return int(text)
    found = float(text)
    if abs(found) == float("inf"):
        raise ValueError("number")
    return found


def to_int(value: Any) -> int:
    """Return a whole number of 64 bits, also from text and from a float without a fraction; raises ValueError."""
    try:
        found = to_number(value)
        whole = int(found)
    except (ValueError, OverflowError):
        raise ValueError("int") from None
    if whole != found or not SMALLEST <= whole <= LARGEST:
        raise ValueError("int")
    return whole


def to_bool(value: Any) -> bool:
    """Return true or false, also from 1, 0, and text like true, yes, on, 1, t, y; raises ValueError."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    text = value.strip().lower() if isinstance(value, str) else ""
    if text not in TRUE and text not in FALSE:
        raise ValueError("bool")
    return text in TRUE


def to_time(value: Any) -> datetime:
    """Return a time in UTC, from ISO 8601 text or from seconds, ms, µs or ns since 1970, by size; raises ValueError."""
    try:
        if isinstance(value, str) and len(value) <= LONGEST:
            return in_utc(datetime.fromisoformat(value.strip()))
        if isinstance(value, datetime):
            return in_utc(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            scale = next(scale for limit, scale in SCALES if abs(value) < limit)
            whole, part = divmod(value, scale)
            return EPOCH + timedelta(seconds=whole, microseconds=part * 1_000_000 / scale)
    except (ValueError, OverflowError, StopIteration):
        pass
    raise ValueError("time")


def to_text(value: Any) -> str:
    """Return text, also from a number, true, false and a time; raises ValueError."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | bool | datetime):
        return as_text(value)
    raise ValueError("text")


COERCIONS: dict[str, Callable[[Any], Any]] = {
    "text": to_text, "number": to_number, "int": to_int, "bool": to_bool, "time": to_time,
}  # fmt: skip
"""Type → what makes a value of it; each raises ValueError with the name of its type."""
