"""What one field must be: its type, its bounds, the unit it is in, and what is inside it."""

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Any, Literal, NotRequired, TypedDict

import msgspec
import re2
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from engine import units
from engine.coercion import COERCIONS
from engine.expression_check import Type
from engine.field_rule_options import contradictions
from engine.functions_text import compile_pattern
from engine.text_checks import TEXT_CHECKS

TYPES: dict[str, Any] = {
    "text": str,
    "number": int | float,
    "int": int,
    "bool": bool,
    "time": datetime,
    "list": list[Any],
    "map": dict[str, Any],
    "any": Any,
}
KINDS = {
    "text": "text", "number": "number", "int": "number", "bool": "boolean", "time": "time", "list": "list",
    "map": "dict", "any": "any",
}  # fmt: skip
FAULTY = object()


class Unfit(msgspec.Struct, frozen=True):
    """One thing in an event that does not fit: where, what is expected, and what is there."""

    field: str
    expected: str
    got: Any


class Rule(BaseModel):
    """What one field must be."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    type: Literal["text", "number", "int", "bool", "time", "list", "map", "any"] = "any"
    """Its type; a time is ISO 8601 text."""
    required: bool = True
    """Whether it must be there and not null."""
    default: Any = None
    """What a missing field is set to."""
    coerce: bool = False
    """Whether other writings are read: "38.5" as a number, "true" and 1 as true, seconds (or ms, µs, ns) since 1970 as
    a time, a number as text; an empty text is none."""
    case: Literal["upper", "lower", "as_is"] = "as_is"
    """How text is written before it is compared."""
    unit: str = ""
    """The unit in which a number goes on; bounds are in it."""
    from_: str = Field("", alias="from")
    """The unit in which it comes, where that is another."""
    unit_field: str = ""
    """The field, declared too, that names the unit in which it comes; it goes on with the name of `unit`."""
    min: float | None = Field(None, allow_inf_nan=False)
    """Least value of a number, least length of a text or list."""
    max: float | None = Field(None, allow_inf_nan=False)
    """Greatest value of a number, greatest length of a text or list."""
    above: float | None = Field(None, allow_inf_nan=False)
    """What a number must be greater than."""
    below: float | None = Field(None, allow_inf_nan=False)
    """What a number must be less than."""
    one_of: tuple[str | int | float | bool, ...] = ()
    """The values that are allowed, after `case`."""
    pattern: str | None = None
    """A regular expression (RE2) that the whole text must match."""
    format: Literal["uuid", "email", "host", "ipv4", "ipv6", "mac", "date", "time"] | None = None
    """The form of a text: `date` is 2024-05-01, `time` 13:05 or 13:05:10."""
    fields: "dict[str, Rule]" = {}
    """What a map has: field name → rule; what is not among them is left out."""
    items: "Rule | None" = None
    """What each entry of a list must be."""

    @model_validator(mode="before")
    @classmethod
    def _type_alone(cls, rule: Any) -> Any:
        return {"type": rule} if isinstance(rule, str) else rule

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            compile_pattern(pattern or "")
        except ValueError as fault:
            raise ValueError(f"a regular expression ({fault})") from None
        return pattern

    @model_validator(mode="after")
    def _sensible(self) -> "Rule":
        for option, expected in contradictions(self):
            raise ValueError(f"{option}: {expected}")
        return self

    @property
    def optional(self) -> bool:
        """Tell whether it may be missing or null."""
        return not self.required or self.default is not None

    @property
    def needed(self) -> bool:
        """Tell whether something stands there in any case."""
        return not self.optional or self.default is not None

    def kind(self) -> Any:
        """Return the type to convert to in C; what is coerced may be anything there."""
        if self.coerce:
            return Any
        if self.fields:
            members = {name: rule.member() for name, rule in self.fields.items()}
            return TypedDict("Map", members)  # type: ignore[operator]  # mypy wants the names in the source
        return list[self.items.nullable()] if self.items is not None else TYPES[self.type]  # type: ignore[misc]

    def nullable(self) -> Any:
        """Return the type, or none where it may be."""
        kind = self.kind()
        return kind | None if self.optional and kind is not Any else kind

    def member(self) -> Any:
        """Return the type as it stands in a map."""
        return NotRequired[self.nullable()] if self.optional else self.kind()

    def shape(self) -> tuple[Any, Any]:
        """Return the type to convert to, and its default."""
        return (self.nullable(), None) if self.optional else (self.kind(), msgspec.NODEFAULT)

    def evident(self) -> Type:
        """Return what expressions may rely on: the kind, and whether it may be none."""
        missing = self.optional and self.default is None
        return Type(KINDS[self.type], missing or (self.type == "any" and not self.required))

    @cached_property
    def checked_inside(self) -> bool:
        """Tell whether C does not say all about what is inside a map or list."""
        inside = [*self.fields.values(), *([self.items] if self.items is not None else [])]
        return any(rule.checked_inside or not rule._plain for rule in inside)

    @property
    def _plain(self) -> bool:
        """Tell whether there is nothing to check or change but the type."""
        bare = self.model_fields_set <= {"type", "required", "fields", "items"}
        return bare and not (self.type == "any" and not self.optional)

    @property
    def factors(self) -> tuple[float, float] | None:
        """Return what to multiply a number by, and to add then; None where it is not converted."""
        found = units.conversion(self.from_, self.unit) if self.from_ else (1.0, 0.0)
        return None if found == (1.0, 0.0) else found

    def mistyped(self, value: Any) -> bool:
        """Tell whether a value is of another type."""
        try:
            msgspec.convert(value, TYPES[self.type])
        except msgspec.ValidationError:
            return True
        return False

    def problem(self, value: Any) -> str | None:
        """Return what is expected of a value that does not fit, or None."""
        found: list[Unfit] = []
        clean_fields({"": self}, {"": value}, "", found)
        return found[0].expected if found else None

    def take(self, value: Any, path: str, found: list[Unfit]) -> Any:
        """Return a value of the type, none where it is missing, or FAULTY."""
        given = value
        if self.coerce and value == "" and self.type != "text":
            value = None
        if value is None:
            if not self.optional:
                found.append(Unfit(path, "required", given))
            return None
        try:
            return self.cased(self._typed(value))
        except ValueError as fault:
            found.append(Unfit(path, str(fault), given))
            return FAULTY

    def _typed(self, value: Any) -> Any:
        if self.coerce:
            return COERCIONS[self.type](value)
        if self.mistyped(value):
            raise ValueError(self.type)
        return msgspec.convert(value, datetime) if self.type == "time" else value

    def finish(self, value: Any, given: Any, named: Any, path: str, found: list[Unfit]) -> Any:
        """Return what was taken as it goes on: in its unit, checked; `named` is what the unit field has."""
        if value is None or value is FAULTY:
            return self.default
        if self.unit:
            known = units.conversions(self.unit)
            factor, offset = known.get(named or self.from_ or self.unit) or (1.0, 0.0)
            if named is not None and named is not FAULTY and named not in known:
                found.append(Unfit(path, f"a unit of {units.unit(self.unit).quantity}, as {self.unit} is", named))
                return value
            value = value if (factor, offset) == (1.0, 0.0) else value * factor + offset
        if expected := self._unfit(value):
            found.append(Unfit(path, expected, given))
        return self.inside(value, path, found)

    def inside(self, value: Any, path: str, found: list[Unfit]) -> Any:
        """Return a map or list with what is inside it as it goes on."""
        if self.fields and isinstance(value, dict):
            return clean_fields(self.fields, value, f"{path}.", found, sparse=True)
        if self.items is not None and isinstance(value, list):
            taken = [(self.items.take(entry, f"{path}.{at}", found), entry) for at, entry in enumerate(value)]
            return [self.items.finish(*pair, None, f"{path}.{at}", found) for at, pair in enumerate(taken)]
        return value

    def _unfit(self, text: Any) -> str | None:
        if self.one_of and text not in self.one_of:
            return f"one_of {', '.join(map(str, self.one_of))}"
        if self.pattern is not None and not (isinstance(text, str) and re2.fullmatch(self.pattern, text)):
            return f"pattern {self.pattern}"
        if self.format is not None and not TEXT_CHECKS[self.format](text):
            return f"format {self.format}"
        return self._bounds(text)

    def _bounds(self, value: Any) -> str | None:
        sized = isinstance(value, (str, list, dict))
        size, what = (len(value), "length ") if sized else (value, "")
        if not isinstance(size, (int, float)):
            return None
        if self.min is not None and size < self.min:
            return f"{what}min {self.min:g}"
        if self.max is not None and size > self.max:
            return f"{what}max {self.max:g}"
        if self.above is not None and not size > self.above:
            return f"above {self.above:g}"
        return f"below {self.below:g}" if self.below is not None and not size < self.below else None

    def cased(self, value: Any) -> Any:
        """Return text in the wanted case."""
        if self.case == "as_is" or not isinstance(value, str):
            return value
        return value.upper() if self.case == "upper" else value.lower()


def clean_fields(
    rules: Mapping[str, Rule], data: Mapping[str, Any], path: str, found: list[Unfit], *, sparse: bool = False
) -> dict[str, Any]:
    """Return the declared fields as they go on, and add what does not fit to `found`.

    `sparse`: a field that may be missing, and is, stays missing; else it is none.
    """
    there = {name: rule for name, rule in rules.items() if not sparse or name in data or rule.needed}
    faults: dict[str, list[Unfit]] = {name: [] for name in there}
    taken = {name: rule.take(data.get(name), path + name, faults[name]) for name, rule in there.items()}
    cleaned = {
        name: rule.finish(taken[name], data.get(name), taken.get(rule.unit_field), path + name, faults[name])
        for name, rule in there.items()
    }
    found += chain.from_iterable(faults.values())
    return cleaned | {rule.unit_field: rule.unit for rule in there.values() if rule.unit_field in cleaned}
