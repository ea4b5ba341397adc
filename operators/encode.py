"""`encode`: an event's fields as text for others to read."""

import base64
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any, Literal

import msgspec
from pydantic import Field, model_validator

from engine.api import (
    COERCIONS,
    Code,
    EventFault,
    Example,
    Expression,
    Flow,
    Node,
    Problem,
    Stateless,
    Type,
    component,
    line_protocol,
    microseconds,
    text_formats,
    unknown_fields,
)

Format = Literal["json", "csv", "msgpack", "key_value", "line_protocol", "query"]
OPTIONS: dict[str, tuple[str, ...]] = {
    "of": ("json", "msgpack"), "separator": ("csv", "key_value"), "equals": ("key_value",),
    "measurement": ("line_protocol",), "tags": ("line_protocol",), "integers": ("line_protocol",),
    "time": ("line_protocol",), "precision": ("line_protocol",),
}  # fmt: skip


@component("encode")
class Encode(Stateless):
    """Write fields into one text: JSON, a CSV row, MessagePack, name=value, line protocol, a URL query.

    It is what `parse` reads. The other fields stay; `drop` takes them out. In line protocol every number is a float, as
    a field of InfluxDB cannot change its type, except for those of `integers`.
    """

    as_: str = Field(alias="as")
    """The field that gets the text."""
    format: Format = "json"
    """What the text is; MessagePack is written in base64."""
    of: Expression | None = None
    """What is written in JSON or MessagePack; without it, the event's fields."""
    fields: tuple[str, ...] = ()
    """The fields that are written, in this order; without it all of them."""
    separator: str = Field("", max_length=10)
    """What stands between values; for CSV a comma, for name=value a space."""
    equals: str = Field("=", min_length=1, max_length=10)
    """What stands between a name and its value."""
    measurement: Expression | None = None
    """The measurement of line protocol."""
    tags: tuple[str, ...] = ()
    """The fields that are tags of line protocol."""
    integers: tuple[str, ...] = ()
    """The fields that are whole numbers in line protocol."""
    time: str = ""
    """The field that carries the time of line protocol; without it, the event's time."""
    precision: Literal["ns", "us", "ms", "s"] = "ns"
    """What the timestamps of line protocol count."""

    shorthand = "as_"
    examples = (
        Example(
            about="A reading as JSON, for a program that wants text.",
            config="encode: {as: body, fields: [device, t]}",
            given=[{"device": "a", "t": 20.5, "more": 1}],
            expect=[{"body": '{"device":"a","t":20.5}'}],
        ),
        Example(
            about="A row for a scale's printer.",
            config='encode: {as: line, format: csv, fields: [id, name, weight], separator: ";"}',
            given=[{"id": 7, "name": "screw; M4", "weight": None}],
            expect=[{"line": '7;"screw; M4";'}],
        ),
        Example(
            about="A point in line protocol.",
            config="encode: {as: point, format: line_protocol, measurement: \"'motor'\", tags: [line], "
            "integers: [parts], time: measured, precision: s}",
            given=[{"line": 3, "rpm": 1500, "parts": 12, "measured": "2024-05-01T01:00:00Z"}],
            expect=[{"point": "motor,line=3 rpm=1500.0,parts=12i 1714525200"}],
        ),
        Example(
            about="Names and values; what is none is left out.",
            config="encode: {as: text, format: key_value}",
            given=[{"n": 7, "name": "two words", "x": None}],
            expect=[{"text": 'n=7 name="two words"'}],
        ),
    )

    @model_validator(mode="after")
    def _sensible(self) -> "Encode":
        for option, formats in OPTIONS.items():
            if option in self.model_fields_set and self.format not in formats:
                raise ValueError(f"{option}: only for the format {' or '.join(formats)}, which is {self.format}")
        if self.of is not None and self.fields:
            raise ValueError("fields: either of or fields")
        if self.format == "csv" and not self.fields:
            raise ValueError("fields: the fields of a row, as the format is csv")
        if self.format == "csv" and self.separator and len(self.separator) != 1:
            raise ValueError("separator: one character")
        if self.format == "line_protocol" and self.measurement is None:
            raise ValueError("measurement: an expression, as the format is line_protocol")
        return self

    @classmethod
    def options(cls, value: Any) -> Any:
        """Return the options; a text alone is the field that gets JSON."""
        return {"as": value} if isinstance(value, str) else value

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find names that are no fields."""
        lists = (("fields", self.fields), ("tags", self.tags), ("integers", self.integers))
        named = [(f"{option}.{at}", name) for option, names in lists for at, name in enumerate(names)]
        return unknown_fields(flow, named + ([("time", self.time)] if self.time else []), given)

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in with the text."""
        return super().gives(given, output) if output or given is None else {**given, self.as_: Type("text")}

    def code(self, code: Code) -> bool:
        """Write one call."""
        if self.format == "line_protocol" and self.measurement is not None:
            measurement, time = code.expression(self.measurement), code.scope(code.record).time
            source = f"{code.bind(self._line)}({self._picked(code)}, {measurement}, {time})"
        else:
            value = self._picked(code) if self.of is None else code.expression(self.of)
            source = f"{code.bind(self._text)}({value})"
        code.go_on(code.with_value(self.as_, source, Type("text")))
        return True

    def _picked(self, code: Code) -> str:
        """Return the source of a mapping of what is written."""
        known, data = code.record.fields, code.data
        if not self.fields:
            return data
        names = dict.fromkeys((*self.fields, *self.tags, *([self.time] if self.time else [])))
        if known is None:
            return "{" + ", ".join(f"{name!r}: {data}.get({name!r})" for name in names) + "}"
        return "{" + ", ".join(f"{name!r}: {known.get(name, 'None')}" for name in names) + "}"

    def _text(self, value: Any) -> str:
        try:
            return self._writer(value)
        except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as fault:
            reason = f"{self.format}: {fault}"
        raise EventFault(reason)

    @cached_property
    def _writer(self) -> Callable[[Any], str]:
        writers: dict[str, Callable[[Any], str]] = {
            "json": lambda value: msgspec.json.encode(value).decode(),
            "msgpack": lambda value: base64.b64encode(msgspec.msgpack.encode(value)).decode(),
            "csv": lambda row: text_formats.write_csv(list(row.values()), self.separator or ","),
            "key_value": partial(text_formats.write_pairs, separator=self.separator or " ", equals=self.equals),
            "query": text_formats.write_query,
        }
        return writers[self.format]

    def _line(self, data: Mapping[str, Any], measurement: Any, time: int) -> str:
        try:
            if not isinstance(measurement, str):
                raise ValueError("a measurement that is text")
            fields = {name: value for name, value in data.items() if name not in self.tags and name != self.time}
            tags = {name: data.get(name) for name in self.tags}
            at = self._time(data, time) * line_protocol.UNITS[self.precision] // 1_000_000
            return line_protocol.write_line(measurement, tags, fields, at, frozenset(self.integers))
        except (ValueError, TypeError) as fault:
            reason = f"line_protocol: {fault}"
        raise EventFault(reason)

    def _time(self, data: Mapping[str, Any], time: int) -> int:
        value = data.get(self.time) if self.time else None
        if value is None:
            return time
        try:
            return microseconds(COERCIONS["time"](value))
        except ValueError:
            raise ValueError(f"{self.time}: a time; got {str(value)[:60]}") from None
