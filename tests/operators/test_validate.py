"""`validate` beyond its examples: units, other writings, what is inside, rules over several fields."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.harness import Harness
from engine.load import load_text
from engine.registry import components
from tests.operators.replay import flow_of, sent


def run(options: Any, *data: dict[str, Any]) -> Harness:
    harness = Harness(flow_of("validate", options, key=""))
    harness.send([sent(0, **item) for item in data])
    return harness


def one(rule: dict[str, Any], value: Any) -> Any:
    """Return what goes on of a value, or the reason why it does not."""
    harness = run({"x": rule}, {"x": value})
    return harness.dead[0].reason if harness.dead else harness.out["out"][0].data["x"]


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "value", "found"),
    [
        ({"type": "number", "coerce": True}, " 38.5 ", 38.5), ({"type": "number", "coerce": True}, "-7", -7),
        ({"type": "number", "coerce": True}, "1e3", 1000.0), ({"type": "number", "coerce": True}, "9" * 30, 1e30),
        ({"type": "int", "coerce": True}, "7.0", 7), ({"type": "int", "coerce": True}, 7.0, 7),
        ({"type": "bool", "coerce": True}, "Yes", True), ({"type": "bool", "coerce": True}, 0, False),
        ({"type": "text", "coerce": True}, 1.5, "1.5"), ({"type": "text", "coerce": True, "max": 4}, True, "true"),
        ({"type": "time", "coerce": True}, 1714564800, NOON), ({"type": "time", "coerce": True}, 1714564800000, NOON),
        ({"type": "time", "coerce": True}, 1714564800000000, NOON), ({"type": "time", "coerce": True}, 1714564800000000000, NOON),
        ({"type": "time", "coerce": True}, "2024-05-01T14:00:00+02:00", NOON),
        ({"type": "int", "coerce": True, "required": False}, "", None), ({"type": "int", "coerce": True, "default": 3}, "", 3),
        ({"type": "number", "coerce": True}, "1,5", 'x: number; got "1,5"'), ({"type": "number", "coerce": True}, True, "x: number; got true"),
        ({"type": "number", "coerce": True}, "nan", 'x: number; got "nan"'), ({"type": "number", "coerce": True}, "", 'x: required; got ""'),
        ({"type": "int", "coerce": True}, "7.5", 'x: int; got "7.5"'), ({"type": "int", "coerce": True}, 1e300, "x: int; got 1e300"),
        ({"type": "bool", "coerce": True}, 2, "x: bool; got 2"), ({"type": "text", "coerce": True}, [], "x: text; got []"),
        ({"type": "time", "coerce": True}, "noon", 'x: time; got "noon"'), ({"type": "time", "coerce": True}, 1e30, "x: time; got 1e30"),
        ({"type": "number", "coerce": True, "max": 3}, "4", 'x: max 3; got "4"'),
    ],
)  # fmt: skip
def test_other_writings_are_read(rule: dict[str, Any], value: Any, found: Any) -> None:
    got = one(rule, value)
    assert got == found
    assert type(got) is type(found)


@pytest.mark.parametrize(
    ("rule", "value", "found"),
    [
        ({"type": "number", "unit": "degC", "from": "degF"}, 212, pytest.approx(100)),
        ({"type": "number", "unit": "bar", "from": "psi"}, 14.5037738, pytest.approx(1)),
        ({"type": "number", "unit": "m/s", "from": "km/h", "max": 10}, 36, pytest.approx(10)),
        ({"type": "number", "unit": "mm"}, 5, 5), ({"type": "number", "unit": "mm", "from": "mm"}, 5, 5),
        ({"type": "number", "unit": "degC", "from": "degF", "default": 20}, None, 20),
        ({"type": "number", "unit": "degC", "from": "degF", "coerce": True, "required": False}, "", None),
        ({"type": "number", "unit": "m/s", "from": "km/h", "max": 10}, 37, "x: max 10; got 37"),
        ({"type": "number", "above": 0}, 0, "x: above 0; got 0"), ({"type": "number", "below": 1.5}, 1.5, "x: below 1.5; got 1.5"),
        ({"type": "int", "above": 0, "max": 2}, 1, 1),
        ({"type": "text", "format": "email"}, "a.b+c@example.org", "a.b+c@example.org"),
        ({"type": "text", "format": "email"}, "a@b@c", 'x: format email; got "a@b@c"'),
        ({"type": "text", "format": "uuid"}, "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        ({"type": "text", "format": "uuid"}, "6ba7b810", 'x: format uuid; got "6ba7b810"'),
        ({"type": "text", "format": "ipv4"}, "10.0.0.256", 'x: format ipv4; got "10.0.0.256"'),
        ({"type": "text", "format": "ipv6"}, "fe80::1", "fe80::1"), ({"type": "text", "format": "mac"}, "00:1b:63-84-45-e6", 'x: format mac; got "00:1b:63-84-45-e6"'),
        ({"type": "text", "format": "mac"}, "00:1B:63:84:45:E6", "00:1B:63:84:45:E6"),
        ({"type": "text", "format": "date"}, "2024-02-30", 'x: format date; got "2024-02-30"'), ({"type": "text", "format": "date"}, "2024-02-29", "2024-02-29"),
        ({"type": "text", "format": "time"}, "24:00", 'x: format time; got "24:00"'), ({"type": "text", "format": "time"}, "13:05:10.5", "13:05:10.5"),
        ({"type": "text", "format": "host"}, "plc-7.local", "plc-7.local"), ({"type": "text", "format": "host"}, "-a", 'x: format host; got "-a"'),
        ({"type": "list", "items": "int"}, [1, "2"], 'x.1: int; got "2"'),
        ({"type": "list", "items": {"type": "int", "coerce": True, "max": 5}, "max": 3}, ["1", 2], [1, 2]),
        ({"type": "list", "items": {"type": "int", "max": 5}}, [1, 6, 7], "x.1: max 5; got 6; x.2: max 5; got 7"),
        ({"type": "map", "fields": {"a": "int", "b": {"type": "text", "required": False}}}, {"a": 1, "c": 2}, {"a": 1}),
        ({"type": "map", "fields": {"a": "int"}}, {}, "x.a: required; got nothing"),
        ({"type": "map", "fields": {"a": {"type": "text", "case": "upper", "default": "n"}}}, {}, {"a": "n"}),
        ({"type": "map", "fields": {"t": {"type": "number", "unit": "K", "unit_field": "u"}, "u": "text"}}, {"t": 0, "u": "C"}, {"t": 273.15, "u": "K"}),
        ({"type": "list", "items": {"type": "map", "fields": {"a": {"type": "list", "items": {"type": "text", "max": 2}}}}},
         [{"a": ["ab"]}, {"a": ["abc"]}], 'x.1.a.0: length max 2; got "abc"'),
    ],
)  # fmt: skip
def test_units_bounds_forms_and_what_is_inside(rule: dict[str, Any], value: Any, found: Any) -> None:
    assert one(rule, value) == found


def test_a_field_names_the_unit() -> None:
    rules = {
        "t": {"type": "number", "unit": "degC", "unit_field": "u", "from": "K", "max": 200},
        "u": {"type": "text", "required": False},
    }
    data: list[dict[str, Any]] = [
        {"t": 212, "u": "F"},
        {"t": 20, "u": "°C"},
        {"t": 273.15},
        {"t": 1, "u": "bar"},
        {"t": 500, "u": "degF"},
    ]
    harness = run(rules, *data)
    assert [event.data for event in harness.out["out"]] == [
        {"t": pytest.approx(100), "u": "degC"}, {"t": 20, "u": "degC"}, {"t": pytest.approx(0), "u": "degC"},
    ]  # fmt: skip
    assert [letter.reason for letter in harness.dead] == [
        't: a unit of temperature, as degC is; got "bar"', "t: max 200; got 500"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("others", "out", "reason"),
    [
        ("drop", [{"a": 1}], None),
        ("keep", [{"a": 1, "b": 2, "c": {"d": 3}}], None),
        ("reject", [], "b: no such field; got 2; c: no such field; got {\"d\":3}"),
    ],
)  # fmt: skip
def test_what_is_not_declared(others: str, out: list[Any], reason: str | None) -> None:
    harness = run(
        {"fields": {"a": {"type": "int", "coerce": True}}, "others": others}, {"a": "1", "b": 2, "c": {"d": 3}}
    )
    assert [event.data for event in harness.out["out"]] == out
    assert [letter.reason for letter in harness.dead] == ([reason] if reason else [])
    assert run({"fields": {"a": "int"}, "others": others}, {"a": 1}).dead == []


def test_rules_look_at_what_fits() -> None:
    options = {
        "fields": {
            "low": {"type": "number", "unit": "mm", "from": "cm"},
            "high": "number",
            "mode": {"type": "text", "required": False},
        },
        "rules": {"order": "low <= high", "mode_known": 'mode == none or mode in ["a", "b"]'},
    }
    harness = run(options, {"low": 1, "high": 10}, {"low": 2, "high": 10, "mode": "c"}, {"low": "x", "high": 0})
    assert [event.data for event in harness.out["out"]] == [{"low": 10.0, "high": 10, "mode": None}]
    assert [letter.reason for letter in harness.dead] == [
        'order: low <= high; got high 10, low 20.0; mode_known: mode == none or mode in ["a", "b"]; got mode "c"',
        'low: number; got "x"',
    ]


@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ("{t: {type: number, unit: degc}}", "t.unit", "a unit (docs/concepts/units.md); did you mean 'degC'?"),
        ("{t: {type: number, unit: bar, from: degC}}", "t.from", "a unit of pressure, as bar is"),
        ("{t: {type: number, from: degC}}", "t.from", "only beside unit, in which the number goes on"),
        ("{t: {type: text, unit: degC}}", "t.unit", "only for a field of type number, which is text"),
        ("{t: {type: number, unit: degC, unit_field: v}, u: text}", "t.unit_field", "another field, declared as text"),
        ("{t: {type: number, above: 3, max: 3}}", "t.above", "less than 3, the bound on the other side"),
        ("{t: {type: number, min: 3, below: 3}}", "t.below", "more than 3, the bound on the other side"),
        ("{t: {type: list, coerce: true}}", "t.coerce", "only for a field of type text or number or int or bool or time, which is list"),
        ("{t: {type: int, format: email}}", "t.format", "only for a field of type text, which is int"),
        ("{t: {type: list, fields: {a: int}}}", "t.fields", "only for a field of type map, which is list"),
        ("{t: {type: list, items: {type: intt}}}", "t.items.type", "one of text, number"),
        ("{t: {type: map, fields: {a: {type: text, pattern: '('}}}}", "t.fields.a.pattern", "a regular expression"),
        ("{fields: {t: number}, rules: {r: t > 3 and u < 4}}", "rules.r", "a field of what comes in here (t); got 'u'; in 't > 3 and u < 4'"),
        ("{fields: {t: number}, rules: {r: t > '3'}}", "rules.r", "cannot compare number with text"),
        ("{fields: {t: number}, others: all}", "others", "one of drop, keep, reject; got 'all'"),
    ],
)  # fmt: skip
def test_lint_tells_what_makes_no_sense(options: str, option: str, message: str) -> None:
    text = f"flow: f\nsources: {{a: {{mqtt: {{topics: [t]}}}}}}\noperators: {{o: {{from: a, validate: {options}}}}}\n"
    found = [(f.option, f.message) for f in load_text(text + "sinks: {s: {from: o, log: x}}\n").document.findings]
    assert any(told == option and message in said for told, said in found), found


def test_a_field_may_be_named_fields() -> None:
    assert [event.data for event in run({"fields": {"fields": "int"}}, {"fields": 1, "x": 2}).out["out"]] == [
        {"fields": 1}
    ]
    assert [event.data for event in run({"fields": "int", "others": "int"}, {"fields": 1, "others": 2}).out["out"]] == [
        {"fields": 1, "others": 2}
    ]


leaf = st.sampled_from([
    {"type": "int"}, {"type": "number", "coerce": True}, {"type": "text", "max": 2}, {"type": "int", "required": False},
    {"type": "int", "coerce": True, "min": 0, "required": False}, {"type": "bool", "default": True}, {"type": "any"},
    {"type": "text", "case": "upper", "required": False, "default": "N"}, {"type": "number", "unit": "K", "from": "degC"},
    {"type": "any", "required": False}, {"type": "number", "above": 0, "below": 3}, {"type": "list"}, {"type": "map"},
    {"type": "number", "unit": "K", "from": "degC", "default": 5},
])  # fmt: skip
rules = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=2).map(
            lambda f: {"type": "map", "fields": f}
        ),
        inner.map(lambda items: {"type": "list", "items": items, "required": False}),
        inner.map(lambda items: {"type": "list", "items": items, "min": 1}),
    ),
    max_leaves=4,
)
values = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 2.5, -1, "", "1", "ok", "abc", "2.5", 1e300]),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from("xyz"), rules, min_size=1, max_size=2), st.sampled_from(["drop", "keep", "reject"]),
       st.lists(st.dictionaries(st.sampled_from("xyzw"), values, max_size=4), min_size=1, max_size=4))  # fmt: skip
def test_the_written_code_and_the_words_for_people_judge_alike(
    fields: dict[str, Any], others: str, data: list[dict[str, Any]]
) -> None:
    from engine.field_rule import Unfit, clean_fields

    fields = msgspec.json.decode(msgspec.json.encode(fields))  # YAML without aliases
    harness = run({"fields": fields, "others": others}, *data)
    declared = components("operators")["validate"].model_validate({"fields": fields}).fields  # type: ignore[attr-defined]
    expected, reasons = [], []
    for item in data:
        found: list[Unfit] = []
        cleaned = clean_fields(declared, item, "", found)
        strange = others == "reject" and item.keys() - fields.keys()
        if found or strange:
            reasons.append(found)
        else:
            expected.append(item | cleaned if others == "keep" else cleaned)
    assert [event.data for event in harness.out["out"]] == expected
    assert len(harness.dead) == len(reasons)
    for letter, found in zip(harness.dead, reasons, strict=True):
        assert [told["field"] for told in letter.values["fields"]][: len(found)] == [unfit.field for unfit in found]


def test_a_declaration_without_more_is_checked_in_c_alone() -> None:
    plain = {"a": {"type": "list", "items": {"type": "map", "fields": {"b": "number"}}}}
    rule = components("operators")["validate"].model_validate({"fields": plain}).fields["a"]  # type: ignore[attr-defined]
    assert not rule.checked_inside
    assert msgspec.convert([{"b": 1, "c": 2}], rule.kind()) == [{"b": 1}]
