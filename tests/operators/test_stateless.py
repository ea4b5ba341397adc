"""`validate`, `set`, `split`, `where`, `python`, `image`: what goes on, what does not, and why."""

import base64
import gc
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.component import Place
from engine.errors import FlowInvalid
from engine.harness import Harness
from engine.load import load_text
from tests.operators.replay import flow_of, sent


def run(kind: str, options: Any, *data: dict[str, Any]) -> Harness:
    harness = Harness(flow_of(kind, options, key=""))
    for at, item in enumerate(data):
        harness.send([sent(at, **item)])
    return harness


def out(harness: Harness, sink: str = "out") -> list[dict[str, Any]]:
    return [event.data for event in harness.out[sink]]


def test_validate_tells_every_reason_of_an_event_at_once() -> None:
    rules = {"device": {"type": "text", "max": 3}, "n": {"type": "int", "min": 1}, "result": {"one_of": ["OK"]}}
    (letter,) = run("validate", rules, {"device": "wheel", "n": 0}).dead
    assert letter.reason == 'device: length max 3; got "wheel"; n: min 1; got 0; result: required; got nothing'
    assert [field["field"] for field in letter.values["fields"]] == ["device", "n", "result"]


def test_validate_fills_what_is_missing_and_drops_what_is_not_declared() -> None:
    rules = {"unit": {"type": "text", "required": False, "default": "C"}, "t": "number", "note": {"required": False}}
    found = out(run("validate", rules, {"t": 1, "more": 2}, {"t": 2.5, "unit": None, "note": "x"}))
    assert found == [{"t": 1, "unit": "C", "note": None}, {"t": 2.5, "unit": "C", "note": "x"}]


kinds = st.sampled_from(["text", "number", "int", "bool", "list", "map", "any"])
values = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "ok", "OK", "defect", "1"]), st.lists(st.integers(0, 1), max_size=3), st.just({"a": 1}),
)  # fmt: skip
extra = {
    "text": st.sampled_from([{}, {"case": "upper"}, {"one_of": ["OK", "1"], "case": "upper"}, {"pattern": "[a-z]+"},
                             {"min": 1, "max": 4}]),
    "number": st.sampled_from([{}, {"min": -2, "max": 3.5}, {"one_of": [1, 2.5]}]),
    "int": st.sampled_from([{}, {"min": 0}, {"one_of": [1, 2]}, {"default": 7}]),
    "list": st.sampled_from([{}, {"min": 1, "max": 2}]), "any": st.sampled_from([{}, {"required": False}]),
}  # fmt: skip


@settings(max_examples=200)
@given(kinds.flatmap(lambda kind: st.tuples(st.just(kind), extra.get(kind, st.just({})))), st.booleans(), values)
def test_what_c_refuses_has_a_reason_and_what_has_a_reason_is_refused(
    shape: tuple[str, dict[str, Any]], required: bool, value: Any
) -> None:
    """The generated code and the words for people judge alike."""
    kind, more = shape
    flow = flow_of("validate", {"x": {"type": kind, "required": required} | more}, key="")
    harness = Harness(flow)
    harness.send([sent(0, x=value)])
    rule = flow.nodes["made"].component.fields["x"]  # type: ignore[attr-defined]
    optional = not rule.required or rule.default is not None
    expected = None if value is None and optional else "required" if value is None else rule.problem(value)
    assert (len(harness.out["out"]), len(harness.dead)) == ((0, 1) if expected else (1, 0))
    if expected:
        assert harness.dead[0].reason.startswith(f"x: {expected}; got ")


def test_what_was_refused_is_not_kept_in_memory() -> None:
    """An exception that is raised again and again would keep every frame, and with it every chunk of events."""
    harness = Harness(flow_of("validate", {"x": {"one_of": [1]}}, key=""))
    for at in range(100):
        harness.send([sent(at, x=2)])
    harness.dead.clear()
    gc.collect()
    assert sum(isinstance(kept, TracebackType) for kept in gc.get_objects()) < 50


def test_a_wrong_type_in_an_expression_is_told_with_its_values() -> None:
    (letter,) = run("set", {"y": "x + 1"}, {"x": "text"}).dead
    assert letter.values == {"x": "text"}
    assert letter.reason.startswith("x + 1: ")


def test_set_does_not_change_what_other_branches_see() -> None:
    harness = Harness(
        load_text("""
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators: {a: {from: given, set: {x: x + 1}}, b: {from: given, set: {x: x * 10}}}
sinks: {a_out: {from: a, log: a}, b_out: {from: b, log: b}, raw: {from: given, log: raw}}
""").raise_findings()
    )
    harness.send([sent(0, x=1)])
    assert [out(harness, sink) for sink in ("a_out", "b_out", "raw")] == [[{"x": 2}], [{"x": 10}], [{"x": 1}]]


def test_set_gives_no_field_a_name_that_means_something_else() -> None:
    with pytest.raises(FlowInvalid, match="meta: a name that expressions can read"):
        run("set", {"meta": "1", "x": "2"})


def test_split_gives_each_entry_an_id_of_its_own_and_refuses_what_is_no_list() -> None:
    harness = run("split", {"of": "x", "as": "y"}, {"x": [1, 2]}, {"x": []}, {}, {"x": 7})
    assert [data["y"] for data in out(harness)] == [1, 2]
    assert len({event.id for event in harness.out["out"]}) == 2
    assert [letter.reason for letter in harness.dead] == ["x: a list or mapping; got int"]


def python(code: str, *data: dict[str, Any]) -> Harness:
    return run("python", {"code": f"def process(data):\n    {code}"}, *data)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("return data | {'y': 1}", [{"x": 1, "y": 1}]),
        ("return None", []),
        ("return [{'y': 1}, None, {'y': 2}]", [{"y": 1}, {"y": 2}]),
        ("return {'y': (1, {2})}", [{"y": [1, [2]]}]),
    ],
)
def test_python_gives_one_none_or_several(code: str, expected: list[dict[str, Any]]) -> None:
    assert out(python(code, {"x": 1})) == expected


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ("return 'text'", "process: a dict, a list of dicts or None; got str"),
        ("raise SystemExit(3)", "process: a value; it left the program (3)"),
        ("return {'y': object()}", "TypeError: Encoding objects of type object is unsupported"),
    ],
)
def test_python_that_fails_costs_its_event_only(code: str, reason: str) -> None:
    harness = python(f"if data.get('bad'): {code}\n    return data", {"bad": 1}, {"bad": 0})
    assert out(harness) == [{"bad": 0}]
    assert [letter.reason for letter in harness.dead] == [reason]


def test_python_cannot_change_what_other_branches_see() -> None:
    harness = Harness(
        load_text(r"""
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators: {a: {from: given, python: {code: "def process(data):\n    data['x'].append(9)\n    return data"}}}
sinks: {a_out: {from: a, log: a}, raw: {from: given, log: raw}}
""").raise_findings()
    )
    harness.send([sent(0, x=[1])])
    assert (out(harness, "a_out"), out(harness, "raw")) == ([{"x": [1, 9]}], [{"x": [1]}])


def test_python_in_a_file_beside_the_flow(tmp_path: Path) -> None:
    (tmp_path / "clean.py").write_text("def double(data):\n    return {'x': data['x'] * 2}\n")
    flow = load_text(
        "flow: f\nsources: {a: {mqtt: {topics: [t]}}}\n"
        "operators: {o: {from: a, python: {file: clean.py, function: double}}}\nsinks: {out: {from: o, log: x}}\n",
        tmp_path / "flow.yaml",
    ).raise_findings()
    harness = Harness(flow)
    harness.send([msgspec.structs.replace(sent(0, x=4), source="a")])
    assert out(harness) == [{"x": 8}]


def picture(width: int, height: int, kind: str) -> str:
    done, blob = cv2.imencode(f".{kind}", np.zeros((height, width, 3), np.uint8))
    assert done
    return base64.b64encode(blob.tobytes()).decode()


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "webp"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (64, 48)])
def test_a_picture_of_any_size_is_stored_once(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    flow = flow_of("image", {"of": "p", "as": "urls"}, key="")
    flow.nodes["made"] = msgspec.structs.replace(
        flow.nodes["made"], component=flow.nodes["made"].component.deployed(Place(tmp_path))
    )
    harness = Harness(flow)
    harness.send([sent(0, p=picture(*size, kind)), sent(0, p=[picture(*size, kind)])])
    urls = [event.data["urls"] for event in harness.out["out"]]
    assert harness.dead == []
    assert urls[0] == urls[1]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [urls[0][0].removeprefix("/media/")]


def test_a_broken_picture_goes_to_rejected_with_its_place() -> None:
    broken = [base64.b64encode(b"\x89PNG\r\n\x1a\nrest").decode(), "no base64!", 7, picture(2, 2, "png")]
    harness = run("image", {"of": "p", "as": "urls", "drop": ["p"]}, {"id": 3, "p": broken})
    assert len(out(harness)[0]["urls"]) == 1
    assert [(data["id"], data["index"]) for data in out(harness, "rejected")] == [(3, 0), (3, 1), (3, 2)]
    assert len({event.id for event in harness.out["rejected"]}) == 3
