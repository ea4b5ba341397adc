"""Texts with `{…}` in them, such as `out/{date}/{line}.csv`: each is an expression over the event."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from engine.errors import EventFault
from engine.event import Event
from engine.expression_faults import ExpressionFault
from engine.expression_values import as_text
from engine.expressions import WRONG, Expression, parse

NAMED = {
    "year": 'format_time(meta.time, "%Y")',
    "month": 'format_time(meta.time, "%Y-%m")',
    "date": "date(meta.time)",
    "hour": 'format_time(meta.time, "%H")',
    "key": "meta.key",
    "source": "meta.source",
    "topic": "meta.topic",
}
"""What stands alone in braces and is no field; times are the event's, in UTC."""
_PART = re.compile(r"\{([^{}]*)\}")


class Placeholders:
    """A text with expressions in braces; immutable, equal by its text. A secret one has none, and is not shown."""

    def __init__(self, text: str, parts: tuple[str | Expression, ...], *, secret: bool = False) -> None:
        self.parts, self.secret = parts, secret
        self._text = text

    @property
    def beginning(self) -> str:
        """Return the text before the first expression."""
        first = self.parts[0] if self.parts else ""
        return first if isinstance(first, str) else ""

    @property
    def expressions(self) -> Mapping[str, Expression]:
        """Return the expressions by what stands in the braces."""
        return {part.text: part for part in self.parts if isinstance(part, Expression)}

    def fill(self, event: Event, write: Callable[[str], str]) -> str:
        """Return the text for an event, each value written by `write`; raises EventFault for one that has no text."""
        return "".join(part if isinstance(part, str) else write(_value(part, event)) for part in self.parts)

    def __str__(self) -> str:
        return "**********" if self.secret else self._text

    def __repr__(self) -> str:
        return f"Placeholders({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Placeholders) and (self._text, self.parts) == (other._text, other.parts)

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(
            _validated, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "description": "text with expressions in braces"}


def _value(expression: Expression, event: Event) -> str:
    try:
        value = expression(event)
        return "none" if value is None else as_text(value)
    except WRONG:
        values = {field: event.data.get(field) for field in sorted(expression.fields)}
        raise EventFault(expression.explain(event), values) from None


def read_placeholders(text: str, settings: Any = None, tables: Any = None) -> Placeholders:
    """Return a text with its expressions; raises ExpressionFault, and ValueError for a brace that stands alone."""
    parts: list[str | Expression] = []
    at = 0
    for found in _PART.finditer(text):
        parts += [text[at : found.start()], parse(NAMED.get(found[1], found[1]), settings, tables)]
        at = found.end()
    parts.append(text[at:])
    if any("{" in part or "}" in part for part in parts if isinstance(part, str)):
        raise ValueError("a text whose braces stand in pairs, with an expression between them")
    return Placeholders(text, tuple(part for part in parts if part != ""))


def _validated(value: Any, info: core_schema.ValidationInfo) -> Placeholders:
    if isinstance(value, Placeholders):
        return value
    if isinstance(value, SecretStr):
        return Placeholders(value.get_secret_value(), (value.get_secret_value(),), secret=True)
    if not isinstance(value, str):
        raise PydanticCustomError("placeholders", "a text")
    try:
        return read_placeholders(value, getattr(info.context, "settings", None), getattr(info.context, "tables", None))
    except ExpressionFault as fault:
        context = {"message": fault.message, "column": fault.column, "hint": fault.hint}
        raise PydanticCustomError("expression", "{message}", context) from None
    except ValueError as fault:
        raise PydanticCustomError("placeholders", "{message}", {"message": str(fault)}) from None
