"""Values of rows: checked and written as the database takes them, read back, and shown as JSON."""

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import DateTime, Dialect
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.types import TypeDecorator, TypeEngine

from engine.errors import EventFault
from engine.event import Event, moment
from engine.table import Column

TEXT_BYTES = 65_535
INT_LIMIT = 2**63
Convert = Callable[[Any], Any]


class UtcTime(TypeDecorator[datetime]):
    """A moment with microseconds, kept in UTC without a zone and read back as an aware datetime."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of a database: MySQL drops the fraction unless asked for it."""
        return dialect.type_descriptor(DATETIME(fsp=6) if dialect.name == "mysql" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC, without its zone."""
        return value.astimezone(UTC).replace(tzinfo=None) if value and value.tzinfo else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time as an aware one."""
        return value.replace(tzinfo=UTC) if value else value


def _unfit(column: Column, expected: str, value: Any) -> EventFault:
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:59]}…"
    return _fault(column, expected, shown, {})


def _fault(column: Column, expected: str, got: str, values: dict[str, object]) -> EventFault:
    name, fields = column.name, [{"field": column.name, "expected": expected, "got": got}]
    return EventFault(f"column {name}: {expected}; got {got}", {"column": name, **values, "fields": fields})


def _text(column: Column, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _unfit(column, "text", value)
    if column.length and len(value) > column.length:
        values: dict[str, object] = {"limit": column.length, "length": len(value)}
        raise _fault(column, f"text of at most {column.length} characters", str(len(value)), values)
    if not value.isascii() or not column.length:
        _encoded(column, value)
    return value


def _encoded(column: Column, value: str) -> None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise _unfit(column, "text that can be written as UTF-8", value) from None
    if not column.length and size > TEXT_BYTES:
        values: dict[str, object] = {"limit": TEXT_BYTES, "length": size}
        raise _fault(column, f"text of at most {TEXT_BYTES} bytes", str(size), values)


def _int(column: Column, value: Any) -> int:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(whole, int) or isinstance(whole, bool):
        raise _unfit(column, "a whole number", value)
    if not -INT_LIMIT <= whole < INT_LIMIT:
        raise _unfit(column, "a whole number of 64 bits", value)
    return whole


def _serial(column: Column, value: Any) -> int:
    if (whole := _int(column, value)) < 1:
        raise _unfit(column, "a whole number from 1 on", value)
    return whole


def _number(column: Column, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unfit(column, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        raise _unfit(column, "a number below 1.8e308", value) from None
    if not math.isfinite(number):
        raise _unfit(column, "a finite number", value)
    return number


def _bool(column: Column, value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return int(value)
    raise _unfit(column, "true or false", value)


def _time(column: Column, value: Any) -> str:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(time, datetime):
            return time_text(time.astimezone(UTC) if time.tzinfo else time)
    except (ValueError, OverflowError):
        pass
    raise _unfit(column, "a time like 2026-01-31T12:00:00Z", value)


def _date(column: Column, value: Any) -> str:
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if isinstance(day, date) and not isinstance(day, datetime):
        return day.isoformat()
    raise _unfit(column, "a date like 2026-01-31", value)


def _json(column: Column, value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        raise _unfit(column, "a value that can be written as JSON", value) from None


def _bytes(column: Column, value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        pass
    raise _unfit(column, "bytes, or text in base64", value)


_CONVERSIONS: dict[str, Callable[[Column, Any], Any]] = {
    "serial": _serial, "int": _int, "number": _number, "bool": _bool, "text": _text,
    "time": _time, "date": _date, "json": _json, "bytes": _bytes,
}  # fmt: skip


def time_text(time: datetime) -> str:
    """Return a time that is in UTC as both databases write it; its texts sort as the times do."""
    return time.replace(tzinfo=None).isoformat(" ", "microseconds")


def converter(column: Column) -> Convert:
    """Return what checks a value (never none) and gives it as the database takes it; raises EventFault."""
    return partial(_CONVERSIONS[column.type], column)


class RowValues:
    """Makes the values of a row from an event: from its data by name, or from an expression where one is given.

    A time that the event has no value for is the event's time. A column that the data does not name is left out.
    """

    def __init__(self, columns: Sequence[Column], expressions: Mapping[str, Callable[[Event], Any]]) -> None:
        self._columns = [(column.name, converter(column), expressions.get(column.name)) for column in columns]
        self._times = [c.name for c in columns if c.type == "time" and c.name not in expressions]

    def __call__(self, event: Event) -> dict[str, Any]:
        """Return the values by column; raises EventFault that names every column that is wrong."""
        data, values, faults = event.data, {}, []
        for name, convert, expression in self._columns:
            try:
                if expression is not None:
                    value = expression(event)
                elif name in data:
                    value = data[name]
                else:
                    continue
                values[name] = None if value is None else convert(value)
            except EventFault as fault:
                faults.append(fault)
        if faults:
            raise _joined(faults)
        for name in self._times:
            if values.get(name) is None:
                values[name] = time_text(moment(event.time))
        return values


def _joined(faults: list[EventFault]) -> EventFault:
    if len(faults) == 1:
        return faults[0]
    fields: list[object] = []
    for fault in faults:
        found = fault.values.get("fields")
        fields += found if isinstance(found, list) else []
    return EventFault("; ".join(fault.reason for fault in faults), {"fields": fields})


def row_json(row: Mapping[str, Any]) -> bytes:
    """Return a row as JSON in the order of its columns: times ISO 8601 with Z, bytes in base64, `_event` never."""
    return msgspec.json.encode({name: value for name, value in row.items() if name != "_event"})
