"""Durations, rates and sizes as they are written in a flow: `30s`, `10/s`, `64KiB`."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
_RATE = re.compile(r"(\d+(?:\.\d+)?)/(s|m|h)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s?(B|KB|MB|GB|KiB|MiB|GiB)")


def _refuse(kind: str, example: str, value: object) -> PydanticCustomError:
    return PydanticCustomError(kind, "a {kind} like {example}", {"kind": kind, "example": example, "value": value})


def parse_duration(value: Any) -> int:
    """Return a duration in microseconds: `250ms`, `30s`, `5m`, `2h`, `7d`, also joined as `1h30m`."""
    text = str(value).strip()
    parts = _DURATION.findall(text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise _refuse("duration", "30s, 5m, 2h or 7d", value)
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def is_duration(value: Any) -> bool:
    """Tell whether a value is written like a duration."""
    return isinstance(value, str) and re.fullmatch(f"({_DURATION.pattern})+", value.strip()) is not None


def parse_rate(value: Any) -> float:
    """Return a rate in events a second: `10/s`, `6/m`."""
    found = _RATE.fullmatch(str(value).strip())
    if not found or not float(found[1]):
        raise _refuse("rate", "10/s or 6/m", value)
    return float(found[1]) * 1_000_000 / _UNITS[found[2]]


def parse_size(value: Any) -> int:
    """Return a size in bytes: `512B`, `64KiB`, `20MB`."""
    found = _SIZE.fullmatch(str(value).strip())
    if not found:
        raise _refuse("size", "64KiB or 20MB", value)
    return round(float(found[1]) * _SIZES[found[2]])


def duration_text(duration: int) -> str:
    """Return microseconds as they would be written in a flow."""
    for unit in ("d", "h", "m", "s", "ms"):
        if duration and duration % _UNITS[unit] == 0:
            return f"{duration // _UNITS[unit]}{unit}"
    return f"{duration}us"


def _text_schema(kind: str, pattern: re.Pattern[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "title": kind, "pattern": f"^({pattern.pattern})+$"})


Duration = Annotated[int, BeforeValidator(parse_duration), _text_schema("duration", _DURATION)]
Rate = Annotated[float, BeforeValidator(parse_rate), _text_schema("rate", _RATE)]
Size = Annotated[int, BeforeValidator(parse_size), _text_schema("size", _SIZE)]
