"""The fields that an operator with memory says it gives are those that come out, with their types."""

from typing import Any

import pytest
from hypothesis import given, settings

from engine.component import Operator
from engine.expression_check import ANY, Type
from engine.expression_values import kind_of
from engine.harness import Sent
from tests.operators.replay import cuts, flow_of, replayed, streams

GIVEN = {
    "k": Type("text"),
    "n": Type("number"),
    "v": ANY,
    "result": Type("text", null=True),
    "device": ANY,
    "opens": Type("boolean"),
    "behind": Type("number"),
    "t": Type("number"),
}
SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("sample", {"every": "2s", "repeat": "7s"}),
    ("debounce", {"for": "2s", "of": "n"}),
    ("change", {"of": "n", "deviation": 0.6, "longest": "5s"}),
    ("latest", {"within": "5s"}),
    ("merge", {"compute": {"a": "n if n > 1 else none", "b": "result", "c": "meta.time"}, "wait_for": "any"}),
    ("join", {"left": "n > 1", "right": "opens", "within": "5s", "unmatched": "outer"}),
    ("join", {"left": "n > 1", "right": "opens", "within": "5s", "unmatched": "left", "as": "other"}),
    ("sequence", {"steps": {"a": "n < 2", "b": "opens"}, "within": "5s", "fields": ["n"]}),
    ("absent", {"for": "5s", "repeat": "4s"}),
]
FLOWS = [flow_of(kind, options, source="{mqtt: {topics: [t], time: t}}") for kind, options in SHAPES]


@pytest.mark.parametrize("at", range(len(SHAPES)), ids=lambda at: f"{SHAPES[at][0]}{at}")
@settings(max_examples=30)
@given(messages=streams(), cuts=cuts)
def test_what_comes_out_is_what_it_gives(at: int, messages: list[Sent], cuts: list[Any]) -> None:
    operator = FLOWS[at].nodes["made"].component
    assert isinstance(operator, Operator)
    for sink, events in replayed(FLOWS[at], messages, cuts).items():
        output = sink.partition("/")[0]
        if output in ("dead", "errors"):
            continue
        fields = operator.gives(GIVEN, "" if output == "out" else output)
        assert fields is not None
        for *_, data in events:
            for name, value in data.items():
                check(name, fields[name], value)
            assert all(name in data or fields[name].null for name in fields), (output, data)


def check(name: str, kind: Type, value: Any) -> None:
    """Fail where a value is not of the kind that its field is said to have."""
    if value is None:
        assert kind.null, name
    else:
        found = "float" if isinstance(value, float) else kind_of(value)
        assert kind.kind in ("any", found) or (kind.kind, found) == ("number", "float"), (name, kind, value)
