"""Which options of a field's rule go together."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine import units
from engine.coercion import COERCIONS

if TYPE_CHECKING:
    from engine.field_rule import Rule

ONLY = {
    "pattern": ("text",), "case": ("text",), "format": ("text",), "unit": ("number",), "from_": ("number",),
    "unit_field": ("number",), "above": ("number", "int"), "below": ("number", "int"),
    "fields": ("map",), "items": ("list",), "coerce": tuple(COERCIONS),
}  # fmt: skip
"""Option → the types of fields that may have it."""


def contradictions(rule: "Rule") -> Iterator[tuple[str, str]]:
    """Yield options that no value could fulfil together with the others, each with what is expected of it."""
    for option, types in ONLY.items():
        if getattr(rule, option) != type(rule).model_fields[option].default and rule.type not in types:
            yield option.rstrip("_"), f"only for a field of type {' or '.join(types)}, which is {rule.type}"
    for option, bound in (("min", rule.min), ("max", rule.max)):
        if bound is not None and rule.type in ("bool", "time"):
            yield option, f"only for a field with a size, which is {rule.type}"
    yield from _bounds(rule)
    yield from _units(rule)
    yield from _values(rule)


def _bounds(rule: "Rule") -> Iterator[tuple[str, str]]:
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        yield "min", f"at most max ({rule.max:g})"
    for option, lower, upper in (("above", rule.above, rule.max), ("above", rule.above, rule.below),
                                 ("below", rule.min, rule.below)):  # fmt: skip
        if lower is not None and upper is not None and lower >= upper:
            side, bound = ("less", upper) if option == "above" else ("more", lower)
            yield option, f"{side} than {bound:g}, the bound on the other side"
            return


def _units(rule: "Rule") -> Iterator[tuple[str, str]]:
    if (rule.from_ or rule.unit_field) and not rule.unit:
        yield "from" if rule.from_ else "unit_field", "only beside unit, in which the number goes on"
        return
    for option, name in (("unit", rule.unit), ("from", rule.from_)):
        try:
            if name:
                units.conversion(name, rule.unit)
        except ValueError as fault:
            yield option, str(fault)
            return


def _values(rule: "Rule") -> Iterator[tuple[str, str]]:
    if any(rule.mistyped(value) or rule.cased(value) != value for value in rule.one_of):
        yield "one_of", f"values of type {rule.type}" + ("" if rule.case == "as_is" else f" in {rule.case} case")
    if rule.default is not None:
        plain = rule.model_copy(update={"unit": "", "from_": "", "unit_field": "", "default": None})
        if expected := plain.problem(rule.default):
            yield "default", f"a value that fits: {expected}"
