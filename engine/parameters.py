"""The typed parameters of queries: what a client may send, as text or as JSON, and what becomes of it."""

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from engine.field_docs import wanted

ScalarType = Literal["int", "number", "text", "bool", "time", "date"]
Scalar = int | float | str | bool | datetime | date
BIGGEST = 2**63 - 1
_INT = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_SPACED_OFFSET = re.compile(r"(?<=\d) (?=\d{2}:?\d{2}$)")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
EXPECTED: dict[str, str] = {
    "int": "a whole number",
    "number": "a number",
    "text": "text",
    "bool": "true or false",
    "time": "an ISO 8601 time like 2025-03-01T08:00:00Z",
    "date": "a date like 2025-03-01",
}
JSON_SCHEMA: dict[str, dict[str, Any]] = {
    "int": {"type": "integer", "format": "int64", "minimum": -BIGGEST - 1, "maximum": BIGGEST},
    "number": {"type": "number"},
    "text": {"type": "string"},
    "bool": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
}


class ParameterFault(ValueError):
    """A value does not fit its parameter; `expected` says what would."""

    def __init__(self, expected: str) -> None:
        super().__init__(expected)
        self.expected = expected


def _int(text: str) -> int:
    if not _INT.fullmatch(text) or not -BIGGEST - 1 <= int(text) <= BIGGEST:
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError(text)
    return text


def _date(text: str) -> date:
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return date.fromisoformat(text)


def _time(text: str) -> datetime:
    """Read ISO 8601; a time without a zone is UTC, and a `+` that a query string made a space is a `+` again."""
    if not _DATE.match(text):
        raise ValueError(text)
    found = datetime.fromisoformat(_SPACED_OFFSET.sub("+", text))
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


_READ: dict[str, Callable[[str], Scalar]] = {
    "int": _int,
    "number": _number,
    "text": _text,
    "bool": lambda text: _TRUTH[text.lower()],
    "time": _time,
    "date": _date,
}


def from_text(kind: ScalarType, text: str) -> Scalar:
    """Return the value that a query string or a path says; raises ParameterFault."""
    try:
        return _READ[kind](text)
    except (ValueError, KeyError, OverflowError):
        raise ParameterFault(EXPECTED[kind]) from None


def from_json(kind: ScalarType, value: Any) -> Scalar:
    """Return the value that JSON says; numbers and truth are not read from text here; raises ParameterFault."""
    if kind in ("text", "time", "date") and isinstance(value, str):
        return from_text(kind, value)
    if kind == "bool" and isinstance(value, bool):
        return value
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind == "int" and whole and -BIGGEST - 1 <= value <= BIGGEST:
        return int(value)
    if kind == "number" and (whole or isinstance(value, float)) and abs(value) < 1e308:
        return float(value)
    raise ParameterFault(EXPECTED[kind])


class Parameter(BaseModel):
    """One parameter of a query with SQL, bound to `:name` there."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    type: ScalarType
    """What it is: int, number, text, bool, time or date."""
    default: Any = None
    """Its value where none is given; `today` and `now` stand for the day and the moment of the call."""
    optional: bool = False
    """Whether it may be left out without a default; the SQL then sees null."""
    min: int | float | None = None
    """The least number."""
    max: int | float | None = None
    """The greatest number, or the greatest length of a text."""
    one_of: tuple[str | int | float, ...] = ()
    """The only values there are."""
    about: str = ""
    """What it means, for the documentation page."""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _default_fits(self) -> "Parameter":
        if self.required or self.default is None or self.moment:
            return self
        try:
            plain = self.default.isoformat() if isinstance(self.default, date) else self.default
            self.bounded(from_json(self.type, plain))
        except ParameterFault as fault:
            raise PydanticCustomError("default", "a default that is {expected}", {"expected": fault.expected}) from None
        return self

    @property
    def required(self) -> bool:
        """Tell whether a call must give it."""
        return "default" not in self.model_fields_set and not self.optional

    @property
    def moment(self) -> bool:
        """Tell whether its default is the moment or the day of the call."""
        return (self.type, self.default) in (("date", "today"), ("time", "now"))

    def bounded(self, value: Scalar) -> Scalar:
        """Return the value if it lies within min, max and one_of; raises ParameterFault."""
        size = len(value) if isinstance(value, str) else value
        if self.one_of and value not in self.one_of:
            raise ParameterFault(f"one of {', '.join(map(str, self.one_of))}")
        if isinstance(size, (int, float)) and self._outside(size):
            raise ParameterFault(self._range())
        return value

    def _outside(self, size: float) -> bool:
        return (self.min is not None and size < self.min) or (self.max is not None and size > self.max)

    def _range(self) -> str:
        low, high = "" if self.min is None else self.min, "" if self.max is None else self.max
        return f"{low}..{high} characters" if self.type == "text" else f"{low}..{high}"

    def json_schema(self) -> dict[str, Any]:
        """Return the parameter as JSON Schema."""
        schema = dict(JSON_SCHEMA[self.type])
        low, high = ("minLength", "maxLength") if self.type == "text" else ("minimum", "maximum")
        schema |= {name: bound for name, bound in ((low, self.min), (high, self.max)) if bound is not None}
        if self.one_of:
            schema["enum"] = list(self.one_of)
        if self.default is not None and not self.moment:
            schema["default"] = self.default.isoformat() if isinstance(self.default, date) else self.default
        return schema
