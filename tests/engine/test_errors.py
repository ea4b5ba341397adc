"""The exceptions: one shallow tree, each with its exit code, and the texts that people read, pinned."""

from pathlib import Path
from typing import Any

import pytest

from engine import errors
from engine.errors import EventFault, Finding, FlowInvalid, MillstreamError, SpecFault, SpecProblem, did_you_mean
from engine.event_time import event_time
from engine.expression_faults import ExpressionFault
from engine.expressions import parse
from engine.load import load_text
from engine.quantities import parse_duration
from engine.settings import read_environment
from engine.stage import Stage
from engine.table import Table

TREE: dict[str, tuple[str, int]] = {
    "MillstreamError": ("Exception", 1),
    "FlowInvalid": ("MillstreamError", 1),
    "UsageFault": ("MillstreamError", 2),
    "EnvironmentFault": ("MillstreamError", 3),
    "DiskFull": ("MillstreamError", 75),
    "EventFault": ("MillstreamError", 1),
    "KeyReused": ("MillstreamError", 1),
    "Unavailable": ("MillstreamError", 1),
    "SpecFault": ("MillstreamError", 1),
}


def test_the_tree_is_shallow_and_known() -> None:
    classes = {name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, Exception)}
    found = {name: cls for name, cls in classes.items() if issubclass(cls, errors.MillstreamError)}
    assert found == classes
    assert {name: (cls.__mro__[1].__name__, cls.exit_code) for name, cls in found.items()} == TREE
    assert all(cls.__doc__ for cls in found.values())


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (Finding(code="c", message="m"), "m [c]"),
        (Finding(code="c", message="m", path="f.yaml"), "f.yaml: m [c]"),
        (Finding(code="c", message="m", path="f.yaml", line=3, column=4), "f.yaml:3:4: m [c]"),
        (
            Finding(
                code="c", message="a number; got 'x'", path="f", line=1, column=2, node="n", option="o.p", hint="h"
            ),
            "f:1:2: node 'n': o.p: a number; got 'x' (h) [c]",
        ),
    ],
)
def test_a_finding_as_text(finding: Finding, text: str) -> None:
    assert str(finding) == text


def test_exceptions_carry_data() -> None:
    finding = Finding(code="c", message="m")
    assert FlowInvalid([finding, finding]).findings == (finding, finding)
    assert EventFault("reason", {"x": 1}).values == {"x": 1}
    assert EventFault("reason").values == {}
    problem = SpecProblem(("a",), "first")
    assert SpecFault([problem, SpecProblem((), "second")]).problems[0] is problem
    assert str(SpecFault([problem, SpecProblem((), "second")])) == "first; second"


def flow_without_source() -> Any:
    return load_text("flow: f", Path("f.yaml")).raise_findings()


RAISED: list[tuple[Any, type[Exception], str]] = [
    (flow_without_source, FlowInvalid, "f.yaml:1:1: at least one source; got none [no-source]"),
    (
        lambda: Table.parse("t", {"id": "serail"}),
        SpecFault,
        "one of serial, int, number, bool, text, time, date, json, bytes, or table.column; got 'serail'",
    ),
    (lambda: parse("uper(a)"), ExpressionFault, "unknown function 'uper'"),
    (lambda: parse("a +"), ExpressionFault, "invalid syntax"),
    (lambda: event_time("soon", "t", 0), EventFault, "t: an ISO 8601 time; got 'soon'"),
    (lambda: event_time(None, "t", 0), EventFault, "t: a time; got None"),
    (lambda: event_time(-1, "t", 0), EventFault, "t: a time since 1970; got -1"),
    (lambda: event_time(61, "t", 0), EventFault, "t: a time at most a minute after the arrival; got 61"),
    (lambda: parse_duration("soon"), ValueError, "a duration like 30s, 5m, 2h or 7d"),
    (
        lambda: read_environment({"MILLSTREAM_PORT": "x"}),
        errors.EnvironmentFault,
        "MILLSTREAM_PORT: a port from 1 to 65535; got 'x'",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), RAISED, ids=[text[:40] for _, _, text in RAISED])
def test_a_text_that_is_raised(call: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as raised:
        call()
    assert str(raised.value) == text
    assert isinstance(raised.value, MillstreamError | ValueError)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("mqt", "did you mean 'mqtt'?"),
        ("", ""),
        ("xyz", ""),
        ("fish", ""),
        ("HTTP", ""),
        ("htpt", "did you mean 'http'?"),
    ],
)
def test_a_guess_is_near_or_none(word: str, hint: str) -> None:
    assert did_you_mean(word, ["mqtt", "http", "file"]) == hint


def test_a_stage_of_nothing_gives_nothing() -> None:
    flow = load_text("flow: f\nsources: {a: {mqtt: {topics: [t]}}}\nsinks: {z: {from: a, log: x}}").raise_findings()
    assert Stage("sources", flow, ["a"], frozenset()).run([("a", [])]) == []
