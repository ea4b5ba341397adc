"""Types of expressions, on data that are of those types: what is inferred holds, what is refused could not have held.

Expressions are made as in test_expressions_fuzz; the fields and their types are made beside data that fit them.
"""

import ast
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.event import Event
from engine.expression_check import Type
from engine.expression_faults import UNKNOWN_FIELD
from engine.expression_values import kind_of
from engine.expressions import WRONG, Expression, parse
from tests.fuzz.test_expressions_fuzz import FIELDS, hostile, parsed, valid

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.integers(-5, 5) | st.floats(allow_nan=False),
    "float": st.floats(allow_nan=False),
    "text": st.sampled_from(["", "OK", "abc", "12"]) | st.text(max_size=3),
    "boolean": st.booleans(),
    "list": st.lists(st.integers(0, 3) | st.sampled_from(["OK", None]), max_size=3),
    "dict": st.dictionaries(st.sampled_from("xb"), st.integers(0, 3), max_size=2),
    "any": st.none() | st.integers(0, 3) | st.text(max_size=2),
}


@st.composite
def typed(draw: st.DrawFn) -> tuple[dict[str, Type], dict[str, Any]]:
    """Draw the types of all fields, and data that fit them."""
    types, data = {}, {}
    for name in draw(st.sets(st.sampled_from(FIELDS), min_size=2)):
        kind = draw(st.sampled_from(sorted(VALUES)))
        types[name] = Type(kind, null=kind == "any" or draw(st.booleans()))
        data[name] = draw(VALUES[kind] | st.none() if types[name].null else VALUES[kind])
    return types, data


def event_of(data: dict[str, Any]) -> Event:
    return Event(b"\1" * 16, 1_700_000_000_000_000, "key", "gate", "sensor/ult01", data, {"room": "r1"})


def value_of(expression: Expression, event: Event) -> tuple[bool, Any]:
    """Return (True, the value), or (False, None) where evaluating it fails as documented."""
    try:
        return True, expression(event)
    except WRONG:
        return False, None


def fits(value: Any, found: Type) -> bool:
    if value is None:
        return found.null
    return found.kind == "any" or found.shown == kind_of(value)


@settings(max_examples=300, deadline=None)
@given(hostile, typed())
def test_every_fault_has_a_text_and_a_place(text: str, case: tuple[dict[str, Type], dict[str, Any]]) -> None:
    expression, (types, _) = parsed(text), case
    for fault in expression.faults(types) if expression else ():
        assert fault.message
        assert 0 <= fault.column <= len(text)


@settings(max_examples=400, deadline=None)
@given(valid, typed())
@example("coalesce(a, 0)", ({"a": Type("number", null=True)}, {"a": None}))
@example("max(a, b)", ({"a": Type("number", null=True), "b": Type("float")}, {"a": None, "b": 0.5}))
@example("a if b else c", ({"a": Type("text"), "b": Type("any", null=True)}, {"a": "x", "b": None}))
def test_a_value_is_of_the_type_that_is_inferred(text: str, case: tuple[dict[str, Type], dict[str, Any]]) -> None:
    expression, (types, data) = parsed(text), case
    if expression is None:
        return
    known, value = value_of(expression, event_of(data))
    assert not known or fits(value, expression.evident(types))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FIELDS), st.sampled_from(["<", ">=", "==", "!=", "+", "-", "*", "/"]), st.sampled_from(FIELDS),
       typed())  # fmt: skip
def test_what_is_refused_could_not_have_held(
    left: str, sign: str, right: str, case: tuple[dict[str, Type], dict[str, Any]]
) -> None:
    """A refused comparison or sum is false, an error, or none, for any data of these types."""
    types, data = case
    expression = parse(f"{left} {sign} {right}")
    faults = [fault for fault in expression.faults(types) if fault.code != UNKNOWN_FIELD]
    if not faults or None in (data.get(left), data.get(right)):
        return
    known, value = value_of(expression, event_of(data))
    assert not known or (sign in ("==", "!=") and value is (sign == "!="))


@settings(max_examples=300, deadline=None)
@given(valid, typed())
def test_a_field_is_unknown_where_it_is_named_and_not_there(
    text: str, case: tuple[dict[str, Type], dict[str, Any]]
) -> None:
    expression, (types, _) = parsed(text), case
    if expression is None:
        return
    unknown = {fault.column for fault in expression.faults(types) if fault.code == UNKNOWN_FIELD}
    names = [node for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)]
    called = {id(node.func) for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Call)}
    missing = {name.id for name in names if name.id in FIELDS and id(name) not in called} - types.keys()
    assert len(unknown) >= len(missing)
    assert bool(unknown) == bool(missing or _by_data(text, types))


def _by_data(text: str, types: dict[str, Type]) -> bool:
    return "meta.data.a" in text and "a" not in types
