"""`validate`: only what is declared gets through, checked in C."""

from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

import msgspec
import re2
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from engine.api import Code, Event, EventFault, Example, Record, Shape, Stateless, Type, component

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


class Rule(BaseModel):
    """What one field must be."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    type: Literal["text", "number", "int", "bool", "time", "list", "map", "any"] = "any"
    """Its type; a time is ISO 8601 text."""
    required: bool = True
    """Whether it must be there and not null."""
    default: Any = None
    """What a missing field is set to."""
    case: Literal["upper", "lower", "as_is"] = "as_is"
    """How text is written before it is compared."""
    min: float | None = Field(None, allow_inf_nan=False)
    """Least value of a number, least length of a text or list."""
    max: float | None = Field(None, allow_inf_nan=False)
    """Greatest value of a number, greatest length of a text or list."""
    one_of: tuple[str | int | float | bool, ...] = ()
    """The values that are allowed, after `case`."""
    pattern: str | None = None
    """A regular expression (RE2) that the whole text must match."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(pattern or "", options)
        except re2.error as fault:
            reason = fault.args[0].decode(errors="replace") if fault.args else "it cannot be read"
            raise ValueError(f"a regular expression ({reason})") from None
        return pattern

    @model_validator(mode="after")
    def _sensible(self) -> "Rule":
        for option, expected in self._contradictions():
            raise ValueError(f"{option}: {expected}")
        return self

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        """Yield options that no value could fulfil together with the others."""
        given = {"pattern": self.pattern is not None, "case": self.case != "as_is"}
        for option, there in given.items():
            if there and self.type != "text":
                yield option, f"only for a field of type text, which is {self.type}"
        for option, bound in (("min", self.min), ("max", self.max)):
            if bound is not None and self.type in ("bool", "time"):
                yield option, f"only for a field with a size, which is {self.type}"
        if self.min is not None and self.max is not None and self.min > self.max:
            yield "min", f"at most max ({self.max:g})"
        if any(self._mistyped(value) or self.cased(value) != value for value in self.one_of):
            yield "one_of", f"values of type {self.type}" + (f" in {self.case} case" if given["case"] else "")
        if self.default is not None and (expected := self.problem(self.default)):
            yield "default", f"a value that fits: {expected}"

    @property
    def optional(self) -> bool:
        """Tell whether it may be missing or null."""
        return not self.required or self.default is not None

    def shape(self) -> tuple[Any, Any]:
        """Return the type to convert to, and its default."""
        kind = TYPES[self.type]
        return (kind | None if kind is not Any else Any, None) if self.optional else (kind, msgspec.NODEFAULT)

    def evident(self) -> Type:
        """Return what expressions may rely on: the kind, and whether it may be none."""
        missing = self.optional and self.default is None
        return Type(KINDS[self.type], missing or (self.type == "any" and not self.required))

    def _mistyped(self, value: Any) -> bool:
        try:
            msgspec.convert(value, TYPES[self.type])
        except msgspec.ValidationError:
            return True
        return False

    def problem(self, value: Any) -> str | None:
        """Return what is expected of a value that does not fit, or None."""
        if self._mistyped(value):
            return self.type
        text = self.cased(value)
        if self.one_of and text not in self.one_of:
            return f"one_of {', '.join(map(str, self.one_of))}"
        if self.pattern is not None and not (isinstance(text, str) and re2.fullmatch(self.pattern, text)):
            return f"pattern {self.pattern}"
        return self._bounds(text)

    def _bounds(self, value: Any) -> str | None:
        sized = isinstance(value, (str, list, dict))
        size, what = (len(value), "length ") if sized else (value, "")
        if not isinstance(size, (int, float)):
            return None
        if self.min is not None and size < self.min:
            return f"{what}min {self.min:g}"
        return f"{what}max {self.max:g}" if self.max is not None and size > self.max else None

    def cased(self, value: Any) -> Any:
        """Return text in the wanted case."""
        if self.case == "as_is" or not isinstance(value, str):
            return value
        return value.upper() if self.case == "upper" else value.lower()


@component("validate")
class Validate(Stateless):
    """Check fields and let only the declared ones through; what does not fit is rejected with every reason.

    A rejected event goes to `name.rejected` where that is wired, else to the dead letters, and an HTTP sender that
    waits for the stored row gets a 422 that names the fields.
    """

    fields: dict[str, Rule]
    """Field name → rule; a type alone may stand for a rule (`device: text`)."""

    shorthand = "fields"
    outputs = {"rejected": "events that do not fit"}
    fault_output = "rejected"
    examples = (
        Example(
            about="A station's verdict: upper-cased, one of two values, nothing else gets through.",
            config="validate: {device: {type: text, case: upper, max: 50}, "
            "result: {type: text, case: upper, one_of: [OK, DEFECT]}}",
            given=[{"device": "led", "result": "ok", "extra": 1}, {"device": "led", "result": "TIMEOUT"}],
            expect=[{"device": "LED", "result": "OK"}],
        ),
        Example(
            about="A number within bounds, with a default for the unit.",
            config="validate: {temperature: {type: number, min: -40, max: 125}, "
            "unit: {type: text, required: false, default: C}}",
            given=[{"temperature": 21.5}, {"temperature": 300}, {"temperature": "hot"}],
            expect=[{"temperature": 21.5, "unit": "C"}],
        ),
    )

    @field_validator("fields", mode="before")
    @classmethod
    def _types_alone(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {name: {"type": rule} if isinstance(rule, str) else rule for name, rule in fields.items()}

    @cached_property
    def shape(self) -> Shape:
        """Return the fields that C checks and that go on."""
        return Shape({name: rule.shape() for name, rule in self.fields.items()})

    def code(self, code: Code) -> bool:
        """Write one conversion in C and the checks that need the case first."""
        converted, fields, types = code.shaped(self.shape), dict[str, str](), dict[str, Type]()
        for name, rule in self.fields.items():
            fields[name], types[name] = code.name("w"), rule.evident()
            code.line(f"{fields[name]} = {converted[name]}")
            self._rule(code, fields[name], rule)
        code.go_on(Record(fields=fields, types=types))
        return True

    def _rule(self, code: Code, value: str, rule: Rule) -> None:
        if rule.required and rule.default is None and rule.type == "any":
            code.line(f"if {value} is None: raise EventFault('validation')")
        if rule.default is not None:
            code.line(f"if {value} is None: {value} = {code.bind(rule.default)}")
        there = f"{value} is not None and " if rule.evident().null else ""
        if rule.case != "as_is":
            code.line((f"if {value} is not None: " if there else "") + f"{value} = {value}.{rule.case}()")
        for check in self._checks(code, value, rule):
            code.line(f"if {there}{check}: raise EventFault('validation')")

    def _checks(self, code: Code, value: str, rule: Rule) -> Iterator[str]:
        size = f"len({value})" if rule.type in ("text", "list", "map") else value
        if rule.min is not None:
            yield f"{size} < {_whole(rule.min)!r}"
        if rule.max is not None:
            yield f"{size} > {_whole(rule.max)!r}"
        if rule.one_of:
            yield f"{value} not in {code.bind(frozenset(rule.one_of))}"
        if rule.pattern is not None:
            yield f"not {code.bind(re2.compile(rule.pattern).fullmatch)}({value})"

    def explain(self, fault: Exception, event: Event) -> Exception:
        """Return every reason why an event does not fit."""
        found = []
        for name, rule in self.fields.items():
            value = event.data.get(name)
            if value is None and rule.optional:
                continue
            expected = "required" if value is None else rule.problem(value)
            if expected is not None:
                found.append({"field": name, "expected": expected, "got": _shown(value)})
        reason = "; ".join(f"{f['field']}: {f['expected']}; got {f['got']}" for f in found)
        return EventFault(reason or str(fault), {"fields": found})


def _whole(bound: float) -> float:
    """Return a bound as a whole number where it is one, which compares faster."""
    return int(bound) if bound.is_integer() else bound


def _shown(value: Any) -> str:
    text = "nothing" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:59] + "…"
