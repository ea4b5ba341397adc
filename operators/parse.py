"""`parse`: fields from text that a device or program wrote."""

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, Literal

import msgspec
from pydantic import Field, field_validator, model_validator

from engine.api import (
    COERCIONS,
    Code,
    EventFault,
    Example,
    Expression,
    Stateless,
    Type,
    compile_pattern,
    component,
    line_protocol,
    text_formats,
)

Format = Literal["json", "csv", "msgpack", "key_value", "pattern", "line_protocol", "query"]
ROWS = ("csv", "line_protocol")
KINDS = {"text": "text", "number": "number", "int": "number", "bool": "boolean", "time": "time"}
OPTIONS: dict[str, tuple[str, ...]] = {
    "pattern": ("pattern",), "separator": ("csv", "key_value"), "equals": ("key_value",),
    "precision": ("line_protocol",),
}  # fmt: skip


@component("parse")
class Parse(Stateless):
    r"""Read the text in a field: JSON, CSV, MessagePack, name=value, a regular expression, line protocol, a URL query.

    What was read is added to the event, or put into one field with `as`. Where `of` is missing or none, the event goes
    on as it is. What cannot be read goes to the dead letters with the reason, and to `name.rejected`.
    """

    of: Expression
    """The text; MessagePack is read from base64."""
    format: Format = "json"
    """What the text is; `query` is that of a URL (`a=1&b=2`)."""
    as_: str = Field("", alias="as")
    """The field that gets what was read, of CSV and line protocol a list of all rows; without it, fields are added."""
    encoding: Literal["text", "base64", "hex"] | None = None
    """How the bytes stand in `of`; without it base64 for MessagePack, else text."""
    fields: tuple[str, ...] = ()
    """The names of a CSV row's values, without which the first row has them; else the fields that are taken."""
    types: dict[str, Literal["text", "number", "int", "bool", "time"]] = {}
    """Field → the type that its text is read as; an empty text is none."""
    pattern: str = ""
    """A regular expression (RE2) with named groups `(?P<name>…)`, found anywhere in the text."""
    separator: str = Field("", max_length=10)
    """What stands between values; for CSV a comma, for name=value a space."""
    equals: str = Field("=", min_length=1, max_length=10)
    """What stands between a name and its value."""
    precision: Literal["ns", "us", "ms", "s"] = "ns"
    """What the timestamps of line protocol count."""

    shorthand = "of"
    outputs = {"rejected": "events whose text cannot be read"}
    fault_output = "rejected"
    examples = (
        Example(
            about="JSON inside a field; what is no JSON is rejected.",
            config="parse: payload",
            given=[{"id": 1, "payload": '{"t": 20.5}'}, {"id": 2, "payload": "{"}, {"id": 3}],
            expect=[{"id": 1, "t": 20.5}, {"id": 3}],
            side={"rejected": [{"id": 2, "payload": "{"}]},
        ),
        Example(
            about="A scale's line of values.",
            config="parse: {of: line, format: csv, fields: [device, weight, at], separator: ;, "
            "types: {weight: number, at: time}}",
            given=[{"line": "s1;12.5;2024-05-01T01:00:00Z"}, {"line": "s1;heavy;2024-05-01T01:00:00Z"}],
            expect=[{"device": "s1", "weight": 12.5, "at": "2024-05-01T01:00:00Z"}],
        ),
        Example(
            about="Values out of a line of a log, by a regular expression.",
            config="parse: {of: line, format: pattern, pattern: 'axis (?P<axis>[XYZ]): (?P<position>-?[0-9.]+) mm', "
            "types: {position: number}}",
            given=[{"line": "12:00:01 axis X: -4.25 mm"}],
            expect=[{"axis": "X", "position": -4.25}],
        ),
        Example(
            about="Points in line protocol, each row an entry of a list.",
            config="parse: {of: lines, format: line_protocol, as: points}",
            given=[{"lines": "fan,line=3 rpm=1500,on=t 1714525200000000000\nfan,line=4 rpm=0"}],
            expect=[
                {
                    "points": [
                        {
                            "measurement": "fan",
                            "line": "3",
                            "rpm": 1500.0,
                            "on": True,
                            "time": "2024-05-01T01:00:00Z",
                        },
                        {"measurement": "fan", "line": "4", "rpm": 0.0},
                    ]
                }
            ],
        ),
        Example(
            about="Names and values, and bytes in MessagePack.",
            config='parse: {of: text, format: key_value, separator: ",", types: {n: int}}',
            given=[{"text": 'n=7, name="a, b"'}],
            expect=[{"n": 7, "name": "a, b"}],
        ),
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            compile_pattern(pattern)
        except ValueError as fault:
            raise ValueError(f"a regular expression ({fault})") from None
        return pattern

    @model_validator(mode="after")
    def _sensible(self) -> "Parse":
        for option, formats in OPTIONS.items():
            if option in self.model_fields_set and self.format not in formats:
                raise ValueError(f"{option}: only for the format {' or '.join(formats)}, which is {self.format}")
        if self.format == "pattern" and not self._groups:
            raise ValueError("pattern: a regular expression with named groups")
        if self.format == "csv" and self.separator and len(self.separator) != 1:
            raise ValueError("separator: one character")
        if self.format == "csv" and len(set(self.fields)) < len(self.fields):
            raise ValueError("fields: each name once")
        names = self._names
        for name in self.types.keys() - set(names) if names else ():
            raise ValueError(f"types.{name}: a field that is read ({', '.join(names)})")
        return self

    @property
    def _names(self) -> list[str]:
        """Return the fields that are read, where options say them."""
        return list(self.fields) or (self._groups if self.format == "pattern" else [])

    @property
    def _groups(self) -> list[str]:
        return list(compile_pattern(self.pattern).groupindex)

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in with what is read, where options say which fields that are; each may be none."""
        if given is None or output:
            return super().gives(given, output)
        if self.as_:
            kind = "list" if self.format in ROWS else "any" if self.format in ("json", "msgpack") else "dict"
            return {**given, self.as_: Type(kind, null=True)}
        names = self._names
        return {**given, **{name: self._type(name) for name in names}} if names else None

    def _type(self, name: str) -> Type:
        if name in self.types:
            return Type(KINDS[self.types[name]], null=True)
        return Type("text" if self.format in ("csv", "key_value", "pattern") else "any", null=True)

    def code(self, code: Code) -> bool:
        """Write one call."""
        text, read = code.name("w"), code.bind(self._read)
        code.line(f"{text} = {code.expression(self.of)}")
        found = f"{read}({text}) if {text} is not None else "
        if self.as_:
            code.go_on(code.with_value(self.as_, f"{found}None"))
        else:
            data = code.name("d")
            code.line(f"{data} = {code.data}")
            code.line(f"if {text} is not None: {data} = {{**{data}, **{read}({text})}}")
            code.changed(data)
        return True

    def _read(self, value: Any) -> Any:
        try:
            return self._result(self._reader(self._taken(value)))
        except ValueError as fault:
            shown = value if isinstance(value, str) else ""
            reason = f"{self.of.text}: {fault}" + (f" in '{_short(shown)}'" if shown else "")
        raise EventFault(reason, {"of": shown})

    def _taken(self, value: Any) -> str | bytes:
        """Return the text or bytes that stand in the field."""
        encoding = self.encoding or ("base64" if self.format == "msgpack" else "text")
        if not isinstance(value, str | bytes):
            raise ValueError(f"text; got {msgspec.json.encode(value, enc_hook=str).decode()[:60]}")
        if encoding != "text" and isinstance(value, str):
            value = _bytes(value, encoding)
        if self.format == "msgpack":
            return value.encode() if isinstance(value, str) else value
        return value.decode() if isinstance(value, bytes) else value

    @cached_property
    def _reader(self) -> Callable[[Any], Any]:
        readers: dict[str, Callable[[Any], Any]] = {
            "json": text_formats.read_json,
            "msgpack": text_formats.read_msgpack,
            "csv": partial(text_formats.read_csv, fields=self.fields, separator=self.separator or ","),
            "key_value": partial(text_formats.read_pairs, separator=self.separator or " ", equals=self.equals),
            "line_protocol": partial(line_protocol.read_lines, precision=self.precision),
            "query": text_formats.read_query,
            "pattern": self._match,
        }
        return readers[self.format]

    def _match(self, text: str) -> dict[str, Any]:
        match = compile_pattern(self.pattern).search(text)
        if match is None:
            raise ValueError(f"pattern {self.pattern}")
        found: dict[str, Any] = match.groupdict()
        return found

    def _result(self, found: Any) -> Any:
        """Return what was read as it goes into the event: a mapping, or with `as` anything."""
        if self.format in ROWS:
            rows = [self._typed(row) for row in found]
            if not self.as_ and len(rows) != 1:
                raise ValueError(f"one row, as there is no `as`; got {len(rows)}")
            return rows if self.as_ else rows[0]
        if isinstance(found, dict):
            return self._typed(found)
        if not self.as_:
            raise ValueError(f"a mapping, as there is no `as`; got {type(found).__name__}")
        return found

    def _typed(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.fields and self.format != "csv":
            row = {name: row.get(name) for name in self.fields}
        for name, type_ in self.types.items():
            value = row.get(name)
            if value is not None:
                row[name] = _converted(name, value, type_)
        return row


def _converted(name: str, value: Any, type_: str) -> Any:
    if value == "" and type_ != "text":
        return None
    try:
        return COERCIONS[type_](value)
    except ValueError:
        raise ValueError(f"{name}: {type_}; got {_short(str(value))}") from None


def _bytes(text: str, encoding: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if encoding == "base64" else bytes.fromhex(text)
    except (binascii.Error, ValueError):
        raise ValueError(encoding) from None


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
