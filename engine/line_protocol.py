"""InfluxDB's line protocol, as its reference for v2 says: `measurement,tag=a field=1,other="x" 1714525200000000000`."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.expression_values import LARGEST, SMALLEST, as_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"ns": 1_000_000_000, "us": 1_000_000, "ms": 1_000, "s": 1}
"""Timestamps in one second, by precision."""
_NAME = re.compile(r"(?:\\[, ]|[^, \r\n])+")
_KEY = re.compile(r"(?:\\[,= ]|[^,= \r\n])+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_LITERAL = re.compile(r"[^, \r\n]+")
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_BOOLS = {name: name[0] in "tT" for name in ("t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE")}

Read = Callable[[str, int, int], tuple[Any, int]]
"""Reads a value of a text: where its line begins, where it begins itself; gives where it ends, too."""


def read_lines(text: str, precision: str = "ns") -> list[dict[str, Any]]:
    """Return the points of a text: each with `measurement`, its tags and fields, and `time` where it has one.

    A field hides a tag of its name. Raises ValueError that says what is expected, and in which line.
    """
    found, at = [], 0
    while at < len(text):
        end = _end(text, at)
        if not text[at:end].strip() or text[at] == "#":
            at = end + 1
            continue
        try:
            point, after = _point(text, at, UNITS[precision])
        except ValueError as fault:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: {fault}") from None
        found.append(point)
        at = after + 1
    return found


def _end(text: str, at: int) -> int:
    """Return where the line ends that goes on at a place."""
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _point(text: str, start: int, per_second: int) -> tuple[dict[str, Any], int]:
    """Return the point that begins at a place, and where its line ends: text in quotes may have line ends inside."""
    name, at = _part(_NAME, text, start, start, "a measurement")
    found: dict[str, Any] = {"measurement": re.sub(r"\\([, ])", r"\1", name)}
    while text[at : at + 1] == ",":
        key, value, at = _pair(text, start, at + 1, _tag)
        found[key] = value
    mark = " "
    while text[at : at + 1] == mark:
        key, value, at = _pair(text, start, at + 1, _value)
        found[key], mark = value, ","
    if mark == " ":
        raise ValueError(f"a space and fields at {at - start + 1}")
    end = _end(text, at)
    if rest := text[at:end].strip():
        found["time"] = _time(rest, per_second)
    return found, end


def _part(pattern: re.Pattern[str], text: str, start: int, at: int, expected: str) -> tuple[str, int]:
    match = pattern.match(text, at)
    if match is None:
        raise ValueError(f"{expected} at {at - start + 1}")
    return match.group(), match.end()


def _pair(text: str, start: int, at: int, read: Read) -> tuple[str, Any, int]:
    key, at = _part(_KEY, text, start, at, "a name")
    if text[at : at + 1] != "=":
        raise ValueError(f"= after '{key[:40]}'")
    value, at = read(text, start, at + 1)
    return _unescaped(key), value, at


def _tag(text: str, start: int, at: int) -> tuple[str, int]:
    value, at = _part(_KEY, text, start, at, "a tag's value")
    return _unescaped(value), at


def _value(text: str, start: int, at: int) -> tuple[Any, int]:
    if text[at : at + 1] == '"':
        match = _QUOTED.match(text, at)
        if match is None:
            raise ValueError(f"the end of the text that begins at {at - start + 1}")
        return re.sub(r'\\(["\\])', r"\1", match.group(1)), match.end()
    found, end = _part(_LITERAL, text, start, at, "a field's value")
    return _literal(found), end


def _literal(text: str) -> Any:
    if text in _BOOLS:
        return _BOOLS[text]
    if text[-1] in "iu" and _WHOLE.fullmatch(text[:-1]) and SMALLEST <= int(text[:-1]) <= LARGEST:
        return int(text[:-1])
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise ValueError(f"a number, text in quotes, true or false; got {text[:40]}")


def _time(text: str, per_second: int) -> datetime:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"a whole number as time; got {text[:40]}")
    whole, part = divmod(int(text), per_second)
    try:
        return EPOCH + timedelta(seconds=whole, microseconds=part * 1_000_000 // per_second)
    except OverflowError:
        raise ValueError(f"a time before the year 10000; got {text}") from None


def _unescaped(text: str) -> str:
    return re.sub(r"\\([,= ])", r"\1", text) if "\\" in text else text


def write_line(
    measurement: str, tags: Mapping[str, Any], fields: Mapping[str, Any], time: int | None = None,
    integers: frozenset[str] = frozenset(),
) -> str:  # fmt: skip
    """Return one point as a line, without its end; `time` counts in the precision that the receiver is told.

    Tags stand in the order of their names; none and empty ones are left out, as are fields that are none or not finite.
    A number is written as a float unless its field is among `integers`: the type of a field cannot change in InfluxDB.
    Raises ValueError where no field is left, and for what the protocol cannot say.
    """
    head = [_escaped(measurement, ", ")]
    for name in sorted(tags):
        value = tags[name]
        if value is not None and (text := as_text(value)):
            head.append(f"{_escaped(name)}={_escaped(text)}")
    body = [f"{_escaped(name)}={text}" for name, value in fields.items() if (text := _written(value, name in integers))]
    if not body:
        raise ValueError("one field or more")
    return f"{','.join(head)} {','.join(body)}" + ("" if time is None else f" {time}")


def _escaped(text: str, marks: str = ",= ") -> str:
    if not text or text.endswith("\\") or "\n" in text or "\r" in text:
        raise ValueError(f"names and tags with text, no line ends, and no \\ at the end; got {text[:40]!r}")
    for mark in marks:
        text = text.replace(mark, f"\\{mark}")
    return text


def _written(value: Any, integer: bool) -> str:
    """Return a field's value; an empty text where it has none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        if not math.isfinite(value):
            return ""
        return f"{int(value)}i" if integer and value == int(value) else repr(float(value))
    if value is None:
        return ""
    text = as_text(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
