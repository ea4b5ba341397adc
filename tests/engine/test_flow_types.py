"""What is known of the fields on each wire of a flow."""

import pytest
from pydantic import BaseModel

from engine.errors import EventFault
from engine.event import Event
from engine.expression_check import Type
from engine.expressions import Expression, parse
from engine.field_checks import takes
from engine.flow import Flow, Input
from engine.flow_types import MOST, Wires
from engine.load import load_text
from engine.option_expressions import option_expressions
from engine.rows import RowValues
from engine.table import Column

NUMBER, TEXT, TIME, ANY = Type("number"), Type("text"), Type("time"), Type("any", null=True)


def flow_of(operators: str) -> Flow:
    return load_text(
        "flow: f\ntables: {t: {id: serial}}\nsources: {raw: {mqtt: {topics: [t]}}, other: {mqtt: {topics: [u]}}}\n"
        f"operators:\n{operators}\n"
    )


def on(operators: str, wire: str) -> dict[str, Type] | None:
    fields = Wires(flow_of(operators)).on(Input.parse(wire))
    return None if fields is None else dict(fields)


CHECKED = "  v: {from: raw, validate: {n: number, s: {type: text, required: false}}}\n"
BOTH = {"n": NUMBER, "s": Type("text", null=True)}


@pytest.mark.parametrize(
    ("operators", "wire", "fields"),
    [
        ("", "raw", None),
        (CHECKED, "v", BOTH),
        (CHECKED, "v.rejected", None),
        (CHECKED + "  w: {from: v, where: n > 1}", "w", BOTH),
        (CHECKED + "  w: {from: v, where: n > 1}", "w.errors", {**BOTH, "reason": TEXT}),
        (CHECKED + "  w: {from: v, validate: {n: int}}", "w.rejected", {**BOTH, "reason": TEXT}),
        (CHECKED + "  w: {from: v, set: {s: n / 2, t: s > 1, u: s}}", "w",
         {"n": NUMBER, "s": Type("float"), "t": Type("boolean"), "u": Type("float")}),
        (CHECKED + "  w: {from: v, steps: [{set: {a: 1}}, {set: {b: a + 1}}, {where: b}]}", "w",
         {**BOTH, "a": NUMBER, "b": NUMBER}),
        (CHECKED + "  w: {from: other, validate: {n: text, x: time}}\n  u: {from: [v, w], where: n}", "u",
         {"n": Type("any"), "s": Type("text", null=True), "x": Type("time", null=True)}),
        (CHECKED + "  u: {from: [v, raw], where: n}", "u", None),
        (CHECKED + "  u: {from: [v, gone], where: n}", "u", None),
        (CHECKED + "  u: {from: [v, w], where: n}\n  w: {from: u, set: {a: n}}", "u", None),
        (CHECKED + "  u: {from: v, unknown_kind: n}\n  w: {from: u, where: n}", "w", None),
        (CHECKED + "  p: {from: v, python: {code: 'def process(data): return data'}}", "p", None),
        (CHECKED + "  p: {from: v, split: {of: '[n]', as: n}}", "p", {**BOTH, "n": ANY}),
        (CHECKED + "  p: {from: raw, group: {opens: a, as: car}}", "p.opened",
         {"id": NUMBER, "car": NUMBER, "created_at": TIME, "implicit": Type("boolean")}),
    ],
)  # fmt: skip
def test_the_fields_on_a_wire(operators: str, wire: str, fields: dict[str, Type] | None) -> None:
    assert on(operators, wire) == fields


def test_what_is_read_behind_what_nobody_declares_is_not_checked() -> None:
    flow = flow_of('  o: {from: raw, where: anything > "a", set: {b: what_ever * 2}}')
    assert {finding.code for finding in flow.document.findings} == {"unused"}


def test_many_nodes_may_share_many_fields() -> None:
    """Only so many fields are kept, but what goes on unchanged is kept once."""
    fields = ", ".join(f"f{number}: number" for number in range(1000))
    nodes = "".join(f"  n{at}: {{from: n{at - 1}, where: misspelt > 1}}\n" for at in range(1, 2 * MOST // 1000))
    findings = flow_of(f"  n0: {{from: raw, validate: {{{fields}}}}}\n{nodes}").document.findings
    assert len([finding for finding in findings if finding.code == "unknown-field"]) == 2 * MOST // 1000 - 1


def test_too_many_fields_are_not_known() -> None:
    fields = ", ".join(f"f{number}: number" for number in range(5000))
    nodes = "".join(f"  n{at}: {{from: n{at - 1}, set: {{x{at}: f1}}}}\n" for at in range(1, 50))
    wires = Wires(flow_of(f"  n0: {{from: raw, validate: {{{fields}}}}}\n{nodes}"))
    known = [wires.on(Input(f"n{at}")) is not None for at in range(50)]
    assert known == sorted(known, reverse=True)
    assert 35 < known.count(True) <= MOST // 5000


class Inner(BaseModel):
    when: Expression
    levels: list[Expression] = []


class Outer(BaseModel):
    by: Expression | None = None
    compute: dict[str, dict[str, Expression]] = {}
    inner: tuple[Inner, ...] = ()


def test_expressions_are_found_wherever_they_are() -> None:
    inner = Inner(when=parse("a"), levels=[parse("b"), parse("c")])
    options = Outer(by=parse("d"), compute={"mean": {"mean": parse("e")}}, inner=(inner,))
    assert {path: expression.text for path, expression in option_expressions(options)} == {
        "by": "d", "compute.mean.mean": "e", "inner.0.when": "a", "inner.0.levels.0": "b", "inner.0.levels.1": "c",
    }  # fmt: skip


VALUES = {"number": 3, "float": 0.5, "text": "2026-01-31", "boolean": True, "list": [1], "dict": {"a": 1},
          "bytes": b"a"}  # fmt: skip


@pytest.mark.parametrize("column", ["serial", "int", "number", "bool", "text", "time", "date", "json", "bytes"])
@pytest.mark.parametrize("kind", VALUES)
def test_a_column_that_is_said_to_take_no_value_of_a_kind_takes_none(column: str, kind: str) -> None:
    """What lint refuses, the sink would have refused as well."""
    declared = Column("c", column)
    texts = ["2026-01-31", "abc", "aGk="] if kind == "text" else [VALUES[kind], *([1] if kind == "number" else [])]
    taken = [value for value in texts if _taken(declared, value)]
    assert takes(declared, Type(kind)) or not taken


def _taken(column: Column, value: object) -> bool:
    try:
        RowValues([column], {})(Event(b"\0" * 16, 0, "", "", "", {"c": value}))
    except EventFault:
        return False
    return True
