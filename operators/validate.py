"""`validate`: only what is declared gets through, checked in C."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec
from pydantic import field_validator

from engine.api import (
    COERCIONS,
    TEXT_CHECKS,
    Code,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    Node,
    Problem,
    Record,
    Rule,
    Shape,
    Stateless,
    Type,
    Unfit,
    clean_fields,
    compile_pattern,
    component,
    did_you_mean,
    units,
)

CLASSES = {"text": ("str",), "number": ("float", "int"), "int": ("int",), "bool": ("bool",), "time": ()}
LONG = ("fields", "others", "rules")


@component("validate")
class Validate(Stateless):
    """Check fields and let only the declared ones through; what does not fit is rejected with every reason.

    A rejected event is a dead letter, and goes to `name.rejected` too where that is wired; an HTTP sender that waits
    for the stored row gets a 422 that names the fields. The fields may stand directly below `validate`, unless there is
    one named `fields`.
    """

    fields: dict[str, Rule]
    """Field name → rule; a type alone may stand for a rule (`device: text`)."""
    others: Literal["drop", "keep", "reject"] = "drop"
    """What happens to fields that are not declared: they are left out, go on as they are, or make the event unfit."""
    rules: dict[str, Expression] = {}
    """Name → what must hold of several fields together, after each of them was found to fit."""

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
        Example(
            about="Degrees Celsius, whatever the device's own unit; text and seconds since 1970 are read.",
            config="validate: {t: {type: number, coerce: true, unit: degC, unit_field: unit, max: 125}, "
            "unit: {type: text, default: degC}, taken: {type: time, coerce: true}}",
            given=[
                {"t": "212", "unit": "degF", "taken": 1714525200},
                {"t": 20.5, "taken": "2024-05-01T03:00:00+02:00"},
            ],
            expect=[
                {"t": 100.0, "unit": "degC", "taken": "2024-05-01T01:00:00Z"},
                {"t": 20.5, "unit": "degC", "taken": "2024-05-01T01:00:00Z"},
            ],
        ),
        Example(
            about="What is inside a map and a list, and a rule over two fields; other fields stay.",
            config="validate: {fields: {low: number, high: number, place: {type: map, fields: {line: int}}, "
            "values: {type: list, max: 3, items: {type: number, min: 0}}}, others: keep, rules: {order: low <= high}}",
            given=[
                {"low": 1, "high": 2, "place": {"line": 3, "x": 0}, "values": [1, 2.5], "more": "kept"},
                {"low": 3, "high": 2, "place": {"line": 3}, "values": []},
            ],
            expect=[{"low": 1, "high": 2, "place": {"line": 3}, "values": [1, 2.5], "more": "kept"}],
            side={"rejected": [{"low": 3, "high": 2, "place": {"line": 3}, "values": []}]},
        ),
    )

    @field_validator("fields")
    @classmethod
    def _units_named(cls, fields: dict[str, Rule]) -> dict[str, Rule]:
        for name, option, expected in _unit_fields(fields):
            raise ValueError(f"{name}.{option}: {expected}")
        return fields

    @classmethod
    def options(cls, value: Any) -> Any:
        """Return the options: a mapping without `fields` has the fields themselves."""
        long = isinstance(value, dict) and isinstance(value.get("fields"), dict) and value.keys() <= {*LONG}
        return value if long or not isinstance(value, dict) else {"fields": value}

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find rules that name what is not declared, or cannot hold for the declared types."""
        if self.others != "keep":
            for name, rule in self.rules.items():
                for fault in rule.faults(self._types):
                    yield Problem(fault.code, f"rules.{name}", f"{fault.message}; in '{rule.text}'", fault.hint or "")

    def reads(self, given: Mapping[str, Type]) -> Iterator[tuple[str, Expression, Mapping[str, Type]]]:
        """Yield rules that may name what is not declared; `check` looks at the others."""
        if self.others == "keep":
            for name, rule in self.rules.items():
                yield f"rules.{name}", rule, {**given, **self._types}

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the declared fields, and those that come in where they are kept."""
        if output:
            return super().gives(given, output)
        kept = given if self.others == "keep" else {}
        own = {
            name: found._replace(values=frozenset(self.fields[name].one_of) or None)
            for name, found in self._types.items()
        }
        return None if kept is None else {**kept, **own}

    @cached_property
    def _types(self) -> dict[str, Type]:
        return {name: rule.evident() for name, rule in self.fields.items()}

    @cached_property
    def shape(self) -> Shape | None:
        """Return the fields that C checks and that go on, where no others count."""
        return self._declared if self.others == "drop" else None

    @cached_property
    def _declared(self) -> Shape:
        return Shape({name: rule.shape() for name, rule in self.fields.items()})

    def code(self, code: Code) -> bool:
        """Write one conversion in C and the checks that need the case first."""
        if self.others == "reject":
            code.line(
                f"if not {code.bind(frozenset(self.fields).issuperset)}({code.data}): raise EventFault('validation')"
            )
        whole, converted, fields = code.data, code.shaped(self._declared), dict[str, str]()
        for name, rule in self.fields.items():
            fields[name] = code.name("w")
            code.line(f"{fields[name]} = {converted[name]}")
            _take(code, fields[name], rule)
        for name, rule in self.fields.items():
            _finish(code, fields[name], rule, fields.get(rule.unit_field, ""))
        fields |= {rule.unit_field: repr(rule.unit) for rule in self.fields.values() if rule.unit_field}
        record = Record(fields=fields, types=self._types)
        if self.others == "keep":
            data = code.name("d")
            code.line(f"{data} = {{**{whole}, **{record.data}}}")
            record = Record(data)
        for holds in self.rules.values():
            code.line(f"if not ({code.expression(holds, record)}): raise EventFault('validation')")
        code.go_on(record)
        return True

    def explain(self, fault: Exception, event: Event) -> Exception:
        """Return every reason why an event does not fit."""
        found: list[Unfit] = []
        cleaned = clean_fields(self.fields, event.data, "", found)
        if self.others == "reject":
            names = event.data.keys() - self.fields.keys()
            found += [Unfit(name, "no such field", event.data[name]) for name in sorted(names)]
        told = [{"field": unfit.field, "expected": unfit.expected, "got": _shown(unfit.got)} for unfit in found]
        if not told:
            whole = event.data | cleaned if self.others == "keep" else cleaned
            told = list(self._broken(event.derive(whole)))
        reason = "; ".join(f"{f['field']}: {f['expected']}; got {f['got']}" for f in told)
        return EventFault(reason or str(fault), {"fields": told})

    def _broken(self, event: Event) -> Iterator[dict[str, str]]:
        """Yield the rules that do not hold, with the values of their fields."""
        for name, rule in self.rules.items():
            try:
                holds = rule(event)
            except (TypeError, ValueError, ArithmeticError):
                holds = False
            if not holds:
                values = ", ".join(f"{field} {_shown(event.data.get(field))}" for field in sorted(rule.fields))
                yield {"field": name, "expected": rule.text, "got": values}


def _unit_fields(fields: Mapping[str, Rule], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield unit fields that are not declared as text; raise-able as (field, option, expected)."""
    for name, rule in fields.items():
        named = fields.get(rule.unit_field)
        if rule.unit_field and (named is None or named.type != "text"):
            meant = did_you_mean(rule.unit_field, fields)
            yield path + name, "unit_field", "another field, declared as text" + (f"; {meant}" if meant else "")
        yield from _unit_fields(rule.fields, f"{path}{name}.fields.")
        if rule.items is not None:
            yield from _unit_fields(rule.items.fields, f"{path}{name}.items.fields.")


def _take(code: Code, value: str, rule: Rule) -> None:
    """Write what makes of a field's value one of its type, in its case."""
    if rule.coerce and rule.type != "text":
        code.line(f"if {value} == '': {value} = None")
    if not rule.optional and (rule.coerce or rule.type == "any"):
        code.line(f"if {value} is None: raise EventFault('validation')")
    if rule.default is not None and not rule.unit:
        code.line(f"if {value} is None: {value} = {code.bind(rule.default)}")
    there = f"{value} is not None" if rule.evident().null or (rule.unit and rule.optional) else ""
    if rule.coerce:
        other = [f"{value}.__class__ is not {cls}" for cls in CLASSES[rule.type]]
        wrong = " and ".join([there] * bool(there) + other) or "True"
        code.line(f"if {wrong}: {value} = {code.bind(COERCIONS[rule.type])}({value})")
    if rule.case != "as_is":
        code.line((f"if {there}: " if there else "") + f"{value} = {value}.{rule.case}()")


def _finish(code: Code, value: str, rule: Rule, unit: str) -> None:
    """Write the conversion of units, the checks, and what becomes of the inside of a map or list."""
    if rule.unit and (unit or rule.factors is not None):
        there = f"if {value} is not None: " if rule.optional else ""
        code.line(f"{there}{value} = {_converted(code, value, rule, unit)}")
    if rule.unit and rule.default is not None:
        code.line(f"if {value} is None: {value} = {code.bind(rule.default)}")
    there = f"{value} is not None and " if rule.evident().null else ""
    for check in _checks(code, value, rule):
        code.line(f"if {there}{check}: raise EventFault('validation')")
    if rule.checked_inside:
        code.line((f"if {value} is not None: " if there else "") + f"{value} = {code.bind(_cleaner(rule))}({value})")


def _converted(code: Code, value: str, rule: Rule, unit: str) -> str:
    if not unit:
        factor, offset = rule.factors or (1.0, 0.0)
        return f"{value} * {factor!r}" + (f" + {offset!r}" if offset else "")
    known, usual = units.conversions(rule.unit), rule.from_ or rule.unit

    def convert(number: float, named: str | None) -> float:
        factors = known.get(named or usual)
        if factors is None:
            raise EventFault("validation")
        return number if factors == (1.0, 0.0) else number * factors[0] + factors[1]

    return f"{code.bind(convert)}({value}, {unit})"


def _checks(code: Code, value: str, rule: Rule) -> Iterator[str]:
    size = f"len({value})" if rule.type in ("text", "list", "map") else value
    bounds = (("<", rule.min), (">", rule.max), ("<=", rule.above), (">=", rule.below))
    for sign, bound in bounds:
        if bound is not None:
            yield f"{size} {sign} {_whole(bound)!r}"
    if rule.one_of:
        yield f"{value} not in {code.bind(frozenset(rule.one_of))}"
    if rule.pattern is not None:
        yield f"not {code.bind(compile_pattern(rule.pattern).fullmatch)}({value})"
    if rule.format is not None:
        yield f"not {code.bind(TEXT_CHECKS[rule.format])}({value})"


def _cleaner(rule: Rule) -> Any:
    """Return what cleans the inside of a map or list, whose types C has checked."""

    def clean(value: Any) -> Any:
        found: list[Unfit] = []
        cleaned = rule.inside(value, "", found)
        if found:
            raise EventFault("validation")
        return cleaned

    return clean


def _whole(bound: float) -> float:
    """Return a bound as a whole number where it is one, which compares faster."""
    return int(bound) if bound.is_integer() else bound


def _shown(value: Any) -> str:
    text = "nothing" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:59] + "…"
